"""The commands of docs/data.md run, from top to bottom, on small files in every form that the page names."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tadkit.records import Annotation, Dataset, VideoRecord, read_dataset, write_dataset
from tadkit.video import write_video

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
FPS, DURATION_S = 30, 6.0
LABELS = ("GolfSwing", "TennisSwing")
THUMOS_WORDS = {"training": "val", "testing": "test"}
TINY = ("train.head.epochs=1", "head.dim=16")


@dataclass(frozen=True)
class Truth:
    """What every form says."""

    videos: dict[str, VideoRecord]

    def rows(self) -> Iterator[tuple[VideoRecord, Annotation]]:
        for video in self.videos.values():
            for action in video.annotations:
                yield video, action


@pytest.fixture(scope="module")
def truth() -> Truth:
    names = ["video_validation_0000001", "video_validation_0000002", "video_test_0000003", "video_test_0000004"]
    actions = (Annotation(0.5, 2.25, LABELS[0]), Annotation(3.0, 5.5, LABELS[1]))
    subsets = ["training", "training", "testing", "testing"]
    records = (VideoRecord(n, DURATION_S, s, actions, FPS) for n, s in zip(names, subsets, strict=True))
    return Truth({record.name: record for record in records})


@pytest.fixture(scope="module")
def folder(truth: Truth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as a reader of the page would have them."""
    path = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    for place in ("videos", "i3d"):
        (path / place).mkdir()
    for name in truth.videos:
        frames = rng.integers(0, 255, (round(FPS * DURATION_S), 16, 16, 3), dtype=np.uint8)
        write_video(path / "videos" / f"{name}.mp4", list(frames), fps=FPS)
        np.save(path / "i3d" / f"{name}.npy", rng.normal(size=(42, 8)).astype(np.float32))
    shutil.copytree(ROOT / "examples", path / "examples")
    (path / "mine.toml").write_text(re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0])
    for write in (databases, thumos14, numbered, tables, ego4d, boris_events, plain_csv):
        write(path, truth)
    return path


