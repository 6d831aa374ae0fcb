"""Random files by each tool's own rules, with the truth from a small model of the tool: frame by frame, as it plays."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.annotations.formats import FrameTimes, Known, Source, Tool, read_annotations
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

LABELS = ("pour", "stir", "a, b", "<&>")
labels = st.sampled_from(LABELS)


def rows(annotations: Sequence[Annotation]) -> list[tuple[float, float, str]]:
    """Actions in order, with seconds rounded to microseconds."""
    return sorted((round(a.start_s, 6), round(a.end_s, 6), a.label) for a in annotations)


def runs(shown: Sequence[bool]) -> list[tuple[int, int]]:
    """Half-open runs of true values."""
    edges = np.flatnonzero(np.diff([0, *map(int, shown), 0]))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def read(content: str, suffix: str, tool: Tool, known: Known) -> Source:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"labels{suffix}"
        path.write_text(content, encoding="utf-8")
        return read_annotations(path, tool, known)


# Label Studio: frame n of the interface is what plays at (n - 1) / rate seconds.


def in_lifespan(sequence: Sequence[dict[str, Any]], frame: int) -> bool:
    """VideoRegion.isInLifespan: a key frame that is not enabled is the last one that shows the region."""
    before = [key for key in sequence if key["frame"] <= frame]
    return bool(before) and (before[-1]["enabled"] or before[-1]["frame"] == frame)


@st.composite
def label_studio(draw: Callable[..., Any]) -> tuple[list[Any], float, list[tuple[float, float, str]]]:
    """Tasks, the rate of the interface, and the actions of the one video."""
    rate, count = draw(st.sampled_from([24.0, 25.0, 29.97, 10.0])), draw(st.integers(20, 60))
    results, truth = [], []
    for place in range(draw(st.integers(1, 4))):
        chosen, about = draw(labels), {"id": f"r{place}", "from_name": "c", "to_name": "video"}
        kind = draw(st.sampled_from(["timelinelabels", "videorectangle", "labels"]))
        if kind == "labels":
            ends = sorted(draw(st.lists(st.floats(0, count / rate), min_size=2, max_size=2)))
            results.append({**about, "type": kind, "value": {"start": ends[0], "end": ends[1], "labels": [chosen]}})
            truth.append((*ends, chosen))
            continue
        if kind == "timelinelabels":
            first, last = sorted(draw(st.lists(st.integers(1, count), min_size=2, max_size=2)))
            value = {"ranges": [{"start": first, "end": last}], kind: [chosen]}
            shown = [first <= n <= last for n in range(1, count + 1)]
        else:
            frames = sorted(draw(st.lists(st.integers(1, count), min_size=1, max_size=5, unique=True)))
            keys = [{"frame": n, "enabled": draw(st.booleans()), "time": n / rate} for n in frames]
            value = {"sequence": keys, "framesCount": count, "duration": count / rate, "labels": [chosen]}
            shown = [in_lifespan(keys, n) for n in range(1, count + 1)]
        results.append({**about, "type": kind, "value": value})
        if kind == "videorectangle":  # a disabled key frame ends a stretch, even where the next one begins one
            cuts = [key["frame"] for key in value["sequence"] if not key["enabled"]]
            truth += [(a / rate, b / rate, chosen) for a, b in cut(runs(shown), cuts)]
        else:
            truth += [(a / rate, b / rate, chosen) for a, b in runs(shown)]
    task = {"id": 1, "data": {"video": "v.mp4", "duration": count / rate}, "annotations": [{"result": results}]}
    return [task], rate, truth


def cut(spans: Sequence[tuple[int, int]], at: Sequence[int]) -> list[tuple[int, int]]:
    """Spans cut after the frames ``at``."""
    found = []
    for a, b in spans:
        edges = [a, *(frame for frame in at if a < frame < b), b]
        found += pairwise(edges)
    return found


@settings(max_examples=60)
@given(label_studio(), st.booleans())
def test_label_studio(made, is_said):
    tasks, rate, truth = made
    source = read(json.dumps(tasks), ".json", "label-studio", Known(fps=rate))
    assert rows(source.videos[0].annotations) == rows(tuple(Annotation(*row) for row in truth))
    assert not source.losses
    if is_said:  # the rate as the data of the task, for frameRate="$fps"
        tasks[0]["data"]["fps"] = rate
        assert read(json.dumps(tasks), ".json", "label-studio", Known()).videos[0].annotations


# CVAT: a task shows every step-th frame of the video; a track's state holds from key frame to key frame.


class Task:
    """A task of one video, and its annotations as CVAT's exporters list them."""

    def __init__(self, draw: Callable[..., Any]) -> None:
        self.first, self.step = draw(st.integers(0, 7)), draw(st.integers(1, 6))
        self.size = draw(st.integers(6, 20))
        past = draw(st.integers(0, self.step))  # frames of the video after the last shown one, itself included
        gaps = st.floats(0.01, 0.5)
        count = self.first + self.step * (self.size - 1) + max(1, past)
        steps = draw(st.lists(gaps, min_size=count, max_size=count))
        self.stamps_s = np.concatenate([[0.0], np.cumsum(steps)])
        self.deleted = set(draw(st.lists(st.integers(0, self.size - 2), max_size=3)))

    def frame(self, shown: int) -> int:
        return self.first + self.step * shown

    def seconds(self, shown: int) -> float:
        """When the frame is shown; after the last one the video ends or the next would be shown."""
        return float(self.stamps_s[min(self.frame(shown), len(self.stamps_s) - 1)])

    def states(self, keys: dict[int, str]) -> list[str]:
        """State of each shown frame from key frames, of which those on deleted frames are gone; empty is outside."""
        found, state = [], ""
        for shown in range(self.size):
            state = keys[shown] if shown in keys and shown not in self.deleted else state
            found.append(state)
        return found

    def listed(self, keys: dict[int, str]) -> list[tuple[int, str, bool]]:
        """Frame, state and whether it is a key frame, of the listed frames of a track."""
        kept = {n for n in keys if n not in self.deleted}
        return [
            (self.frame(n), state, n in kept)
            for n, state in enumerate(self.states(keys))
            if n not in self.deleted and (state or n in kept)
        ]

    def truth(self, keys: dict[int, str], label: str | None) -> list[tuple[float, float, str]]:
        """Actions of a track: of its label, or of its states if ``label`` is None."""
        states = self.states(keys)
        return [
            (self.seconds(a), self.seconds(b), label or state)
            for state in ({"x"} if label else set(states) - {""})
            for a, b in runs([bool(one) if label else one == state for one in states])
        ]

    def known(self, **more: Any) -> Known:
        stamps, duration = self.stamps_s[:-1], float(self.stamps_s[-1])
        return Known(frame_times={"v": FrameTimes(stamps, 25.0, "v.mp4", duration)}, **more)

    def file(self, *elements: str) -> str:
        skip = f"step={self.step}" if self.step > 1 else ""
        meta = f"<size>{self.size}</size><start_frame>{self.first}</start_frame><frame_filter>{skip}</frame_filter>"
        meta += f"<stop_frame>{self.frame(self.size - 1)}</stop_frame><source>v.mp4</source>"
        return f"<annotations><meta><task>{meta}</task></meta>{''.join(elements)}</annotations>"


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@st.composite
def cvat(draw: Callable[..., Any]) -> tuple[Task, list[tuple[str, dict[int, str]]]]:
    """A task and its tracks: label, and state by key frame (an action, or empty for outside)."""
    task, tracks = Task(draw), []
    for _ in range(draw(st.integers(1, 3))):
        frames = draw(st.lists(st.integers(0, task.size - 1), min_size=2, max_size=6, unique=True))
        keys = {n: draw(st.sampled_from(["", *LABELS])) for n in frames}
        alive = [n for n in sorted(keys) if n not in task.deleted]
        if alive:
            tracks.append((draw(st.sampled_from(["cup", "person"])), keys))
    return task, tracks


