from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tadkit.annotations.check import check
from tadkit.annotations.convert import convert
from tadkit.errors import AnnotationError
from tadkit.progress import Quiet
from tadkit.store import open_store

ROOM = Path(__file__).parents[2] / "examples" / "room.json"


def whats(*paths: Path, **options) -> list[tuple[str, str]]:
    findings = check(paths, progress=Quiet(), **options).findings
    return [(finding.video, finding.what) for finding in findings]


def changed(path: Path, **room) -> Path:
    content = json.loads(ROOM.read_text())
    content["database"]["room"] |= room
    path.write_text(json.dumps(content))
    return path


def test_the_example_is_right():
    assert whats(ROOM, videos=ROOM.parent) == []


def test_repeated_keys_are_seen_although_json_keeps_the_last(tmp_path):
    path = tmp_path / "a.json"
    one, other = (json.dumps({"subset": s, "duration": 9}) for s in ("training", "testing"))
    path.write_text(f'{{"database": {{"v": {one}, "v": {other}}}}}')
    assert whats(path) == [("v", "two-splits")]


def test_a_file_without_a_video_is_an_error(tmp_path):
    (tmp_path / "a.json").write_text('{"database": {}}')
    assert whats(tmp_path / "a.json") == [("", "no-videos")]


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + ROOM.read_bytes())
    assert whats(tmp_path / "a.json") == []


@pytest.mark.parametrize("text", ["[" * 200_000, '{"database": {"\\ud800": {}}}', "", '{"database": '])
def test_what_no_reader_can_read_is_one_line(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(AnnotationError, match=r"a\.json: not JSON") as error:
        whats(tmp_path / "a.json")
    assert "\n" not in str(error.value)


def test_two_files_are_checked_together(tmp_path):
    assert whats(ROOM, changed(tmp_path / "b.json", subset="training")) == [("room", "two-splits")]


def test_videos_that_are_missing_or_of_another_length_or_rate(tmp_path):
    assert whats(changed(tmp_path / "a.json", fps=50.0), videos=ROOM.parent) == [("room", "fps")]
    assert whats(changed(tmp_path / "a.json", duration=50.0), videos=ROOM.parent) == [("room", "duration")]
    assert whats(ROOM, videos=tmp_path) == [("room", "missing-file")]
    (tmp_path / "room.mp4").write_bytes(b"no video")
    assert whats(ROOM, videos=tmp_path) == [("room", "unreadable")]


def test_suffixes_are_found_in_any_case_and_files_of_macos_are_no_videos(tmp_path):
    shutil.copy(ROOM.parent / "room.mp4", tmp_path / "room.Mp4")
    (tmp_path / "._room.Mp4").write_bytes(b"of macOS")
    assert whats(ROOM, videos=tmp_path) == []
    shutil.copy(ROOM.parent / "room.mp4", tmp_path / "00001.MTS")
    assert whats(ROOM, videos=tmp_path) == [("", "extra-files")]


@pytest.mark.parametrize(("steps", "expected"), [(220, []), (100, [("room", "features")])])
def test_features_that_end_elsewhere(steps, expected, tmp_path):
    with (
        open_store(tmp_path / "f.h5", kind="features", settings={}) as store,
        store.video("room", key="k", stamps_s=np.arange(steps) / 5 + 0.1, attributes={}) as video,
    ):
        video.append("original/appearance", np.zeros((steps, 4), np.float32))
    assert whats(ROOM, features=tmp_path / "f.h5") == expected


def test_features_that_are_missing(tmp_path):
    with open_store(tmp_path / "f.h5", kind="features", settings={}):
        pass
    assert whats(ROOM, features=tmp_path / "f.h5") == [("room", "missing-features")]


def test_what_is_no_such_json_is_sent_to_convert(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(AnnotationError, match="convert other formats first with: tadkit data convert"):
        whats(tmp_path / "a.json")


@pytest.mark.skipif(not os.environ.get("TADKIT_DATA"), reason="needs TADKIT_DATA, the shared research data")
def test_published_files_have_published_counts(shared_data, tmp_path):
    folder = shared_data / "annotations"
    convert(folder / "thumos14" / "afsd", tmp_path / "t.json")
    convert(folder / "activitynet1.3", tmp_path / "a.json")
    thumos = check([tmp_path / "t.json"], dataset="thumos14", progress=Quiet())
    activitynet = check([tmp_path / "a.json"], dataset="activitynet", progress=Quiet())
    assert thumos.forms == {"training": "official and AFSD", "testing": "AFSD"}
    assert activitynet.forms == {"training": "BMN", "validation": "BMN"}
    assert (thumos.errors, activitynet.errors) == (0, 0)


@pytest.mark.skipif(not os.environ.get("TADKIT_DATA"), reason="needs TADKIT_DATA, the shared research data")
@pytest.mark.parametrize(("form", "past_end"), [("afsd/thumos_gt.json", 8), ("afsd", 8), ("official_txt", 30)])
def test_every_form_of_thumos14_passes_its_preset(form, past_end, shared_data, tmp_path):
    folder = shared_data / "annotations"
    lengths = [folder / "multithumos" / "multithumos.json"] if form == "official_txt" else []
    convert(folder / "thumos14" / form, tmp_path / "t.json", durations=lengths)
    (finding,) = check([tmp_path / "t.json"], dataset="thumos14", progress=Quiet()).findings
    assert (finding.level, finding.what) == ("warning", "published-past-end")
    assert finding.message.startswith(f"{past_end} actions lie past the end of their videos")
    assert whats(tmp_path / "t.json") == [(name, "past-end") for name, _ in whats(tmp_path / "t.json")]
    assert len(whats(tmp_path / "t.json")) == past_end


@pytest.mark.skipif(not os.environ.get("TADKIT_DATA"), reason="needs TADKIT_DATA, the shared research data")
@pytest.mark.parametrize(
    ("dataset", "path", "subsets"),
    [
        ("multithumos", "multithumos/multithumos.json", {"training", "testing"}),
        ("charades", "charades/charades.json", {"training", "testing"}),
        ("epic-kitchens", "epic100", {"validation"}),
    ],
)
def test_published_files_without_a_recipe_have_published_counts_and_no_error(
    dataset, path, subsets, shared_data, tmp_path
):
    convert(shared_data / "annotations" / path, tmp_path / "a.json")
    result = check([tmp_path / "a.json"], dataset=dataset, progress=Quiet())
    assert (set(result.forms), result.errors) == (subsets, 0)
    if dataset == "multithumos":
        assert [f.message[:10] for f in result.findings if f.what == "published-past-end"] == ["60 actions"]
    content = json.loads((tmp_path / "a.json").read_text())
    first = next(v for v in content["database"].values() if v["annotations"])
    first["annotations"].append({"segment": [0, 0.125], "label": "one more"})
    (tmp_path / "more.json").write_text(json.dumps(content))
    more = check([tmp_path / "more.json"], dataset=dataset, progress=Quiet())
    assert set(more.forms) == subsets - {first["subset"]}
    assert [f.message.split(":")[0] for f in more.findings if f.what == "counts"] == [first["subset"]]
