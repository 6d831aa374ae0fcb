"""Write ``files.zip`` with the code that first wrote format version 1 (see ``README.md``)."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tadkit.pipelines.train
import torch
from tadkit.detector import Detector, build_student, new_joint_head
from tadkit.heads import build_head
from tadkit.heads.head_file import head_settings, save_head
from tadkit.pipelines.branch_features import BranchFeatures
from tadkit.pipelines.detect import decoded_features, detect
from tadkit.pipelines.features_head import detect_in_features
from tadkit.pipelines.run import run
from tadkit.recipes import load_recipe
from tadkit.training.state import save_state

from tadkit.checkpoint import load_checkpoint
from tadkit.config import DecodeSettings
from tadkit.progress import Quiet
from tadkit.records import Annotation, Dataset, VideoRecord, detections_json, write_dataset
from tadkit.store import read_store
from tadkit.timeline import Timeline
from tadkit.training.schedule import AveragedWeights
from tadkit.video import write_video

FPS = 10
SIDE_PX = 32
RECIPE = """
name = "v1"
labels = ["slide", "rest"]
compare = ["decomposed"]
half_precision = true
[[sources]]
kind = "files"
annotations = "annotations.json"
videos = "videos"
[video]
rate_hz = 5.0
height_px = 32
width_px = 32
[flow]
method = "tvl1"
[teacher_backbone]
name = "tiny"
pretrained = false
[backbone]
name = "tiny"
pretrained = false
[head]
dim = 8
levels = 2
attention_heads = 2
stem_layers = 0
embedding_layers = 1
head_layers = 1
prior_probability = 0.3
[distill]
dim = 8
joint = true
[decode]
keep = 12
min_score = 0.001
[train.teacher]
epochs = 3
window_s = 3.2
batch_windows = 2
[train.student]
epochs = 3
window_s = 3.2
batch_windows = 2
[train.head]
epochs = 3
window_s = 3.2
batch_windows = 2
"""
HEADS = {
    "actionformer": {"kind": "actionformer", "dim": 8, "levels": 2, "attention_heads": 2, "prior_probability": 0.5},
    "tridet": {"kind": "tridet", "dim": 16, "levels": 2, "bins": 4, "mlp_dim": 8, "head_layers": 1, "stem_layers": 0},
    "temporal-maxer": {"kind": "temporal-maxer", "dim": 8, "levels": 2, "neck": "fpn", "prior_probability": 0.5},
    "tadtr": {
        "kind": "tadtr", "window_steps": 8, "dim": 8, "queries": 4, "encoder_layers": 1, "decoder_layers": 1,
        "attention_heads": 2, "mlp_dim": 8, "norm_groups": 2, "actionness": True, "actionness_bins": 4,
    },
    "bmn": {
        "kind": "bmn", "window_steps": 8, "dim": 8, "map_dim": 4, "roi_dim": 4, "graph_layers": 1, "durations": 4,
        "samples": 4, "map_layers": 1,
    },
    "tags": {"kind": "tags", "window_steps": 8, "dim": 8, "layers": 1, "attention_heads": 2},
}  # fmt: skip
DECODING = DecodeSettings(min_score=0.001, keep=12)


def main(target: Path) -> None:
    """Write the zip file ``target``."""
    torch.set_num_threads(1)
    tadkit.pipelines.train.fit = fit_with_coarse_weights
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_recipe(folder)
        made = folder / "runs" / "v1"
        write_detections_of_detector(folder, made)
        write_detections_of_joint_head(made)
        write_heads(made)
        write_training_state(made)
        write_store_values(made)
        (made / "report.json").unlink()
        kept = [path for form in ("h5", "safetensors", "json", "npz") for path in sorted(made.glob(f"*.{form}"))]
        kept += sorted(made.glob("*.parts/*.h5"))
        with zipfile.ZipFile(target, "w", zipfile.ZIP_LZMA) as file:
            file.write(folder / "videos" / "square_1.mp4", "square_1.mp4")
            for path in kept:
                file.write(path, path.relative_to(made))


def fit_with_coarse_weights(*args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
    """Train, then round matrices and filters to a few values each: the files can be compressed, and fit in float16."""
    weights = tadkit.training.fit(*args, **kwargs)
    return {name: coarse(value) if value.ndim >= 2 else value for name, value in weights.items()}


def coarse(weight: torch.Tensor) -> torch.Tensor:
    """Multiples of a power of two, at least a fifth of the largest weight."""
    unit = 2.0 ** math.ceil(math.log2(float(weight.abs().max()) / 5))
    return (weight / unit).round() * unit


def run_recipe(folder: Path) -> None:
    """Two videos of 6 s in which a square slides for 2 s and rests for 2 s; a run of the recipe on them."""
    (folder / "videos").mkdir()
    records = {}
    for seed, subset in enumerate(("training", "validation")):
        video = f"square_{seed}"
        write_video(folder / "videos" / f"{video}.mp4", square_frames(seed), fps=FPS)
        actions = (Annotation(0.6, 2.6, "slide"), Annotation(3.4, 5.4, "rest"))
        records[video] = VideoRecord(video, 6.0, subset, actions)
    write_dataset(folder / "annotations.json", Dataset(records))
    (folder / "recipe.toml").write_text(RECIPE)
    run(load_recipe(folder / "recipe.toml"), base=folder, device="cpu", progress=Quiet())


def square_frames(seed: int) -> list[np.ndarray]:
    """Pictures at 10 Hz; the ground is smooth, so that the files stay small."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    ground = np.stack([40 + 30 * np.sin(x / 5 + seed), 40 + 30 * np.cos(y / 6), 40 + x], -1).astype(np.uint8)
    frames = []
    for frame in range(6 * FPS):
        picture, time_s = ground.copy(), frame / FPS
        at_px = round((time_s - 0.6) * 10) if 0.6 <= time_s < 2.6 else 4 + seed if 3.4 <= time_s < 5.4 else None
        if at_px is not None:
            picture[8:16, at_px : at_px + 8] = (230, 220, 40)
        frames.append(picture)
    return frames


