"""RGB and flow of one video in two files, with rate and time stamps beside them, as video_features writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.config.loading import load_recipe
from tadkit.interop.feature_files import feature_files, read_features
from tadkit.interop.feature_grid import Grid, placed
from tadkit.interop.feature_streams import feature_sets
from tadkit.interop.import_features import ImportResult, import_features
from tadkit.models.head_file import load_head
from tadkit.progress import Quiet
from tadkit.recipe.run import run
from tadkit.records import Annotation, Dataset, VideoRecord, write_dataset
from tadkit.store import read_store

STACK, FPS = 64, 25.0


def extracted(
    folder: Path,
    name: str,
    steps: int,
    *,
    stride: int = STACK,
    stack: int = STACK,
    fps: float = FPS,
    skip: str = "",
    **other: Any,
) -> None:
    """Files of one video, from steps of ``stack`` frames: the stamp is that of the frame after the stack."""
    folder.mkdir(exist_ok=True)
    after = (np.arange(steps) * stride + stack) / fps * 1000
    files = {
        "rgb": np.full((steps, 3), 1.0),
        "flow": np.full((steps, 2), 2.0),
        "fps": np.array(fps),
        "timestamps_ms": after,
    }
    for key, value in (files | other).items():
        if key not in skip.split():
            np.save(folder / f"{name}_{key}.npy", value)


def imported(tmp_path: Path, progress: Quiet | None = None, **options: Any) -> ImportResult:
    given = {"annotations": None, "stride_frames": None, "clip_frames": None, "fps": None, "channels_first": False}
    return import_features(tmp_path / "in", tmp_path / "f.h5", **(given | options), progress=progress or Quiet())


def test_two_streams_are_two_tracks_of_one_video_and_one_stream_for_training(tmp_path):
    extracted(tmp_path / "in", "kitchen", 7)
    extracted(tmp_path / "in", "bench_2", 9)
    told = Quiet()
    result = imported(tmp_path, told)
    assert (result.videos, result.channels, result.steps, result.failed) == (2, 5, 16, {})
    assert "time stamps give a stride of 64 and clips of 64 frames at 25 per second" in told.warnings[-1]
    with read_store(tmp_path / "f.h5", kind="features") as store:
        assert store.videos() == ["bench_2", "kitchen"]
        assert store.tracks("kitchen") == ["original/appearance", "original/motion"]
        np.testing.assert_array_equal(store.read("kitchen", "original/motion"), np.full((7, 2), 2.0))
        np.testing.assert_array_equal(store.features("kitchen", 2, 4), [[1.0, 1.0, 1.0, 2.0, 2.0]] * 2)
        assert store.feature_channels("kitchen") == 5
        np.testing.assert_allclose(store.stamps_s("kitchen"), (np.arange(7) * 64 + 31.5) / 25)
        assert store.attributes("kitchen")["duration_s"] == pytest.approx(7 * 64 / 25)


@settings(max_examples=60)
@given(st.integers(2, 9), st.integers(1, 40), st.integers(2, 64), st.sampled_from([10.0, 25.0, 29.97]), st.booleans())
def test_steps_lie_at_the_centres_of_the_frames_that_their_clips_have(steps, stride, stack, fps, old):
    """By the extractor's rule: clip k has frames k * stride to k * stride + stack, the last one not included."""
    if old:  # old OpenCV reports the frame after the one just read; told from the stamps where clips do not overlap
        stride = stack
    after = (np.arange(steps) * stride + stack + old) / fps
    clips = [np.arange(k * stride, k * stride + stack) / fps for k in range(steps)]
    found = next(iter(read_features_of(np.ones((steps, 3)), fps, after)))
    stack_option = None if old or stack != stride + 1 else stack
    got = placed(found, "v", None, Grid(None, stack_option, None, rescaled=False, channels_first=False))
    np.testing.assert_allclose(got.stamps_s, [clip.mean() for clip in clips], atol=1e-6)


def read_features_of(values: np.ndarray, fps: float, after_s: np.ndarray):
    from tadkit.interop.feature_files import Found

    said = {"fps": np.array(fps), "timestamps_ms": after_s * 1000}
    yield Found(Path("v_rgb.npy"), "v", values, said).features(channels_first=False)


def test_stamps_of_single_frames_are_those_of_the_frames(tmp_path):
    (tmp_path / "in").mkdir()
    for key, value in {"resnet": np.ones((5, 3)), "fps": np.array(10.0), "timestamps_ms": np.arange(5) * 100.0}.items():
        np.save(tmp_path / "in" / f"kitchen_{key}.npy", value)
    assert imported(tmp_path).failed == {}
    with read_store(tmp_path / "f.h5", kind="features") as store:
        assert store.videos() == ["kitchen"]
        np.testing.assert_allclose(store.stamps_s("kitchen"), np.arange(5) / 10)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"flow": np.ones((6, 2))}, "'bench' has 7 steps and 6 of flow; extract it again"),
        ({"timestamps_ms": np.arange(6) * 100.0}, "'bench' has 7 steps and 6 of time stamps; extract it again"),
        ({"timestamps_ms": np.zeros(7)}, "'bench' has time stamps that do not increase"),
        (
            {"timestamps_ms": np.array([64, 128, 256, 192, 320, 384, 448], np.uint64) * 40},
            "'bench' has time stamps that do not increase",
        ),
        ({"timestamps_ms": np.arange(7) * 1j}, "'bench' has time stamps that are not a list of numbers"),
        ({"timestamps_ms": np.array(["a"] * 7)}, "'bench' has time stamps that are not a list of numbers"),
        ({"skip": "flow fps timestamps_ms"}, "'bench' has no flow beside it, unlike others; extract both"),
        ({"skip": "flow"}, "'bench' has 3 channels, others have 5"),
        ({"skip": "rgb flow"}, "'bench' has the streams none; expected one, or rgb and flow"),
    ],
)
def test_streams_that_do_not_fit_cost_that_video_only(other, said, tmp_path):
    extracted(tmp_path / "in", "a_first", 7)
    extracted(tmp_path / "in", "bench", 7, **other)
    result = imported(tmp_path, stride_frames=64.0, fps=25.0)
    (error,) = result.failed.values()
    assert said in str(error)
    assert result.videos == 1