def element(task: Task, place: int, label: str, keys: dict[int, str], skeleton: bool) -> str:
    shapes = []
    for frame, state, key in task.listed(keys):
        flags = f'keyframe="{int(key)}" outside="{int(not state)}" occluded="0"'
        value = f'<attribute name="action">{escaped(state)}</attribute>' if state else ""
        points = "".join(f'<points label="{name}" {flags} points="1,1"/>' for name in ("wrist", "elbow"))
        if skeleton:
            shapes.append(f'<skeleton frame="{frame}" keyframe="{int(key)}">{points}{value}</skeleton>')
        else:
            shapes.append(f'<box frame="{frame}" {flags} xtl="1" ytl="1" xbr="5" ybr="5">{value}</box>')
    return f'<track id="{place}" label="{label}">{"".join(shapes)}</track>'


def lone_frames(task: Task, keys: dict[int, str]) -> bool:
    """Whether the file shows the track like a shape of a single frame, which CVAT lists in the same way."""
    return sum(bool(state) for _, state, _ in task.listed(keys)) == 1


@settings(max_examples=80)
@given(cvat(), st.booleans())
def test_cvat_for_video(made, skeleton):
    task, tracks = made
    tracks = [(label, keys) for label, keys in tracks if not lone_frames(task, keys)]
    text = task.file(*(element(task, n, label, keys, skeleton) for n, (label, keys) in enumerate(tracks)))
    source = read(text, ".xml", "cvat", task.known())
    truth = [row for label, keys in tracks for row in task.truth(keys, label)]
    assert rows(source.videos[0].annotations) == rows(tuple(Annotation(*row) for row in truth))
    assert not source.losses