def saved(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def databases(path: Path, truth: Truth) -> None:
    words = {
        "activity_net.v1-3.min.json": {"training": "training", "testing": "testing"},
        "HACS_segments_v1.1.1.json": {"training": "training", "testing": "testing"},
        "annotations_gt.json": {"training": "training", "testing": "testing"},
        "thumos_gt.json": {"training": "train", "testing": "test"},
        "thumos14.json": {"training": "Validation", "testing": "Test"},
        "thumos_14_anno.json": {"training": "training", "testing": "validation"},
    }
    for file, subsets in words.items():
        entries = {}
        for name, video in truth.videos.items():
            key = name.replace("video_", "w_") if file.startswith("activity") else name
            text = str if file == "thumos_gt.json" else float
            found = [{"segment": [text(a.start_s), text(a.end_s)], "label": a.label} for a in video.annotations]
            entries[key] = {"subset": subsets[video.subset], "duration": DURATION_S, "annotations": found}
        saved(path / file, {"version": "VERSION 1.3", "database": entries})
    flat = {}
    info = ["video,numFrame,seconds,fps,rfps,subset,featureFrame"]
    for name, video in truth.videos.items():
        found = [{"segment": [a.start_s, a.end_s], "label": a.label} for a in video.annotations]
        flat[name] = {"duration_second": DURATION_S, "duration_frame": 180, "annotations": found}
        info.append(f"{name},180,{DURATION_S},{FPS},{FPS},{video.subset},176")
    saved(path / "anet_anno_action.json", flat)
    saved(path / "video_info_new.csv", "\n".join(info))


def thumos14(path: Path, truth: Truth) -> None:
    lines: dict[Path, list[str]] = {}
    for video, a in truth.rows():
        line = f"{video.name}  {a.start_s} {a.end_s}"
        word = THUMOS_WORDS[video.subset]
        lines.setdefault(path / "TH14_Temporal_annotations" / word / f"{a.label}_{word}.txt", []).append(line)
        lines.setdefault(path / "MultiTHUMOS" / f"{a.label}.txt", []).append(line)
    saved(path / "MultiTHUMOS" / "BasketballBlock.txt", "")
    for file, found in lines.items():
        saved(file, "\n".join(found) + "\n")


def numbered(path: Path, truth: Truth) -> None:
    entries = {
        name: {
            "subset": video.subset,
            "duration": DURATION_S,
            "actions": [[LABELS.index(a.label), a.start_s, a.end_s] for a in video.annotations],
        }
        for name, video in truth.videos.items()
    }
    saved(path / "multithumos.json", entries)
    saved(path / "charades.json", entries)
    saved(path / "class_list.txt", "".join(f"{n} {label}\n" for n, label in enumerate(LABELS)))
    saved(path / "Charades_v1_classes.txt", "".join(f"c{n:03} {label}\n" for n, label in enumerate(LABELS)))


def tables(path: Path, truth: Truth) -> None:
    for word, subset in (("train", "training"), ("test", "testing")):
        rows = ["id,subject,actions,length"]
        for name, video in truth.videos.items():
            actions = ";".join(f"c{LABELS.index(a.label):03} {a.start_s} {a.end_s}" for a in video.annotations)
            rows += [f"{name},X,{actions},{DURATION_S}"] * (video.subset == subset)
        saved(path / "Charades" / f"Charades_v1_{word}.csv", "\n".join(rows))
    epic = ["video_id,start_timestamp,stop_timestamp,verb,verb_class,noun,noun_class"]
    for video, a in truth.rows():
        n, times = LABELS.index(a.label), [f"00:00:{s:05.2f}" for s in (a.start_s, a.end_s)]
        epic += [f"{video.name},{times[0]},{times[1]},x,{n},y,{n}"]
    saved(path / "EPIC" / "EPIC_100_train.csv", "\n".join(epic))
    classes = "id,key\n" + "".join(f"{n},{label}\n" for n, label in enumerate(LABELS))
    for kind in ("verb", "noun"):
        saved(path / "EPIC" / f"EPIC_100_{kind}_classes.csv", classes)
    info = "".join(f"{name},{DURATION_S},{FPS}\n" for name in truth.videos)
    saved(path / "EPIC" / "EPIC_100_video_info.csv", f"video_id,duration,fps\n{info}")


def ego4d(path: Path, truth: Truth) -> None:
    for split, subset in (("train", "training"), ("test", "testing")):
        clips = []
        for video in (v for v in truth.videos.values() if v.subset == subset):
            labels = [
                {"start_time": a.start_s, "end_time": a.end_s, "label": a.label, "primary": True}
                for a in video.annotations
            ]
            times = {"video_start_sec": 10.0, "video_end_sec": 10.0 + DURATION_S}
            clips.append({"clip_uid": video.name, **times, "annotations": [{"labels": labels}]})
        saved(path / "ego4d" / f"moments_{split}.json", {"videos": [{"split": split, "clips": clips}]})


def boris_events(path: Path, truth: Truth) -> None:
    rows = ["Observation id\tMedia file name\tSubject\tBehavior\tBehavior type\tTime"]
    for video, a in truth.rows():
        for kind, seconds in (("START", a.start_s), ("STOP", a.end_s)):
            rows.append(f"{video.name}\t{video.name}.mp4\t\t{a.label}\t{kind}\t{seconds}")
    saved(path / "events.tsv", "\n".join(rows))


def plain_csv(path: Path, truth: Truth) -> None:
    rows = ["video,label,start,end,duration,subset"]
    for video, a in truth.rows():
        rows.append(f"{video.name}.mp4,{a.label},{a.start_s},00:00:{a.end_s:06.3f},{DURATION_S},{video.subset}")
    saved(path / "actions.csv", "\n".join(rows))


def commands() -> tuple[list[str], list[str]]:
    """Every ``tadkit`` line of the page: those of the first block, which sums up, and all others."""
    found = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    lines = [[line for line in block.splitlines() if line.startswith("tadkit")] for block in found]
    return lines[0], [line for block in lines[1:] for line in block]


SUMMARY, LINES = commands()
CONVERTED = [line for line in LINES if line.startswith("tadkit data convert") and "--to" not in line]
TO_TOOLS = [line for line in LINES if "--to" in line]
REST = [line for line in LINES if line not in CONVERTED and line not in TO_TOOLS]
SUBSETLESS = ("events.tsv", "Charades", "EPIC")


@pytest.fixture
def here(folder: Path, truth: Truth, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    write_dataset(folder / "annotations.json", Dataset(truth.videos))
    return folder


@pytest.fixture
def tadkit_line(tadkit: Callable[..., Any]) -> Callable[..., Any]:
    def call(line: str, *more: str) -> Any:
        ran = tadkit(*shlex.split(line)[1:], *more)
        assert ran.code == 0, (line, ran)
        return ran

    return call


@pytest.fixture
def tools(here: Path, tadkit_line: Callable[..., Any]) -> Path:
    """Files of every tool, made from the annotations."""
    for line in TO_TOOLS:
        tadkit_line(line)
    return here


@pytest.mark.parametrize("line", CONVERTED)
@pytest.mark.usefixtures("tools")
def test_each_form_gives_the_same_annotations(line, here, truth, tadkit_line):
    (here / "annotations.json").unlink()
    tadkit_line(line)
    found = read_dataset(here / "annotations.json").videos
    assert {name.replace("w_", "video_") for name in found} == set(truth.videos)
    for name, video in found.items():
        wanted = truth.videos[name.replace("w_", "video_")]
        assert sorted(video.annotations, key=lambda a: a.start_s) == list(wanted.annotations)
        assert video.duration_s == pytest.approx(DURATION_S, abs=1e-3)
        if not any(word in line for word in SUBSETLESS):
            assert video.subset == wanted.subset


def run_all(lines: list[str], tadkit_line: Callable[..., Any]) -> None:
    """Run commands in order, training little; tests/annotations/test_presets.py runs the recipes of real data."""
    for line in lines:
        if "examples/" not in line and "runs/thumos14" not in line:
            tiny = [word for override in TINY for word in ("--set", override)] if " run " in line else []
            tadkit_line(line, *tiny)


@pytest.mark.usefixtures("tools")
def test_the_five_commands_that_sum_up_run_in_order(here, tadkit_line):
    shutil.rmtree(here / "runs", ignore_errors=True)
    run_all(SUMMARY, tadkit_line)
    assert (here / "runs" / "mine" / "head.safetensors").is_file()


def test_the_commands_to_a_detector_run_in_order(here, tadkit_line):
    verbs = [shlex.split(line)[1] for line in REST]
    to_head = ["data", "data", "import", "data", "run", "evaluate", "detect-features"]
    assert verbs == [*to_head, "run", "detect-features", "data", "run", "run"]
    run_all(REST, tadkit_line)
    assert len(json.loads((here / "dets.json").read_text())["results"]) == 4
