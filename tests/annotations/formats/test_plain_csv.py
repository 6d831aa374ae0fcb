"""Plain csv: columns video, label, start and end, as people fill it in."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.annotations.formats import Known, SourceVideo, guess, read_annotations
from tadkit.annotations.video_times import VideoTimes
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
        ("v,nod,2,3,100", "row 3: 'v' has duration 100, and 90 in a row before"),
        ("v,nod,2,3,long", "row 3: duration is 'long'"),
        ("v,nod,2,3,25,90", "row 3: has 6 cells, and the heading 5; write decimals with a point"),
        ("v,nod\a,2,3,", r"row 3: label .nod.*07. has control characters"),
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


def test_an_unquoted_decimal_comma_is_not_read_as_two_cells(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("video,label,start,end\nv,pour,1,5,3,25\nv,wave,1.5,63.25,,\n")
    source = read_annotations(path, "csv", Known())
    assert source.videos == (SourceVideo("v", (WAVE,)),)
    assert [loss.partition(";")[0] for loss in source.losses] == [f"{path}, row 2: has 6 cells, and the heading 4"]


def test_one_name_of_two_files_is_a_loss_unless_they_are_found_in_their_folders(tmp_path, films):
    path, folder = tmp_path / "a.csv", tmp_path / "films"
    path.write_text(
        "video,label,start,end\na/clip.mp4,wave,1.5,63.25\nb/clip.mp4,nod,3,4\n./v.MP4,wave,1.5,63.25\nv.mp4,nod,2,3\n"
    )
    source = read_annotations(path, "csv", Known())
    assert source.videos == (SourceVideo("v", (WAVE, Annotation(2, 3, "nod"))),)
    assert "'clip' is the name of different files, 'a/clip.mp4' and 'b/clip.mp4', and is left out" in source.losses[0]
    for name in ("a/clip.mp4", "b/clip.mp4"):
        (folder / name).parent.mkdir(parents=True)
        shutil.copy(films / "bench.mp4", folder / name)
    source = read_annotations(path, "csv", Known(frame_times=VideoTimes(folder)))
    assert [(video.name, len(video.annotations)) for video in source.videos] == [("a/clip", 1), ("b/clip", 1), ("v", 2)]
    assert source.losses == ()


def test_a_label_over_two_lines_and_rows_named_by_their_lines_in_the_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'\r\nvideo,label,start,end\r\n\r\nv,"wave\r\nagain",1,2\r\nv,nod,x,3\r\nv,"a,1,2\r\nv,b",3,4\r\n')
    assert guess(path) == "csv"
    source = read_annotations(path, "csv", Known())
    assert source.videos == (SourceVideo("v", (Annotation(1, 2, "wave again"),)),)
    assert source.losses[0].startswith(f"{path}, row 6: start is 'x'")
    assert source.losses[1].startswith(f"{path}, rows 7 to 8: has one label over several lines")


def test_subsets_are_translated_and_others_are_kept_with_a_warning(tmp_path):
    path = tmp_path / "a.csv"
    rows = [("a", "Train"), ("a", "training"), ("b", "val"), ("c", "TEST"), ("d", "dev"), ("e", "")]
    path.write_text("video,label,start,end,subset\n" + "".join(f"{v},wave,1,2,{s}\n" for v, s in rows))
    source = read_annotations(path, "csv", Known())
    assert [video.subset for video in source.videos] == ["training", "validation", "testing", "dev", ""]
    assert source.losses == ()
    assert source.remarks == (
        f"{path}: 1 subsets are none of training, validation and testing, and are kept as they are: 'dev' ('d')",
    )


def test_excel_s_first_line_and_decimal_commas_quoted_as_they_are_written(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("sep=;\nvideo;label;start;end;fps\nv;wave;1,5;63,25;29,97\nv;nod;1,5x;2;\n")
    assert guess(path) == "csv"
    source = read_annotations(path, "csv", Known())
    assert source.videos == (SourceVideo("v", (WAVE,), fps=29.97),)
    assert source.losses[0].startswith(f"{path}, row 4: start is '1,5x'")


def test_an_empty_file_a_column_twice_and_other_encodings_say_what_to_do(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\n \n")
    with pytest.raises(AnnotationError, match="is empty"):
        guess(path)
    for content, said in (
        (b"", "is empty"),
        (b"video,label,start,end,Start\n", "several columns 'start'"),
        ("vid\xe9o".encode("latin1"), "CSV UTF-8"),
        ("v".encode("utf-16"), "CSV UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(AnnotationError, match=said):
            read_annotations(path, "csv", Known())


@pytest.mark.parametrize("text", ["v,wave,1.5,63.25\n", "video,label,from,to\nv,wave,1,2\n"])
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