def write_detections_of_detector(folder: Path, made: Path) -> None:
    """What the detector finds in a video."""
    model = made / "detector-decomposed.safetensors"
    found = detect([folder / "videos" / "square_1.mp4"], model=model, device="cpu", overrides={}, progress=Quiet())
    (made / "detector-decomposed.json").write_text(detections_json(found.detections, external=found.external))


def write_detections_of_joint_head(made: Path) -> None:
    """What the joint head that was trained along with the student finds in the student's features."""
    checkpoint = load_checkpoint(made / "student-decomposed.safetensors", kind="student")
    settings, student = build_student(checkpoint, where="student")
    joint = new_joint_head(settings, num_classes=len(checkpoint.labels))
    joint.load_state_dict(load_checkpoint(made / "joint-head-decomposed.safetensors", kind="joint-head").tensors)
    detector = Detector(settings, labels=checkpoint.labels, student=student, joint=joint).eval()
    with read_store(made / "features-decomposed.h5", kind="features") as store:
        detections = {
            video: decoded_features(
                detector,
                BranchFeatures(*(store.read(video, f"original/{track}") for track in ("motion", "appearance"))),
                timeline=Timeline(store.stamps_s(video)),
                duration_s=float(store.attributes(video)["duration_s"]),
                decoding=settings.decode,
            )
            for video in store.videos()
        }
    (made / "joint-head-decomposed.json").write_text(detections_json(detections, external={}))


def write_heads(made: Path) -> None:
    """A head of each kind with random weights, and what it finds in the appearance features."""
    for name, section in HEADS.items():
        torch.manual_seed(7)
        head = build_head(head_settings(section, where=name), in_channels=8, num_classes=2)
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        path = made / f"head-{name}.safetensors"
        save_head(path, head, labels=("slide", "rest"), provenance={"made_for": "tests"})
        found = detect_in_features(
            made / "features-decomposed.h5", head=path, decoding=DECODING, device="cpu", progress=Quiet()
        )
        (made / f"head-{name}.json").write_text(detections_json(found.detections, external=found.external))


def write_training_state(made: Path) -> None:
    """The state of a small net after three steps, and what the next step makes of its weights."""
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    averaged = AveragedWeights(module, decay=0.9)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
    inputs = torch.linspace(-1, 1, 12).reshape(4, 3)
    for step in range(4):
        if step == 3:
            save_state(
                made / "training.safetensors", module=module, averaged=averaged, optimizer=optimizer, step=3, key="key"
            )
        optimizer.zero_grad()
        (module(inputs) ** 3).sum().backward()
        optimizer.step()
        averaged.update(module, step=step)
        if step == 2:
            before = {f"averaged.{name}": value.numpy().copy() for name, value in averaged.tensors.items()}
    after = {f"next.{name}": value.detach().numpy() for name, value in module.state_dict().items()}
    np.savez_compressed(made / "training.npz", **before, **after)


def write_store_values(made: Path) -> None:
    """Every track of every store as its reader gave it, and the attributes of videos."""
    values: dict[str, np.ndarray] = {}
    attributes = {}
    for name, kind in (("flow", "flow"), ("teacher", "features"), ("features-decomposed", "features")):
        with read_store(made / f"{name}.h5", kind=kind) as store:
            attributes[name] = {"settings": store.settings, "labels": store.labels, "videos": {}}
            for video in store.videos():
                attributes[name]["videos"][video] = store.attributes(video)
                values[f"{name}/{video}/stamps_s"] = store.stamps_s(video)
                for track in store.tracks(video):
                    values[f"{name}/{video}/{track}"] = store.read(video, track)
    np.savez_compressed(made / "stores.npz", **values)
    (made / "stores.json").write_text(json.dumps(attributes, indent=1, sort_keys=True, default=list) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