@pytest.mark.parametrize(
    ("option", "said"), [({"stride_frames": 16.0}, "--stride 16"), ({"clip_frames": 16}, "--clip-frames 16")]
)
def test_options_that_contradict_the_stamps_are_refused(option, said, tmp_path):
    extracted(tmp_path / "in", "kitchen", 7)
    (error,) = imported(tmp_path, **option).failed.values()
    assert said in str(error)


@pytest.mark.parametrize("ending", [True, False])
def test_streams_may_be_in_a_folder_each(ending, tmp_path):
    for stream, channels in (("rgb", 3), ("flow", 2)):
        (tmp_path / "in" / stream).mkdir(parents=True)
        for name in ("kitchen", "bench"):
            file = f"{name}_{stream}.npy" if ending else f"{name}.npy"
            np.save(tmp_path / "in" / stream / file, np.ones((5, channels)))
    result = imported(tmp_path, stride_frames=4.0, fps=25.0)
    assert (result.videos, result.channels, result.failed) == (2, 5, {})
    assert set(result.files) == {"bench", "kitchen"}


def test_a_stream_alone_keeps_its_name(tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "kitchen_rgb.npy", np.ones((5, 3)))
    assert feature_sets(feature_files(tmp_path / "in")).__next__() == tmp_path / "in" / "kitchen_rgb.npy"


@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_both_streams_in_one_file_are_read_and_flow_is_never_dropped(kind, tmp_path):
    path, arrays = tmp_path / f"v.{kind}", {"rgb": np.ones((4, 3)), "flow": np.full((4, 2), 2.0)}
    if kind == "npz":
        np.savez(path, fps=25.0, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[f"v/{name}"] = values
    (found,) = (one.features(channels_first=False) for one in read_features(path))
    assert (found.name, found.channels) == ("v", 5)
    np.testing.assert_array_equal(found.motion, arrays["flow"])


def test_new_flow_is_another_result_although_rgb_is_the_same(tmp_path):
    keys = []
    for level in (1.0, 2.0):
        extracted(tmp_path / "in", "kitchen", 7, flow=np.full((7, 2), level))
        imported(tmp_path)
        with read_store(tmp_path / "f.h5", kind="features") as store:
            keys.append(store.key("kitchen"))
            assert store.read("kitchen", "original/motion")[0, 0] == level
    assert keys[0] != keys[1]


RECIPE = """
name = "streams"
labels = ["jump"]
[[sources]]
kind = "features"
annotations = "annotations.json"
features = "f.h5"
[split]
kind = "subset"
held_out = ["testing"]
[head]
kind = "temporal-maxer"
dim = 16
levels = 2
head_layers = 1
[train.head]
epochs = 100
lr = 5e-3
window_s = 32
[evaluation]
tiou = [0.5]
"""


def test_a_head_learns_from_flow_what_rgb_does_not_show(tmp_path):
    rng, records = np.random.default_rng(0), {}
    for number in range(4):
        name, flow = f"v{number}", rng.normal(0, 0.1, (64, 4))
        for first in (8, 40):
            flow[first : first + 12] += 2.0
        rgb = rng.normal(0, 0.1, (64, 6))
        extracted(tmp_path / "in", name, 64, stride=4, stack=4, fps=8.0, rgb=rgb, flow=flow)
        actions = tuple(Annotation(first * 0.5, first * 0.5 + 6, "jump") for first in (8, 40))
        records[name] = VideoRecord(name, 32.0, "testing" if number > 1 else "training", actions)
    write_dataset(tmp_path / "annotations.json", Dataset(records))
    imported(tmp_path)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    result = run(load_recipe(tmp_path / "recipe.toml"), base=tmp_path, device="cpu", progress=Quiet())
    assert load_head(result.folder / "head.safetensors")[0].in_channels == 10
    assert result.rows[0].average_map > 0.9


def test_whole_milliseconds_of_a_tensor_are_not_rounded(tmp_path):
    stamps_ms = 2**24 + torch.tensor([1, 2, 3, 4])
    torch.save({"features": torch.ones(4, 3), "timestamps_ms": stamps_ms}, tmp_path / "v.pt")
    (found,) = (one.features(channels_first=False) for one in read_features(tmp_path / "v.pt"))
    np.testing.assert_array_equal(found.stamps_s, stamps_ms.numpy() / 1000)
    assert found.values.dtype == np.float32
