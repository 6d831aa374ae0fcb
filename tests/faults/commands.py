"""The commands that are killed, each in a folder of its own where everything before it is done."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from interop.published_weights import options_of, weights_of
from safetensors.torch import save_file
from toy_recipe import FEATURES_RECIPE, RECIPE, square_frames, toy_video

from tadkit.annotations.convert import convert
from tadkit.checkpoint import Checkpoint, save_checkpoint
from tadkit.cli import main
from tadkit.config import ModelSettings
from tadkit.models.detector import DetectorNet, new_joint_head, new_student
from tadkit.records import Dataset, write_dataset
from tadkit.video import write_video

EACH_STEP = " ".join(f"--set train.{stage}.checkpoint_s=0" for stage in ("teacher", "student", "head"))
"""Keeps the state of every training step, so that a kill finds one in the middle."""
VIDEOS = 4
LONG_PAIRS = 1100
"""More than two pieces of flow (``PIECE_PAIRS``)."""
MADE_BY_STAGE = (
    ("extract-flow", ("flow.h5", "flow.h5.parts")),
    ("train-teacher", ("teacher.safetensors", "stages/train-teacher")),
    ("teacher's features", ("teacher.h5", "teacher.h5.parts")),
    ("distill", ("student-decomposed.safetensors", "stages/distill-decomposed")),
    ("extract-features", ("features-decomposed.h5", "features-decomposed.h5.parts")),
    ("train-head", ("detector-decomposed.safetensors", "stages/train-head-decomposed", "detections", "report.json")),
)
TINY = {
    "video": {"rate_hz": 5.0, "height_px": 32, "width_px": 32},
    "flow": {"method": "temporal-gradient"},
    "teacher_backbone": {"name": "tiny", "pretrained": False},
    "backbone": {"name": "tiny", "pretrained": False},
    "head": {"dim": 16, "levels": 3, "attention_heads": 2, "stem_layers": 1, "prior_probability": 0.5},
    "distill": {"dim": 16},
}


@dataclass(frozen=True)
class Command:
    """A command that is killed.

    Attributes:
        stage: its name in the report.
        words: those after ``tadkit``; paths are relative to its folder.
        prepare: makes its folder, from the folder of everything.
    """

    stage: str
    words: tuple[str, ...]
    prepare: Callable[[Path, Path], None]


def _with(*names: str) -> Callable[[Path, Path], None]:
    """Copies of some of the files and folders."""

    def prepare(everything: Path, folder: Path) -> None:
        folder.mkdir()
        for name in names:
            source = everything / name
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)

    return prepare


def _before(stage: str) -> Callable[[Path, Path], None]:
    """The finished run without what ``stage`` and later ones made."""

    def prepare(everything: Path, folder: Path) -> None:
        _with("data", "toy.toml", "runs/toy")(everything, folder)
        names = [name for name, _ in MADE_BY_STAGE]
        for _, paths in MADE_BY_STAGE[names.index(stage) :]:
            for path in (folder / "runs" / "toy" / name for name in paths):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    return prepare


def _command(stage: str, line: str, prepare: Callable[[Path, Path], None]) -> Command:
    return Command(stage, tuple(shlex.split(line)), prepare)


COMMANDS: Mapping[str, Command] = {
    command.stage: command
    for command in (
        _command(
            "extract-flow",
            "extract-flow data/videos long.mp4 --out flow.h5 --workers 2 --set flow.method=temporal-gradient"
            " --set video.height_px=32 --set video.width_px=32 --set video.rate_hz=100 --device cpu",
            _with("data", "long.mp4"),
        ),
        _command(
            "teacher's features",
            "extract-flow data/videos --out tracks.h5 --teacher runs/toy/teacher.safetensors --device cpu",
            _with("data", "runs/toy/teacher.safetensors"),
        ),
        *(
            _command(stage, f"{stage} toy.toml --device cpu {EACH_STEP}", _before(stage))
            for stage in ("train-teacher", "distill", "extract-features", "train-head")
        ),
        _command("run", f"run toy.toml --workers 2 --device cpu {EACH_STEP}", _with("data", "toy.toml")),
        _command(
            "ablate",
            f"ablate mine.toml --rows teacher,rgb --seeds 2 --set distill.joint=true --device cpu {EACH_STEP}",
            _with("mine.toml"),
        ),
        _command(
            "adapt",
            "adapt data/annotations.json --videos data/videos --out my.safetensors --model tiny.safetensors"
            " --device cpu --set train.head.epochs=2 --set train.head.window_s=6.4 --set train.head.checkpoint_s=0",
            _with("data", "tiny.safetensors"),
        ),
        _command(
            "detect",
            "detect data/videos --model tiny.safetensors --out dets.json --out dets.csv --resume --show-score 0.5"
            " --clips clips --device cpu",
            _with("data", "tiny.safetensors"),
        ),
        _command(
            "import features",
            "import features arrays --out f.h5 --stride 4 --clip-frames 16 --fps 30",
            _with("arrays"),
        ),
        _command(
            "import head",
            "import head peer.safetensors --from actionformer --config peer.json --out head.safetensors",
            _with("peer.safetensors", "peer.json"),
        ),
        _command(
            "data convert",
            "data convert labels.boris --videos data/videos --out converted.json",
            _with("data", "labels.boris"),
        ),
        _command(
            "data convert --to elan",
            "data convert data/annotations.json --to elan --videos data/videos --out elan",
            _with("data"),
        ),
    )
}


def make_everything(folder: Path) -> Path:
    """Make the folder from which the commands' own folders are copied: data, models, and a finished run.

    Args:
        folder: does not exist yet.
    """
    torch.set_num_threads(1)
    (folder / "data" / "videos").mkdir(parents=True)
    records = [toy_video(folder / "data" / "videos" / f"room{n // 2}_{n}.mp4", seed=n) for n in range(VIDEOS)]
    write_dataset(folder / "data" / "annotations.json", Dataset({record.name: record for record in records}))
    places = np.abs(np.random.default_rng(0).integers(-2, 3, LONG_PAIRS + 1).cumsum()) % 24
    write_video(folder / "long.mp4", square_frames([int(x) for x in places]), fps=100)
    (folder / "toy.toml").write_text(RECIPE.replace('"teacher", "rgb", "decomposed"', '"teacher"'))
    (folder / "mine.toml").write_text(FEATURES_RECIPE)
    _write_model(folder / "tiny.safetensors")
    _write_arrays(folder / "arrays")
    options = options_of("actionformer")
    save_file(weights_of(options), folder / "peer.safetensors")
    (folder / "peer.json").write_text(json.dumps(options))
    convert(
        folder / "data" / "annotations.json", folder / "labels.boris", to="boris", videos=folder / "data" / "videos"
    )
    assert main(["run", str(folder / "toy.toml"), "--device", "cpu", *EACH_STEP.split()]) == 0
    return folder


def _write_model(path: Path) -> None:
    torch.manual_seed(3)
    settings, labels = ModelSettings.model_validate(TINY), ("slide", "rest")
    student, joint = (make(settings, num_classes=len(labels)) for make in (new_student, new_joint_head))
    detector = DetectorNet(settings, labels=labels, student=student, joint=joint)
    save_checkpoint(path, Checkpoint("detector", settings.model_dump(mode="json"), labels, detector.state_dict()))


def _write_arrays(folder: Path) -> None:
    folder.mkdir()
    for number in range(4):
        values = np.random.default_rng(number).normal(size=(200, 64)).astype(np.float32)
        np.save(folder / f"v{number}.npy", values)
