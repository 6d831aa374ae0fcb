"""Every method, fusion, teacher and backbone goes from training to detections: on frames, and all but backbones and
teachers on features, too."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import tomli_w
from toy_recipe import NETS_OF_FEATURES, RECIPE

from tadkit import load_detector
from tadkit.config import BackboneSettings, FusionSettings, Method, PluginBackboneSettings
from tadkit.config.loading import load_recipe, parse_recipe
from tadkit.detection.detect_features import detect_features
from tadkit.progress import Quiet
from tadkit.recipe.run import RunResult, run
from tadkit.records import read_detections

METHODS = get_args(Method)
FUSIONS: dict[str, dict[str, Any]] = {
    **{kind: {"kind": kind} for kind in get_args(FusionSettings.model_fields["kind"].annotation)},
    "residual": {"residual": True},
    "motion-gated": {"directions": "motion"},
    "appearance-gated": {"directions": "appearance"},
}
ABLATIONS: dict[str, dict[str, Any]] = {
    "no-feature-term": {"feature_weight": 0.0},
    "no-prediction-term": {"prediction_weight": 0.0},
    "own-heads": {"shared_head": False},
    "added-terms": {"time_contrast_weight": 1.0, "relation_weight": 1.0, "boundary_weight": 1.0},
    "one-stage": {"joint": True},
    "one-stage-taught": {"joint": True, "joint_prediction_weight": 1.0},
}
VARIANTS: dict[str, dict[str, Any]] = {
    **{f"fused-{name}": {"fusion": fusion} for name, fusion in FUSIONS.items()},
    **{name: {"distill": distill} for name, distill in ABLATIONS.items()},
}
ROWS = (*METHODS, "two-stream", "two-stream-late", *VARIANTS)


MADE_UP = f"""
name = "made-up"
labels = ["box", "ball", "push", "pull", "open", "close"]
sources = [{{kind = "made-up-features", training_videos = 4, test_videos = 2}}]
{NETS_OF_FEATURES}"""
BACKBONES: dict[str, tuple[int, str]] = {
    "efficientnet-lite0": (2, "temporal-gradient"),
    "resnet18": (2, "temporal-gradient"),
    "mobilenet-v3-small": (2, "temporal-gradient"),
    "tsm-resnet18": (2, "opencv-dis"),
    "tsm-resnet50": (2, "temporal-gradient"),
    "tsm-resnet101": (2, "temporal-gradient"),
    "i3d": (8, "opencv-dis"),
    "slowfast-r50-4x16": (8, "temporal-gradient"),
    "slowfast-r50-8x8": (4, "temporal-gradient"),
    "r2plus1d-18": (8, "temporal-gradient"),
    "s3d": (8, "opencv-dis"),
    "mvit-v2-s": (2, "temporal-gradient"),
    "swin3d-t": (2, "temporal-gradient"),
    "videomae-s": (2, "opencv-dis"),
    "videomae-b": (2, "temporal-gradient"),
}
"""Frames per feature step, and flow. All but the net of another package, which ``tests/test_plugins.py`` runs."""


class Ran(NamedTuple):
    """A run folder, and a video that the run held out."""

    folder: Path
    held_out: Path


Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def run_rows(tmp_path_factory: pytest.TempPathFactory, toy_data: Path) -> Run:
    """Run the toy recipe for one epoch a stage with these rows, some of them variants."""

    def call(*overrides: str, rows: tuple[str, ...], variants: dict[str, dict[str, Any]]) -> Ran:
        folder = tmp_path_factory.mktemp("parts")
        shutil.copytree(toy_data, folder / "data")
        path = folder / "toy.toml"
        path.write_text(RECIPE + tomli_w.dumps({"variants": {row: variants[row] for row in rows if row in variants}}))
        quick = [f"train.{stage}.epochs=1" for stage in ("teacher", "student", "head")]
        recipe = load_recipe(path, overrides=[*quick, f"compare={list(rows)}", *overrides])
        result = run(recipe, base=folder, device="cpu", progress=Quiet())
        assert [row.name for row in result.rows if ":" not in row.name] == list(rows)
        held_out = next(iter(read_detections(result.folder / "detections" / f"{rows[0]}.json")))
        return Ran(result.folder, folder / "data" / "videos" / f"{held_out}.mp4")

    return call


@pytest.fixture(scope="module")
def all_rows(run_rows: Run) -> Ran:
    """One run with every method and fusion."""
    return run_rows(rows=ROWS, variants=VARIANTS)


def assert_detects_what_was_judged(ran: Ran, row: str) -> None:
    """``detect`` on the held-out video finds what the run has judged, and something."""
    judged = read_detections(ran.folder / "detections" / f"{row}.json")[ran.held_out.stem]
    found = load_detector(ran.folder / f"detector-{row}.safetensors").detect(ran.held_out)
    assert len(found) == len(judged) > 0
    for one, other in zip(found, judged, strict=True):
        assert (one.score, one.start_s, one.end_s) == pytest.approx((other.score, other.start_s, other.end_s), abs=1e-3)


@pytest.mark.parametrize("row", ROWS)
def test_every_method_and_fusion_trains_and_detects(all_rows: Ran, row: str) -> None:
    assert_detects_what_was_judged(all_rows, row)


@pytest.fixture(scope="module")
def all_rows_of_features(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """One run with every method and fusion, on features."""
    text = MADE_UP + tomli_w.dumps({"variants": VARIANTS})
    quick = [f"train.{stage}.{name}" for stage in ("teacher", "student", "head") for name in ("epochs=1", "window_s=8")]
    recipe = parse_recipe(text, name="made-up", overrides=[*quick, f"compare={list(ROWS)}"])
    return run(recipe, base=tmp_path_factory.mktemp("made-up"), device="cpu", progress=Quiet())


@pytest.mark.parametrize("row", ROWS)
def test_every_method_and_fusion_trains_and_detects_on_features(all_rows_of_features: RunResult, row: str) -> None:
    folder, features = all_rows_of_features.folder, all_rows_of_features.features
    assert features is not None
    judged = read_detections(folder / "detections" / f"{row}.json")
    head = folder / f"detector-{row}.safetensors"
    found = detect_features(features, head=head, decoding={}, device="cpu", progress=Quiet())
    assert {video: list(found[video]) for video in judged} == judged
    assert all(judged.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_is_teacher_and_student_and_detects(run_rows: Run, name: str) -> None:
    stride, flow = BACKBONES[name]
    nets = [
        f"{net}.{setting}"
        for net in ("teacher_backbone", "backbone")
        for setting in (f"name={name}", "pretrained=false", f"stride={stride}")
    ]
    ran = run_rows(*nets, f"flow.method={flow}", "video.rate_hz=10", "head.levels=2", rows=("decomposed",), variants={})
    assert_detects_what_was_judged(ran, "decomposed")


def test_no_backbone_is_left_out() -> None:
    kinds = (kind for kind in get_args(get_args(BackboneSettings)[0]) if kind is not PluginBackboneSettings)
    names = {name for kind in kinds for name in get_args(kind.model_fields["name"].annotation)}
    assert names == {*BACKBONES, "tiny", "temporal-encoder"}


TEACHERS = {
    "tvl1": ("flow.method=tvl1",),
    "opencv-dis": ("flow.method=opencv-dis",),
    "stacked": ("flow.method=opencv-dis", "flow.stack=4"),
    "temporal-gradient": ("flow.method=temporal-gradient",),
}


@pytest.mark.slow
@pytest.mark.parametrize("teacher", TEACHERS)
def test_every_teacher_trains_and_its_student_detects(run_rows: Run, teacher: str) -> None:
    ran = run_rows(*TEACHERS[teacher], rows=("decomposed", "two-stream"), variants={})
    for row in ("decomposed", "two-stream"):
        assert_detects_what_was_judged(ran, row)
