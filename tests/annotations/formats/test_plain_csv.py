"""Plain csv: columns video, label, start and end, as people fill it in."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.annotations.formats import Known, SourceVideo, guess, read_annotations
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

WAVE = Annotation(1.5, 63.25, "wave")


@pytest.mark.parametrize(
    "text",
    [
        "video,label,start,end\nv,wave,1.5,63.25\n",
        "Video, Label ,START,End\r\nv.mp4,wave,00:00:01.5,00:01:03.250\r\n",
        '"video";"label";"start";"end"\n"films/v.MP4";"wave";"1,5";"63,25"\n',
        "end\tnotes\tstart\tlabel\tvideo\n1:03.25\thm\t0:01.5\twave\tv.avi\n\n",
        "\ufeffvideo,label,start,end\nv,wave,1.5,63.25\n",
    ],
)
def test_columns_in_any_order_separators_and_clocks(text, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    assert guess(path) == "csv"
    source = read_annotations(path, "csv", Known())
    assert (source.videos, source.remarks, source.losses) == ((SourceVideo("v", (WAVE,)),), (), ())


def test_what_describes_a_video_stands_in_any_of_its_rows_and_a_video_may_have_no_action(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "video,label,start,end,duration,subset,fps\nv,wave,1.5,63.25,,training,25\nv,nod,2,3,1:30,,\nw.x,,,,9.5,,\n"
    )
    (v, w) = read_annotations(path, "csv", Known()).videos
    assert (v.duration_s, v.subset, v.fps, len(v.annotations)) == (90.0, "training", 25.0, 2)
    assert w == SourceVideo("w.x", (), "", 9.5)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (",nod,2,3,", "row 3: has no video"),
        ("v,,2,3,", "row 3: 'v' has no label"),
        ("v,nod,2,,", "row 3: 'v' has no end"),
        ("v,nod,3,2,", "row 3: 'v' ends before it starts: 3 to 2"),
        ("v,nod,two,3,", "row 3: start is 'two'; expected a time such as 00:01:23.45"),
        ("v,nod,nan,3,", "row 3: start is 'nan'"),
        ("v,nod,00:00:02:12,00:00:03:00,", "row 3: start is '00:00:02:12'"),
        ("v,nod,0:75,0:80,", "row 3: start is '0:75'"),
        ("v,nod,2024-05-02T09:00:00Z,2024-05-02T09:00:01Z,", "row 3: start is .* without a time zone"),
        ("v,nod,2024-15-02 09:00:00,2024-05-02 09:00:01,", "row 3: start is '2024-15-02 09:00:00'"),
        ("v,nod,2,3,100", "row 3: 'v' has duration_s 100.0, and 90.0 in a row before"),
        ("v,nod,2,3,long", "row 3: duration is 'long'"),
    ],
)
def test_a_row_that_cannot_be_read_is_lost_and_placed_and_costs_no_other(row, said, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"video,label,start,end,duration\nv,wave,1.5,63.25,90\n{row}\nw,wave,1.5,63.25,\n")
    source = read_annotations(path, "csv", Known())
    assert source.videos == (SourceVideo("v", (WAVE,), "", 90.0), SourceVideo("w", (WAVE,)))
    (loss,) = source.losses
    assert loss.startswith(f"{path}, row 3:")
    with pytest.raises(AnnotationError, match=said):
        raise AnnotationError(loss)


@pytest.mark.parametrize("text", ["", "v,wave,1.5,63.25\n", "video,label,from,to\nv,wave,1,2\n"])
def test_the_first_line_names_the_columns(text, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(AnnotationError, match="in its first line; expected columns video, label, start, end"):
        read_annotations(path, "csv", Known())


def test_files_of_a_folder_that_label_one_video_are_not_mixed(tmp_path):
    for name, video in (("a", "v"), ("b", "w"), ("c", "w")):
        (tmp_path / f"{name}.csv").write_text(f"video,label,start,end\n{video},wave,1.5,63.25\n")
    (tmp_path / "d.csv").write_text("video,label\nx,wave\n")
    assert guess(tmp_path) == "csv"
    source = read_annotations(tmp_path, "csv", Known())
    assert source.videos == (SourceVideo("v", (WAVE,)),)
    assert "d.csv: no column 'start' in its first line" in source.losses[0]
    assert "the video 'w' is annotated 2 times and left out; put the rows of a video into one file" in source.losses[1]


ms = st.integers(0, 40_000_000)
clocks = st.sampled_from(["seconds", "hours", "minutes"])


def shown(at: int, clock: str) -> str:
    if clock == "seconds":
        return f"{at / 1000:.3f}"
    minutes, rest = divmod(at, 60_000)
    if clock == "minutes":
        return f"{minutes}:{rest / 1000:06.3f}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest / 1000:06.3f}"


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("vwx"), st.sampled_from(["a", "b, c", "ü; 走"]), ms, ms, clocks), max_size=8))
def test_every_row_gives_its_action(rows):
    wanted: dict[str, list[Annotation]] = {}
    lines = ["video\tlabel\tstart\tend"]
    for video, label, one, other, clock in rows:
        begin, end = sorted((one, other))
        wanted.setdefault(video, []).append(Annotation(begin / 1000, end / 1000, label))
        lines.append(f"{video}\t{label}\t{shown(begin, clock)}\t{shown(end, clock)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_text("\n".join(lines), encoding="utf-8")
        source = read_annotations(path, "csv", Known())
    assert {video.name: sorted(video.annotations, key=key) for video in source.videos} == {
        name: sorted(found, key=key) for name, found in wanted.items()
    }


def key(action: Annotation) -> tuple[float, float, str]:
    return action.start_s, action.end_s, action.label
