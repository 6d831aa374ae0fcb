"""Times that are not in the video, and clocks that begin elsewhere."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tadkit.annotations.check import check
from tadkit.annotations.convert import convert
from tadkit.errors import AnnotationError
from tadkit.progress import Quiet
from tadkit.records import Annotation, read_dataset
from tadkit.video import write_video

EPOCH_S = 1714640400  # 2024-05-02 09:00:00
WAVE = Annotation(1.0, 2.5, "wave")


def csv_of(tmp_path: Path, *times: tuple[object, object], video: str = "v") -> Path:
    rows = [f"{video},wave,{start},{end},20" for start, end in ((1.0, 2.5), *times)]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["video,label,start,end,duration", *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (EPOCH_S + 1, EPOCH_S + 2, "is a time of the calendar, not of the video; say with --starts when each video"),
        ("2024-05-02 09:00:01", "2024-05-02 09:00:02", "[1714640401, 1714640402] is a time of the calendar"),
        (1.0, EPOCH_S, "is a time of the calendar"),
        (3600, 3602, "begins past the end of the video, 20 s"),
        (20.5, 21, "begins past the end of the video, 20 s"),
        (-3, 2, "begins before the video"),
        (5, 500, "ends far past the end of the video, 20 s"),
    ],
)
def test_an_action_that_is_not_in_its_video_is_lost_and_placed_and_costs_no_other(start, end, said, tmp_path):
    result = convert(csv_of(tmp_path, (start, end)), tmp_path / "out.json")
    assert read_dataset(tmp_path / "out.json").videos["v"].annotations == (WAVE,)
    (loss,) = result.losses
    assert "labels.csv: 'v': 'wave' [" in loss
    assert said in loss


def test_an_action_that_runs_a_little_past_the_end_is_kept_and_reported(tmp_path):
    result = convert(csv_of(tmp_path, (18, 22)), tmp_path / "out.json")
    assert result.losses == ()
    assert "'wave' [18, 22] ends past the end of the video, 20 s; kept" in result.remarks[0]


@pytest.mark.parametrize("start", ["2024-05-02 09:00:00", str(EPOCH_S), "2024-05-02T09:00"])
def test_starts_put_a_clock_of_the_calendar_on_the_video(start, tmp_path):
    (tmp_path / "starts.csv").write_text(f"video,start\nv,{start}\n")
    path = tmp_path / "labels.csv"
    path.write_text(
        "video,label,start,end,duration\nv,wave,2024-05-02 09:00:01,2024-05-02 09:00:02.5,20\nw,wave,1,2.5,20\n"
    )
    result = convert(path, tmp_path / "out.json", starts=tmp_path / "starts.csv")
    assert [video.annotations for video in read_dataset(tmp_path / "out.json").videos.values()] == [(WAVE,), (WAVE,)]
    assert result.losses == ()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("video,start\nx,9\n", "'x' is not a video of the annotations"),
        ("video,start\nv,9\nv,8\n", "'v' is listed twice, with two starts; keep one"),
        ("video,start\nv,noon\n", "'v' start is 'noon'"),
        ("video,begin\nv,9\n", "no column 'start'"),
    ],
)
def test_starts_that_fit_nothing_are_refused(table, said, tmp_path):
    (tmp_path / "starts.csv").write_text(table)
    with pytest.raises(AnnotationError, match=said):
        convert(csv_of(tmp_path), tmp_path / "out.json", starts=tmp_path / "starts.csv")


def test_calendar_times_of_every_tool_are_lost(tmp_path):
    observation = {
        "file": {"1": ["v.mp4"]},
        "media_info": {"length": {"v.mp4": 20.0}},
        "events": [[t, "", "wave", "", ""] for t in (1.0, 2.5, EPOCH_S, EPOCH_S + 2)],
    }
    ethogram = {"0": {"code": "wave", "type": "State event"}}
    project = {"behaviors_conf": ethogram, "observations": {"o": observation}}
    (tmp_path / "p.boris").write_text(json.dumps(project))
    slots = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="ts{n}" TIME_VALUE="{round(t * 1000)}"/>'
        for n, t in enumerate((1.0, 2.5, EPOCH_S, EPOCH_S + 2))
    )
    items = "".join(
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{n}" TIME_SLOT_REF1="ts{n}" TIME_SLOT_REF2="ts{n + 1}">'
        "<ANNOTATION_VALUE>wave</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
        for n in (0, 2)
    )
    (tmp_path / "v.eaf").write_text(
        f'<ANNOTATION_DOCUMENT><HEADER><PROPERTY NAME="tadkit:duration_s">20</PROPERTY></HEADER><TIME_ORDER>{slots}'
        f'</TIME_ORDER><TIER TIER_ID="hands">{items}</TIER></ANNOTATION_DOCUMENT>'
    )
    database = {"v": {"duration": 20.0, "annotations": []}}
    for start_s in (1.0, EPOCH_S):
        database["v"]["annotations"].append({"segment": [start_s, start_s + 1.5], "label": "wave"})
    (tmp_path / "a.json").write_text(json.dumps({"version": "tadkit 1", "database": database}))
    for name in ("p.boris", "v.eaf", "a.json"):
        result = convert(tmp_path / name, tmp_path / "out.json")
        assert read_dataset(tmp_path / "out.json").videos["v"].annotations == (WAVE,), name
        assert len(result.losses) == 1
        assert "is a time of the calendar" in result.losses[0]


def test_a_video_without_a_duration_is_lost_and_costs_no_other(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("video,label,start,end,duration\nv,wave,1,2.5,20\nw,wave,1,2.5,\n")
    result = convert(path, tmp_path / "out.json")
    assert list(read_dataset(tmp_path / "out.json").videos) == ["v"]
    assert "'w' has no duration and is left out with its 1 actions; give --durations FILE.csv" in result.losses[0]


def test_a_video_that_cannot_be_read_costs_no_other(tmp_path):
    room = Path(__file__).parents[2] / "examples" / "room.mp4"
    (tmp_path / "videos").mkdir()
    shutil.copy(room, tmp_path / "videos" / "v.mp4")
    (tmp_path / "videos" / "w.mp4").write_bytes(b"no video")
    path = tmp_path / "labels.csv"
    path.write_text("video,label,start,end\nv,wave,1,2.5\nw,wave,1,2.5\n")
    result = convert(path, tmp_path / "out.json", videos=tmp_path / "videos")
    assert list(read_dataset(tmp_path / "out.json").videos) == ["v"]
    assert "w.mp4" in result.remarks[0]
    assert "'w' has no duration and is left out" in result.losses[0]


def test_the_length_of_the_file_counts_where_the_tool_says_another(tmp_path):
    room = Path(__file__).parents[2] / "examples" / "room.mp4"
    path = tmp_path / "labels.csv"
    path.write_text("video,label,start,end,duration,fps\nroom,wave,1,2.5,99,25\nroom,wave,60,61,,\n")
    result = convert(path, tmp_path / "out.json", videos=room.parent)
    (video,) = read_dataset(tmp_path / "out.json").videos.values()
    assert video.duration_s == pytest.approx(44.0, abs=0.1)
    assert video.annotations == (WAVE,)
    assert "'room' has 99 s in the source and 44 s in its file, which counts" in result.remarks[0]
    assert "begins past the end of the video, 44 s" in result.losses[0]


def test_actions_of_zero_length_are_kept_with_one_counted_warning_in_every_form(tmp_path):
    rows = "".join(f"v,{label},{start},{end},20\n" for label, start, end in (("a", 3, 3), ("b", 4, 4), ("c", 5, 6)))
    (tmp_path / "a.csv").write_text(f"video,label,start,end,duration\n{rows}")
    for tool, out in (("elan", tmp_path / "eaf"), ("via", tmp_path / "via.json"), ("boris", tmp_path / "p.boris")):
        convert(tmp_path / "a.csv", out, to=tool)
    for source in (tmp_path / "a.csv", tmp_path / "eaf" / "v.eaf", tmp_path / "via.json", tmp_path / "p.boris"):
        result = convert(source, tmp_path / "out.json")
        assert [one for one in result.remarks if "zero length" in one] == [
            f"{source}: 2 actions of zero length are kept: 'v' 'a' at 3 s, 'v' 'b' at 4 s"
        ]
        assert (len(read_dataset(tmp_path / "out.json").videos["v"].annotations), result.losses) == (3, ())


def filmed(folder: Path, name: str, rate_hz: Fraction | int) -> Path:
    folder.mkdir(exist_ok=True)
    write_video(folder / f"{name}.mp4", [np.zeros((16, 16, 3), np.uint8)] * 90, fps=rate_hz)
    return folder


def boris(path: Path, *names: str, fps: float) -> Path:
    observations = {
        name: {
            "file": {"1": [f"{name}.mp4"]},
            "media_info": {"length": {f"{name}.mp4": 3.0}, "fps": {f"{name}.mp4": fps}},
            "events": [[t, "", "wave", "", ""] for t in (1.0, 2.5)],
        }
        for name in names
    }
    conf = {"0": {"code": "wave", "type": "State event"}}
    path.write_text(json.dumps({"behaviors_conf": conf, "observations": observations}))
    return path


@pytest.mark.parametrize("form", ["boris", "csv"])
def test_the_rate_of_the_file_counts_where_a_tool_says_another(form, tmp_path):
    films = filmed(tmp_path / "films", "a", 30)
    filmed(films, "b", Fraction(30000, 1001))
    if form == "boris":
        source = boris(tmp_path / "p.boris", "a", "b", fps=25.0)
    else:
        source = tmp_path / "labels.csv"
        source.write_text("video,label,start,end,duration,fps\na,wave,1,2.5,3,25\nb,wave,1,2.5,3,25\n")
    result = convert(source, tmp_path / "out.json", videos=films)
    written = json.loads((tmp_path / "out.json").read_text())["database"]
    assert {name: entry["fps"] for name, entry in written.items()} == {"a": 30.0, "b": 29.97003}
    assert check([tmp_path / "out.json"], videos=films, progress=Quiet()).errors == 0
    assert "'a' has 25 frames per second in the source and 30 in its file, which counts" in result.remarks[0]


def test_the_rate_of_the_labelling_interface_is_never_that_of_the_video(tmp_path):
    record = {"duration": 3.0, "fps": 30.0, "annotations": [{"segment": [1.0, 2.5], "label": "wave"}]}
    (tmp_path / "a.json").write_text(json.dumps({"database": {"a": record}}))
    convert(tmp_path / "a.json", tmp_path / "ls.json", to="label-studio", fps=24.0)
    (task,) = tasks = json.loads((tmp_path / "ls.json").read_text())
    assert task["data"]["fps"] == 24.0
    convert(tmp_path / "ls.json", tmp_path / "back.json")
    assert read_dataset(tmp_path / "back.json").videos["a"].fps == 30.0
    del task["data"]["video_fps"]
    (tmp_path / "ls.json").write_text(json.dumps(tasks))
    convert(tmp_path / "ls.json", tmp_path / "back.json")
    assert read_dataset(tmp_path / "back.json").videos["a"].fps is None
    convert(tmp_path / "ls.json", tmp_path / "back.json", videos=filmed(tmp_path / "films", "a", 30))
    assert read_dataset(tmp_path / "back.json").videos["a"].fps == 30.0


def test_each_video_without_a_duration_is_named_with_its_own_file(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("video,label,start,end,duration\nv,wave,1,2.5,20\nw,wave,1,2.5,\nx,wave,1,2.5,\n")
    (tmp_path / "films").mkdir()
    losses = convert(path, tmp_path / "out.json", videos=tmp_path / "films").losses
    assert [f"put {name}.mp4 into" in loss for name, loss in zip("wx", losses, strict=True)] == [True, True]
