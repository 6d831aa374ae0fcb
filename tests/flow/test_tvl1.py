"""TV-L1: the same flow alone or in a batch, and an error that is not above OpenCV's."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch._inductor.exc import InductorError

from tadkit.config import OpencvTvl1Settings, Tvl1Settings
from tadkit.flow import FlowMethod, build_flow, fusing
from tadkit.flow.fusing import Fused
from tadkit.flow.opencv import same_threads
from tadkit.flow.truth import read_truth
from tadkit.flow.tvl1 import Tvl1

Scene = Callable[..., tuple[np.ndarray, np.ndarray]]
CPU = torch.device("cpu")
BORDER_PX = 10
"""Left out: what moves into the picture has no truth in the other frame."""


def inner_error(method: FlowMethod, frames: np.ndarray, truth: np.ndarray) -> float:
    """Mean end-point error in px away from the border."""
    error = np.linalg.norm(method(frames)[0].numpy() - truth, axis=0)
    return float(error[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX].mean())


def random_walk(moving_texture: Scene, pairs: int, size_hw: tuple[int, int] = (53, 97)) -> np.ndarray:
    """Frames that all differ in their motion and in their picture."""
    rng = np.random.default_rng(7)
    shifts = rng.uniform(-2, 2, (pairs, 2))
    return np.concatenate([moving_texture(np.eye(2), shifts[seed], seed, size_hw)[0] for seed in range(pairs)])


@pytest.mark.parametrize("start", ["dis", "zero"])
@pytest.mark.parametrize("batch_pairs", [1, 3, 32])
def test_a_pair_has_the_same_flow_in_any_batch(moving_texture: Scene, start: str, batch_pairs: int) -> None:
    frames = random_walk(moving_texture, 4)
    choice = Tvl1Settings(batch_pairs=batch_pairs, start=start, compile="never")
    together = Tvl1(choice, device=CPU)(frames)
    alone = torch.cat([Tvl1(choice, device=CPU)(frames[k : k + 2]) for k in range(len(frames) - 1)])
    assert together.shape == (7, 2, 53, 97)
    assert torch.equal(together, alone)


@pytest.mark.parametrize("preset", ["fast", "reference"])
def test_flow_does_not_wrap_around_between_pictures(moving_texture: Scene, preset: str) -> None:
    moving, truth = moving_texture(np.eye(2), (2.0, 0.0))
    still = np.zeros_like(moving)
    flow = Tvl1(Tvl1Settings(preset=preset, compile="never"), device=CPU)(np.concatenate([still, moving, still]))
    assert flow[0].abs().max() == 0
    assert flow[4].abs().max() == 0
    assert np.abs(flow[2].numpy() - truth)[:, BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX].mean() < 0.15


def test_a_compiler_changes_the_speed_but_not_the_flow(moving_texture: Scene) -> None:
    frames = random_walk(moving_texture, 2)
    plain = Tvl1(Tvl1Settings(compile="never"), device=CPU)(frames)
    method = Tvl1(Tvl1Settings(), device=CPU)
    fused = method(frames)
    if not method._steps.is_fused:
        pytest.skip("torch.compile does not work on this machine")
    # Between the two pictures nothing matches, and there rounding may tip the scales.
    assert (plain - fused)[[0, 2]].abs().mean() < 1e-4
    alone = torch.cat([Tvl1(Tvl1Settings(), device=CPU)(frames[k : k + 2]) for k in range(3)])
    assert torch.equal(fused, alone)


@pytest.mark.parametrize("compile_it", ["auto", "never"])
def test_threads_change_the_speed_but_not_the_flow(moving_texture: Scene, compile_it: str) -> None:
    frames = random_walk(moving_texture, 1, size_hw=(112, 112))
    flows = []
    for threads in (1, 2):
        with same_threads(threads):
            flows.append(Tvl1(Tvl1Settings(compile=compile_it), device=CPU)(frames))
    assert torch.equal(*flows)


def test_without_a_compiler_it_runs_all_the_same_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> object:
        raise InductorError(RuntimeError("no compiler"), None)

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    monkeypatch.setattr(fusing, "_warned", set())
    for _ in range(2):
        double = Fused(lambda x: 2 * x, compiled=True)
        assert double.is_fused
        assert double(torch.ones(2)).tolist() == [2, 2]
        assert not double.is_fused
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "flow.compile = 'never'" in caplog.text


def test_every_one_of_many_settings_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def counted(graph: torch.fx.GraphModule, _: object) -> object:
        compiled.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counted))

    def powers(count: int) -> Fused[[torch.Tensor], torch.Tensor]:
        def power(x: torch.Tensor) -> torch.Tensor:
            for _ in range(count):
                x = x * x
            return x

        return Fused(power, compiled=True)

    for count in range(1, 21):
        assert powers(count)(torch.full((3,), -1.0)).tolist() == [1, 1, 1]
    assert len(compiled) == 20


def test_short_memory_is_not_taken_for_a_missing_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry() -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    fused = Fused(hungry, compiled=True)
    with pytest.raises(torch.OutOfMemoryError):
        fused()
    assert fused.is_fused


def test_it_runs_all_the_same_where_torch_cannot_keep_what_it_compiles(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    program = (
        "import torch\nfrom tadkit.config import Tvl1Settings\nfrom tadkit.flow import build_flow\n"
        "flow = build_flow(Tvl1Settings(), device=torch.device('cpu'))\n"
        "print(flow(torch.zeros(2, 32, 32, 3, dtype=torch.uint8)).shape)"
    )
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "file" / "cache")}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == "torch.Size([1, 2, 32, 32])\n"
    assert ran.stderr.count("TORCHINDUCTOR_CACHE_DIR") == 1, ran.stderr


def test_settings_of_one_level_without_median_still_find_small_motion(moving_texture: Scene) -> None:
    frames, truth = moving_texture(np.eye(2), (0.6, -0.4))
    choice = Tvl1Settings(scales=1, median_px=1, inner_steps=40, start="zero", compile="never")
    assert inner_error(Tvl1(choice, device=CPU), frames, truth) < 0.1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_and_cpu_agree(moving_texture: Scene) -> None:
    frames = random_walk(moving_texture, 2)
    on_cpu = Tvl1(Tvl1Settings(), device=CPU)(frames)
    on_gpu = Tvl1(Tvl1Settings(), device=torch.device("cuda"))(frames).cpu()
    assert (on_cpu - on_gpu).abs().mean() < 1e-3


def chairs(folder: Path, size_wh: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Frames and true flow (2, height, width) of the three FlyingChairs pairs, at another size."""
    found = []
    for pair in read_truth(folder):
        shrink = size_wh[0] / pair.frames.shape[2]
        frames = [cv2.resize(frame, size_wh, interpolation=cv2.INTER_AREA) for frame in pair.frames]
        truth = [cv2.resize(field, size_wh, interpolation=cv2.INTER_AREA) * shrink for field in pair.flow]
        found.append((np.stack(frames), np.stack(truth)))
    return found


def test_both_presets_on_flying_chairs(shared_data: Path) -> None:
    """At half size: fast within 5 % of OpenCV's error, reference too, and within 0.1 px of its flow for most pixels."""
    errors: dict[str, list[float]] = {"fast": [], "reference": [], "opencv": []}
    medians_px = []
    for frames, truth in chairs(shared_data / "flow", (256, 192)):
        flows = {
            preset: Tvl1(Tvl1Settings(preset=preset, compile="never"), device=CPU)(frames)[0].numpy()
            for preset in ("fast", "reference")
        }
        flows["opencv"] = build_flow(OpencvTvl1Settings(), device=CPU)(frames)[0].numpy()
        for name, flow in flows.items():
            errors[name].append(float(np.linalg.norm(flow - truth, axis=0).mean()))
        medians_px.append(float(np.median(np.linalg.norm(flows["reference"] - flows["opencv"], axis=0))))
    assert np.mean(errors["fast"]) <= 1.05 * np.mean(errors["opencv"])
    assert abs(np.mean(errors["reference"]) / np.mean(errors["opencv"]) - 1) < 0.05
    assert max(medians_px) < 0.1
