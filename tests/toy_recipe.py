"""A toy recipe whose stages take seconds: squares that slide or stand still, and a detector with random weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import h5py
import numpy as np
import pytest
import torch

from tadkit.checkpoint import Checkpoint, save_checkpoint
from tadkit.config import ModelSettings, Recipe, TemporalGradientSettings, VideoSettings
from tadkit.config.loading import load_recipe
from tadkit.extraction.extract_flow import extract_flow_of
from tadkit.extraction.flow_video import PIECE_PAIRS
from tadkit.extraction.results import ExtractionResult
from tadkit.models.detector import DetectorNet, new_joint_head, new_student
from tadkit.progress import Quiet
from tadkit.records import Annotation, Dataset, VideoRecord, write_dataset
from tadkit.video import write_video

if TYPE_CHECKING:
    from tadkit.recipe.run import RunResult

SIDE_PX = 32
FPS = 10
VIDEOS = 6

HEAD = """[head]
dim = 16
levels = 3
attention_heads = 2
stem_layers = 0
head_layers = 1
"""
RECIPE = f"""
name = "toy"
labels = ["slide", "rest"]
compare = ["teacher", "rgb", "decomposed"]
[[sources]]
kind = "files"
annotations = "data/annotations.json"
videos = "data/videos"
[video]
rate_hz = 5.0
height_px = 32
width_px = 32
[flow]
method = "temporal-gradient"
[teacher_backbone]
name = "tiny"
pretrained = false
[backbone]
name = "tiny"
pretrained = false
{HEAD}[distill]
dim = 16
[train.teacher]
epochs = 2
window_s = 6.4
batch_windows = 2
[train.student]
epochs = 2
window_s = 6.4
batch_windows = 2
[train.head]
epochs = 2
window_s = 6.4
batch_windows = 2
"""
NETS_OF_FEATURES = f"""
[split]
kind = "subset"
held_out = ["testing"]
[teacher_backbone]
width = 16
[backbone]
width = 16
[distill]
dim = 16
[evaluation]
tiou = [0.3]
{HEAD}"""
"""Sections of a recipe of synthetic features, whose nets are tiny."""
ONE_EPOCH = "".join(f"[train.{stage}]\nepochs = 1\nwindow_s = 8.0\n" for stage in ("teacher", "student", "head"))
FEATURES_RECIPE = f"""
name = "mine"
labels = ["box", "ball", "push", "pull", "open", "close"]
compare = ["teacher", "rgb", "decomposed"]
[[sources]]
kind = "made-up-features"
training_videos = 4
test_videos = 2
{NETS_OF_FEATURES}{ONE_EPOCH}"""


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Sums in the same order in every process, so that equal means equal to the bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def square_frames(at_px: Sequence[int | None], *, side_px: int = SIDE_PX, seed: int = 0) -> list[np.ndarray]:
    """Pictures of a bright square whose left edge is at each of ``at_px``; without one where it is None."""
    ground = np.random.default_rng(seed).integers(0, 80, (side_px, side_px, 3), dtype=np.uint8)
    frames = []
    for x in at_px:
        frame = ground.copy()
        if x is not None:
            frame[side_px // 4 : side_px // 2, x : x + side_px // 4] = (230, 220, 40)
        frames.append(frame)
    return frames


def toy_video(path: Path, *, seed: int) -> VideoRecord:
    """8 s: nothing, a square that slides for 2 s, nothing, one that rests for 2 s, nothing."""
    first_s, second_s = (1.0, 5.0) if seed % 2 else (0.6, 4.4)
    at_px: list[int | None] = []
    for frame in range(8 * FPS):
        time_s = frame / FPS
        if first_s <= time_s < first_s + 2:
            at_px.append(round((time_s - first_s) * 10))
        else:
            at_px.append(seed if second_s <= time_s < second_s + 2 else None)
    write_video(path, square_frames(at_px, seed=seed), fps=FPS)
    actions = (Annotation(first_s, first_s + 2, "slide"), Annotation(second_s, second_s + 2, "rest"))
    return VideoRecord(path.stem, 8.0, "training" if seed % 3 else "validation", actions)


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``videos`` and ``annotations.json``; not to be changed."""
    folder = tmp_path_factory.mktemp("toy") / "data"
    (folder / "videos").mkdir(parents=True)
    records = [toy_video(folder / "videos" / f"room{seed // 2}_{seed}.mp4", seed=seed) for seed in range(VIDEOS)]
    write_dataset(folder / "annotations.json", Dataset({record.name: record for record in records}))
    return folder