@settings(max_examples=60)
@given(cvat())
def test_cvat_classes_in_an_attribute(made):
    task, tracks = made
    task.deleted = set()
    tracks = [("person", keys) for _, keys in tracks if any(keys.values()) and not lone_frames(task, keys)]
    if not tracks:
        return
    text = task.file(*(element(task, n, label, keys, False) for n, (label, keys) in enumerate(tracks)))
    source = read(text, ".xml", "cvat", task.known(attribute="action"))
    truth = [row for _, keys in tracks for row in task.truth(keys, None)]
    assert rows(source.videos[0].annotations) == rows(tuple(Annotation(*row) for row in truth))


def image(frame: int, held: set[str]) -> str:
    tags = "".join(f'<tag label="{label}"/>' for label in held)
    return f'<image id="{frame}" name="frame_{frame:06}">{tags}</image>'


@settings(max_examples=60)
@given(cvat())
def test_cvat_for_images(made):
    task, tracks = made
    task.deleted = set()
    states = [{label for label, keys in tracks if task.states(keys)[n]} for n in range(task.size)]
    images = [image(task.frame(n), held) for n, held in enumerate(states)]
    source = read(task.file(*images), ".xml", "cvat", task.known())
    truth = [
        (task.seconds(a), task.seconds(b), label)
        for label in ("cup", "person")
        for a, b in runs([label in held for held in states])
    ]
    assert rows(source.videos[0].annotations) == rows(tuple(Annotation(*row) for row in truth))


# VIA: a segment's class is what its attribute shows; with a list, the options with the numbers in the value.


@st.composite
def via(draw: Callable[..., Any]) -> tuple[dict[str, Any], list[tuple[float, float, str]], int]:
    """A project, its actions, and the number of its segments without a class."""
    kind = draw(st.sampled_from([1, 2, 3, 4]))
    options = {} if kind == 1 else {str(n): label for n, label in enumerate(LABELS)}
    attributes = {
        "1": {"aname": "Comment", "anchor_id": "FILE1_Z2_XY0", "type": 1, "options": {"default": "Default"}},
        "5": {"aname": "Scene", "anchor_id": "FILE1_Z2_XY0", "type": kind, "options": options},
        "7": {"aname": "Object", "anchor_id": "FILE1_Z1_XY1", "type": 1, "options": {}},
    }
    metadata: dict[str, Any] = {}
    truth, unset = [], 0
    for place in range(draw(st.integers(1, 6))):
        z = sorted(draw(st.lists(st.floats(0, 100), min_size=2, max_size=2)))
        chosen = draw(st.lists(st.sampled_from(range(4)), min_size=0, max_size=4 if kind == 2 else 1, unique=True))
        value = LABELS[chosen[0]] if kind == 1 and chosen else ",".join(map(str, chosen))
        unset += not chosen
        values = {"1": "_DEFAULT", "5": value or draw(st.sampled_from(["", "_DEFAULT"]))}
        metadata[f"1_{place}"] = {"vid": "1", "flg": 0, "z": z, "xy": [], "av": values}
        truth += [(*z, LABELS[n]) for n in chosen]
        if draw(st.booleans()):
            metadata[f"1_{place}o"] = {"vid": "1", "flg": 0, "z": [z[0]], "xy": [2, 1, 1, 5, 5], "av": {"7": "cup"}}
    files = {"1": {"fid": "1", "fname": "v.mp4", "type": 4, "loc": 1, "src": "v.mp4"}}
    project = {"attribute": attributes, "file": files, "metadata": metadata, "view": {"1": {"fid_list": ["1"]}}}
    return project, truth, unset


@settings(max_examples=80)
@given(via(), st.booleans())
def test_via(made, chosen):
    project, truth, unset = made
    if not truth:  # a video of which no label is left is no video without actions
        with pytest.raises(AnnotationError, match=f"'v' is left out: .*{unset} segments have no class"):
            read(json.dumps(project), ".json", "via", Known(attribute="Scene" if chosen else None))
        return
    source = read(json.dumps(project), ".json", "via", Known(attribute="Scene" if chosen else None))
    assert rows(source.videos[0].annotations) == rows(tuple(Annotation(*row) for row in truth))
    assert [loss.split(": ")[1] for loss in source.losses] == [
        f"{unset} segments have no class; give their attribute a value in VIA"
    ] * (unset > 0)
