"""Segments come back from every annotation tool's form within a millisecond."""

from __future__ import annotations

import os
import re
import string
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.annotations.formats import (
    FrameTimes,
    Known,
    SourceVideo,
    Tool,
    guess,
    read_annotations,
    write_annotations,
)
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

TOOLS = get_args(Tool)
LABELS = ("walk", "sit down", "a, b", "<&\"'>", "naïve 走る", "12")
seconds = st.floats(0, 7200, allow_nan=False, width=64)


@st.composite
def segments(draw) -> Annotation:
    start_s, end_s = sorted((draw(seconds), draw(seconds)))
    length_s = draw(st.sampled_from([0.0, 0.01, 1.5, end_s - start_s]))
    return Annotation(start_s, start_s + length_s, draw(st.sampled_from(LABELS)))


@st.composite
def videos(draw) -> list[SourceVideo]:
    names = draw(st.lists(st.text(string.ascii_letters + "-_ .()", min_size=1).map(lambda s: f"v{s}e"), unique=True))
    return [
        SourceVideo(
            name=name,
            annotations=tuple(draw(st.lists(segments(), max_size=12))),
            subset=draw(st.sampled_from(["", "training", "testing"])),
            duration_s=draw(st.sampled_from([1.5, 7200.25])),
            fps=draw(st.sampled_from([8.0, 25.0, 30000 / 1001])),
        )
        for name in names
    ]


def assert_same(found: tuple[Annotation, ...], wanted: tuple[Annotation, ...]) -> None:
    """The same multiset, with either end within a millisecond."""
    left = list(found)
    for a in wanted:
        near = [b for b in left if b.label == a.label and close(a.start_s, b.start_s) and close(a.end_s, b.end_s)]
        assert near, (a, left)
        left.remove(near[0])
    assert not left


def close(one_s: float, other_s: float) -> bool:
    return abs(one_s - other_s) <= 1e-3


def there_and_back(tool: Tool, written: list[SourceVideo], known: Known) -> tuple[SourceVideo, ...]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("back" if tool in ("elan", "cvat") else "back.json")
        write_annotations(path, tool, written, known)
        return read_annotations(path, tool, Known()).videos if path.exists() else ()


@pytest.mark.parametrize("tool", TOOLS)
@settings(max_examples=25)
@given(videos())
def test_every_segment_comes_back_within_a_millisecond(tool, written):
    found = {video.name: video for video in there_and_back(tool, written, Known())}
    assert set(found) == {video.name for video in written}
    for video in written:
        assert_same(found[video.name].annotations, video.annotations)
        assert found[video.name].subset == video.subset or (tool == "cvat" and not video.annotations)
        assert found[video.name].duration_s == video.duration_s


@pytest.mark.parametrize("tool", ["cvat", "label-studio"])
def test_frames_decide_where_a_person_moved_an_end(tool, tmp_path):
    video = SourceVideo("v", (Annotation(1.011, 2.022, "walk"),), "", 9.0, 10.0)
    path = tmp_path / ("out" if tool == "cvat" else "out.json")
    write_annotations(path, tool, [video], Known())
    file = path / "v.xml" if tool == "cvat" else path
    text = file.read_text()
    assert text.count('frame="20"' if tool == "cvat" else '"end": 20') == 1
    file.write_text(text.replace('frame="20"', 'frame="35"').replace('"end": 20', '"end": 35'))
    ((moved,),) = (video.annotations for video in read_annotations(path, tool, Known()).videos)
    assert moved == Annotation(1.011, 3.5, "walk")


@pytest.mark.parametrize("tool", ["cvat", "label-studio"])
def test_no_frame_lies_past_the_video_although_an_action_does(tool, tmp_path):
    actions = (Annotation(7.0, 8.0, "walk"), Annotation(7.9, 12.0, "walk"), Annotation(9.0, 9.5, "sit"))
    video = SourceVideo("v", actions, "", 8.0, 10.0)
    path = tmp_path / ("out" if tool == "cvat" else "out.json")
    write_annotations(path, tool, [video], Known())
    text = (path / "v.xml" if tool == "cvat" else path).read_text()
    frames = [int(n) for n in re.findall(r'frame="(\d+)"|"(?:start|end)": (\d+)', text) for n in n if n]
    assert max(frames) == (79 if tool == "cvat" else 80)
    (found,) = read_annotations(path, tool, Known()).videos
    assert sorted(found.annotations, key=lambda a: a.start_s) == sorted(actions, key=lambda a: a.start_s)


def test_frames_are_put_on_the_stamps_of_a_video_whose_rate_varies(tmp_path):
    stamps_s = np.array([0.0, 0.1, 0.5, 0.6, 1.9])
    text = """<annotations><meta><task><size>5</size><source>v.mp4</source></task></meta>
      <track id="0" label="walk"><box frame="1" outside="0"/><box frame="4" outside="1"/></track></annotations>"""
    (tmp_path / "v.xml").write_text(text)
    known = Known(frame_times={"v": FrameTimes(stamps_s)})
    (video,) = read_annotations(tmp_path / "v.xml", "cvat", known).videos
    assert video.annotations == (Annotation(0.1, 1.9, "walk"),)


@pytest.mark.parametrize("tool", TOOLS)
def test_forms_of_tools_are_told_from_their_content(tool, tmp_path):
    path = tmp_path / ("out" if tool in ("elan", "cvat") else "out.json")
    write_annotations(path, tool, [SourceVideo("v", (Annotation(1, 2, "walk"),), "training", 9.0, 25.0)], Known())
    assert guess(path) == tool


def test_cvat_without_a_frame_rate_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match=r"'v': CVAT counts frames.*--fps or --videos"):
        write_annotations(tmp_path, "cvat", [SourceVideo("v", (), "", 9.0)], Known())


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(("name", "label"), [("a/b", "walk"), ("v", " walk"), ("v", ""), ("v", "wa\x07lk")])
def test_what_a_tool_could_not_give_back_is_refused(tool, name, label, tmp_path):
    video = SourceVideo(name, (Annotation(1, 2, label),), "", 9.0, 25.0)
    with pytest.raises(AnnotationError, match=r"not a file name|control characters"):
        write_annotations(tmp_path / "out", tool, [video], Known())


PUBLISHED = {
    "thumos14/afsd": "thumos14-afsd",
    "activitynet1.3": "bmn",
    "multithumos/multithumos.json": "multithumos",
    "charades/charades.json": "charades",
    "epic100/EPIC_100_validation.csv": "epic-kitchens",
}


@pytest.fixture(scope="module")
def published() -> list[SourceVideo]:
    """Every 20th video of each published set, by names that no two share."""
    folder = Path(os.environ["TADKIT_DATA"]) / "annotations"
    read = {path: read_annotations(folder / path, form, Known()).videos[::20] for path, form in PUBLISHED.items()}
    return [replace(v, name=f"{path.partition('/')[0]} {v.name}") for path, found in read.items() for v in found]


@pytest.mark.skipif(not os.environ.get("TADKIT_DATA"), reason="needs TADKIT_DATA, the shared research data")
@pytest.mark.parametrize("tool", TOOLS)
def test_published_annotations_come_back_from_every_tool(tool, published):
    found = {video.name: video for video in there_and_back(tool, published, Known(fps=25.0))}
    assert set(found) == {video.name for video in published}
    for video in published:
        assert_same(found[video.name].annotations, video.annotations)
        assert found[video.name].duration_s == video.duration_s