@pytest.fixture
def toy(tmp_path: Path, toy_data: Path) -> Path:
    """A recipe file with its own copy of the data."""
    shutil.copytree(toy_data, tmp_path / "data")
    path = tmp_path / "toy.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory, toy_data: Path) -> RunResult:
    """What the first run of the toy recipe gave back."""
    from tadkit.recipe.run import run

    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(toy_data, folder / "data")
    (folder / "toy.toml").write_text(RECIPE)
    return run(load_recipe(folder / "toy.toml"), base=folder, device="cpu", progress=Quiet())


@pytest.fixture(scope="session")
def undisturbed(first_run: RunResult) -> Path:
    """The recipe file of a toy run that went through without trouble; not to be changed."""
    return first_run.folder.parents[1] / "toy.toml"


@pytest.fixture
def finished(tmp_path: Path, undisturbed: Path) -> Path:
    """The recipe file of a finished run that may be changed."""
    shutil.copytree(undisturbed.parent, tmp_path / "finished")
    return tmp_path / "finished" / undisturbed.name


@pytest.fixture
def run_toy() -> Callable[..., dict[str, str]]:
    """Run a recipe file with overrides; gives each stage's state by its name."""
    from tadkit.recipe.run import run

    def call(path: Path, *overrides: str, only: str | None = None) -> dict[str, str]:
        recipe: Recipe = load_recipe(path, overrides=overrides)
        return dict(run(recipe, base=path.parent, device="cpu", progress=Quiet(), only=only).stages)

    return call


@pytest.fixture(scope="session")
def tiny_settings() -> ModelSettings:
    """A net of random weights that finds plenty: what it predicts starts from probability 0.5."""
    return ModelSettings.model_validate(
        {
            "video": {"rate_hz": 5.0, "height_px": 32, "width_px": 32},
            "flow": {"method": "temporal-gradient"},
            "teacher_backbone": {"name": "tiny", "pretrained": False},
            "backbone": {"name": "tiny", "pretrained": False},
            "head": {"dim": 16, "levels": 3, "attention_heads": 2, "stem_layers": 1, "prior_probability": 0.5},
            "distill": {"dim": 16},
        }
    )


@pytest.fixture(scope="session")
def tiny_detector(tiny_settings: ModelSettings) -> DetectorNet:
    """A detector with random weights, in evaluation mode."""
    torch.manual_seed(3)
    labels = ("slide", "rest")
    student, joint = (make(tiny_settings, num_classes=len(labels)) for make in (new_student, new_joint_head))
    detector = DetectorNet(tiny_settings, labels=labels, student=student, joint=joint)
    with torch.no_grad():  # fresh norms and biases are all alike; no chunk could be told from another
        for parameter in detector.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return detector.eval()


@pytest.fixture(scope="session")
def tiny_model(tiny_detector: DetectorNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of :func:`tiny_detector`."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    settings = tiny_detector.settings.model_dump(mode="json")
    save_checkpoint(path, Checkpoint("detector", settings, tiny_detector.labels, tiny_detector.state_dict()))
    return path


@pytest.fixture(scope="session")
def live_model(tiny_detector: DetectorNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny detector as one that was trained on windows of 3.2 s, so that delays are short."""
    path, detector = tmp_path_factory.mktemp("model") / "live.safetensors", tiny_detector
    settings = detector.settings.model_dump(mode="json")
    save_checkpoint(path, Checkpoint("detector", settings, detector.labels, detector.state_dict(), trained_steps=8))
    return path


@pytest.fixture(scope="session")
def write_squares() -> Callable[..., Path]:
    """Write a video of a square that wanders by a seed, at ``fps`` or at stamps of its own."""

    def write(
        path: Path, frames: int, *, seed: int = 0, fps: float = FPS, stamps_s: Sequence[float] | None = None
    ) -> Path:
        steps = np.random.default_rng(seed).integers(-2, 3, frames).cumsum()
        at_px = [int(x) for x in np.abs(steps) % (SIDE_PX * 3 // 4)]
        write_video(path, square_frames(at_px, seed=seed), fps=fps, stamps_s=stamps_s)
        return path

    return write


@pytest.fixture(scope="session")
def remux() -> Callable[[Path, Path], Path]:
    """Copy the pictures of a video, as they are coded, to another container, and return its file."""

    def copy(video: Path, path: Path) -> Path:
        with av.open(str(video)) as source, av.open(str(path), "w") as out:
            stream = out.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
        return path

    return copy


class Counted(Quiet):
    """Progress that remembers each step, and does something at a certain pair."""

    def __init__(self, at: float = float("inf"), act: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.total, self.unit = 0.0, ""
        self.steps: list[float] = []
        self.notes: list[str] = []
        self._at, self._act, self._works = at, act, False

    def start(self, task: str, *, total: float, unit: str) -> None:
        self.total, self.unit = total, unit
        self.steps, self.notes, self._works = [], [], task == "extract-flow"

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        self.steps.append(amount)
        self.notes.append(note)
        if self._works and sum(self.steps) >= self._at:
            self._at = float("inf")
            self._act()


@pytest.fixture(scope="session")
def counted() -> type[Counted]:
    """Progress that remembers."""
    return Counted


@pytest.fixture(scope="session")
def long_pairs() -> int:
    """Frame pairs of :func:`long_video`: two whole pieces and a part of one."""
    return 2 * PIECE_PAIRS + 77


@pytest.fixture(scope="session")
def long_video(tmp_path_factory: pytest.TempPathFactory, write_squares: Callable[..., Path], long_pairs: int) -> Path:
    """A video that is computed in pieces."""
    return write_squares(tmp_path_factory.mktemp("long") / "long.mp4", long_pairs + 1, fps=100)


@pytest.fixture(scope="session")
def extracted() -> Callable[..., ExtractionResult]:
    """``extract_flow_of`` with small quick settings; words are its own."""

    def call(items: dict[str, Path], out: Path, **chosen: Any) -> ExtractionResult:
        usual = {
            "flow": TemporalGradientSettings(),
            "video": VideoSettings(rate_hz=100.0, height_px=32, width_px=32),
            "device": "cpu",
            "progress": Quiet(),
        }
        return extract_flow_of(items, out, **(usual | chosen))

    return call


@pytest.fixture(scope="session")
def store_content() -> Callable[[Path], dict[str, Any]]:
    """Every dataset and attribute of a store's parts, as lists and types that compare with ``==``."""

    def plain(value: Any) -> Any:
        array = np.asarray(value)
        return (str(array.dtype), array.shape, array.tobytes() if array.dtype != object else str(value))

    def content(path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for part in sorted(path.with_name(f"{path.name}.parts").glob("[!.]*.h5")):
            with h5py.File(part, "r") as file:

                def visit(name: str, item: Any, part: Path = part) -> None:
                    if isinstance(item, h5py.Dataset):
                        found[f"{part.name}/{name}"] = plain(item[()])
                    found.update({f"{part.name}/{name}@{key}": plain(value) for key, value in item.attrs.items()})

                file.visititems(visit)
        return found

    return content
