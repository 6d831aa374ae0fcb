"""``tadkit bench``: accuracy and speed of parts of tadkit, compared with alternatives."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tadkit.cli.console import TerminalProgress, print_line, print_table
from tadkit.cli.options import PATH, InOrder, device_option, engine_option, example

if TYPE_CHECKING:
    from tadkit.bench.flow import FlowBenchmark, MethodFigures
    from tadkit.flow.truth import FlowError
    from tadkit.runtime.engines import EngineChoice


@click.group(cls=InOrder, epilog=example("tadkit bench flow --rounds 1"))
def bench() -> None:
    """Measure accuracy and cost on this machine."""


class _Size(click.ParamType[tuple[int, int]]):
    """WIDTHxHEIGHT in pixels."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Parse to (width, height)."""
        if isinstance(value, tuple):
            return value
        width, _, height = str(value).partition("x")
        if not (width.isdecimal() and height.isdecimal()):
            self.fail(f"'{value}' is not a size in pixels; expected WIDTHxHEIGHT, such as 340x256", param, ctx)
        return int(width), int(height)


@bench.command(
    short_help="Compare optical flow methods.",
    epilog=example(
        "tadkit bench flow --rounds 1 --threads 1 --method tvl1-fast --method opencv-tvl1 --method opencv-dis",
        "tadkit bench flow --truth chairs --json",
        "tadkit bench flow --truth chairs --video examples/room.mp4 --method tvl1-fast --method opencv-tvl1",
    ),
)
@click.option(
    "--truth",
    type=PATH,
    metavar="DIR",
    help="Folder of frame pairs <id>_img1.ppm, <id>_img2.ppm (or .png, .jpg) with ground truth <id>_flow.flo. By "
    "default 48 synthetic pairs are measured, on which no setting was chosen.",
)
@click.option(
    "--video", type=PATH, metavar="PATH", help="Also measure on adjacent frames from the middle of this video."
)
@click.option("--pairs", type=click.IntRange(min=1), default=32, show_default=True, help="Frame pairs of the video.")
@click.option(
    "--size",
    type=_Size(),
    default="340x256",
    show_default=True,
    metavar="WIDTHxHEIGHT",
    help="Size to which the decoder scales the video.",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    help="Only this method, such as tvl1-fast or opencv-tvl1. May be repeated; by default all except RAFT.",
)
@click.option("--with-raft", is_flag=True, help="Add both RAFT networks; without weights only their speed is measured.")
@click.option("--raft-small-weights", type=PATH, metavar="PATH", help="Add raft-small with this state-dict file.")
@click.option("--raft-large-weights", type=PATH, metavar="PATH", help="Add raft-large with this state-dict file.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Timed calls of each method.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of torch and of OpenCV; by default all cores.")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, figures in full precision.")
def flow(
    truth: Path | None,
    video: Path | None,
    pairs: int,
    size: tuple[int, int],
    methods: tuple[str, ...],
    with_raft: bool,
    raft_small_weights: Path | None,
    raft_large_weights: Path | None,
    rounds: int,
    threads: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Compare optical flow methods: end-point error against the ground truth, and milliseconds per pair.

    The error (EPE) is also shown for the pixels of each band of true displacement, such as 1 to 3 px.
    Each ground-truth pair is one call. The frames of a video are one call, so that a method can process many pairs at
    once; they are compared with opencv-tvl1. Methods alternate in each round; figures are medians.
    """
    from tadkit.config import VideoSettings
    from tadkit.config.loading import check_settings

    frames = check_settings(VideoSettings, {"width_px": size[0], "height_px": size[1]}, name="--size")
    from tadkit.bench.flow import RaftName, bench_flow, report_json

    given: dict[RaftName, Path | None] = {"raft-small": raft_small_weights, "raft-large": raft_large_weights}
    with TerminalProgress() as progress:
        result = bench_flow(
            truth,
            video=video,
            methods=methods,
            with_raft=with_raft,
            raft_weights={name: path for name, path in given.items() if path is not None},
            pairs=pairs,
            frames=frames,
            rounds=rounds,
            threads=threads,
            device=device,
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps(report_json(result), indent=1))
    else:
        _print_flow(result)


def _print_flow(result: FlowBenchmark) -> None:
    machine = result.machine
    print_line(
        f"{machine['cpu']}, {machine['device']}, {_counted(result.threads, 'thread')}, torch {machine['torch']}, "
        f"OpenCV {machine['opencv']}, compiler {machine['compiler'] or 'none'}; {_counted(result.rounds, 'round')}"
    )
    sizes = ", ".join(f"{width}x{height}" for height, width in result.sizes_hw)
    print_line()
    print_line(f"{result.truth}: {result.pairs} pairs of {sizes} px, one call per pair")
    from tadkit.flow.truth import BANDS_PX

    bands = [f"{least:g} px on" if math.isinf(most) else f"{least:g}-{most:g} px" for least, most in BANDS_PX]
    _print_methods(result.methods, ("EPE px", *bands, "over 3 px off"), _error_cells)
    if result.video is None:
        return
    seen = result.video
    height, width = seen.size_hw
    print_line()
    print_line(
        f"{seen.video}: {seen.pairs} adjacent pairs of {width}x{height} px from {seen.start_s:.1f} s on at "
        f"{seen.rate_hz:g} Hz, all in one call; difference to opencv-tvl1"
    )
    _print_methods(seen.methods, ("mean px", "median px"), lambda apart: (f"{apart[0]:.3f}", f"{apart[1]:.3f}"))


def _error_cells(error: FlowError) -> Sequence[str]:
    bands = ["-" if epe_px is None else f"{epe_px:.3f}" for epe_px in error.epe_px_by_band]
    return [f"{error.epe_px:.3f}", *bands, f"{error.outliers_over_3px:.1%}"]


def _print_methods(
    methods: Sequence[MethodFigures], quality: Sequence[str], format_quality: Callable[[Any], Sequence[str]]
) -> None:
    headings = ("method", *quality, "ms/pair", "min", "max", "pairs/s", "x opencv-tvl1", "cold s")
    rows = []
    for figures in methods:
        timing, speedup = figures.timing, figures.timing.speedup_over_opencv_tvl1
        rows.append(
            (
                f"{figures.method} (random weights)" if figures.weights == "random" else figures.method,
                *(["-"] * len(quality) if figures.quality is None else format_quality(figures.quality)),
                *(f"{ms:.1f}" for ms in (timing.ms_per_pair, timing.ms_per_pair_min, timing.ms_per_pair_max)),
                f"{timing.pairs_per_s:.1f}",
                "-" if speedup is None else f"{speedup:.2f}",
                f"{timing.cold_s:.2f}",
            )
        )
    print_table(headings, rows, right=headings[1:])


@bench.command(
    short_help="Time the evaluation and suppression.",
    epilog=example("tadkit bench evaluate --videos 20 --rounds 1 --json"),
)
@click.option(
    "--videos", type=click.IntRange(min=1), default=200, show_default=True, help="Number of synthetic videos."
)
@click.option("--detections", type=click.IntRange(min=1), default=200, show_default=True, help="Detections per video.")
@click.option("--classes", type=click.IntRange(min=1), default=20, show_default=True, help="Number of classes.")
@click.option(
    "--candidates", type=click.IntRange(min=1), default=2000, show_default=True, help="Candidates for suppression."
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Timed runs of each.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the synthetic data.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, figures in full precision.")
def evaluate(
    videos: int, detections: int, classes: int, candidates: int, rounds: int, seed: int, as_json: bool
) -> None:
    """Time average precision and soft-NMS against plain loops with the same rules, on synthetic data.

    The results are also checked against those of the loops. Both alternate in each round; figures are medians.
    """
    from tadkit.bench.evaluate import bench_evaluate, report_json

    with TerminalProgress() as progress:
        result = bench_evaluate(
            videos=videos,
            detections=detections,
            classes=classes,
            candidates=candidates,
            rounds=rounds,
            seed=seed,
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps(report_json(result), indent=1))
        return
    print_line(f"{result.machine['cpu']}, {_counted(result.threads, 'thread')} of torch; {_counted(rounds, 'round')}")
    named = {
        f"evaluator: {videos} videos x {detections} detections, {classes} classes": result.evaluator,
        f"soft-NMS: {candidates} candidates in {classes} classes": result.suppression,
    }
    headings = ("work", "tadkit ms", "loop ms", "times faster", "largest difference")
    rows = [
        (
            name,
            f"{1000 * one.tadkit_s:.2f}",
            f"{1000 * one.loop_s:.1f}",
            f"{one.times_faster:.1f}",
            f"{one.largest_difference:.1e}",
        )
        for name, one in named.items()
    ]
    print_table(headings, rows, right=headings[1:])


@bench.command(
    short_help="Time the parts of detection.",
    epilog=example(
        "tadkit bench detect examples/room.mp4 --rounds 1",
        "tadkit bench detect examples/room.mp4 --seconds 10 --rounds 1 --json",
    ),
)
@click.argument("video", type=PATH)
@click.option(
    "--model", "models", multiple=True, metavar="PATH", help="Detector; by default the bundled one. May be repeated."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="How much of the video, from its start.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Timed passes of each model.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of torch; by default all cores.")
@click.option(
    "--two-stream/--no-two-stream", default=True, show_default=True, help="Also time the model's two-stream form."
)
@device_option
@engine_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, figures in full precision.")
def detect(
    video: Path,
    models: tuple[str, ...],
    seconds: float,
    rounds: int,
    threads: int | None,
    two_stream: bool,
    device: str,
    engine: EngineChoice,
    as_json: bool,
) -> None:
    """Time detectors on VIDEO from end to end, and their decoding, flow, backbone, head and suppression.

    decode_fps is the rate at which all frames of the file are decoded and nothing else is done, detect_fps the rate of
    the whole of detection. Memory and cold start (to the detections of the first 10 s) are those of a process of its
    own. Speed is relative to the first model, in the same run; models alternate in each round, and figures are medians.
    A two-stream detector decodes the video twice and computes its flow.

    The first model is also compared with its two-stream form, built of the same nets: with OpenCV's TV-L1
    (two_stream_ratio) and with tadkit's, on the first 30 s.
    """
    from tadkit.bench.detect import PARTS, bench_detect, report_json
    from tadkit.runtime.devices import torch_device
    from tadkit.zoo import BUNDLED

    with TerminalProgress() as progress:
        result = bench_detect(
            video,
            models=models or (BUNDLED,),
            seconds=seconds,
            rounds=rounds,
            threads=threads,
            device=torch_device(device),
            progress=progress,
            engine=engine,
            two_stream=two_stream,
        )
    if as_json:
        click.echo(json.dumps(report_json(result), indent=1))
        return
    machine = result.machine
    print_line(
        f"{machine['cpu']}, {machine['device']}, {_counted(result.threads, 'thread')}, torch {machine['torch']}; "
        f"{result.video}; {_counted(result.rounds, 'round')}"
    )
    rows = [
        (
            name,
            str(it.frames),
            f"{it.frames_per_s:.1f}",
            f"{it.relative:.2f}",
            *(f"{it.shares[part]:.1%}" for part in PARTS),
            it.engine,
            f"{it.detect_fps:.0f}",
        )
        for name, it in result.models.items()
    ]
    headings = ("model", "frames", "frames/s", "times the first", *PARTS, "engine", "detect_fps")
    print_table(headings, rows, right=headings[1:])
    print_line(
        f"decode_fps {result.decode_fps:.0f}, detect_fps {result.detect_fps:.0f} "
        f"({result.detect_fps / result.decode_fps:.0%}); cold start {result.cold_start_s:.1f} s"
        + ("" if result.peak_rss_mb is None else f"; peak memory {result.peak_rss_mb:.0f} MiB")
        + ("" if result.two_stream_ratio is None else f"; {result.two_stream_ratio:.1f} times two-stream")
        + f"; {result.real_time_factor:.0f} s of video a second"
    )
    for method, form in result.two_stream.items():
        how = "" if form.measured else ", estimated"
        print_line(f"two-stream with {method}: detect_fps {form.detect_fps:.1f}, {form.ratio:.1f} times slower{how}")


@bench.command(
    short_help="Time the detection heads.",
    epilog=example("tadkit bench heads --json", "tadkit bench heads --head actionformer --steps 256 --rounds 1"),
)
@click.option("--head", "names", multiple=True, metavar="NAME", help="Only this head. May be repeated.")
@click.option(
    "--steps", type=click.IntRange(64, 65536), default=2304, show_default=True, help="Feature steps per window."
)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Timed runs of each head.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of torch; by default all cores.")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, figures in full precision.")
def heads(names: tuple[str, ...], steps: int, rounds: int, threads: int | None, device: str, as_json: bool) -> None:
    """Time the heads on feature tracks like those of THUMOS14: 2048 channels, 20 classes.

    Measures a forward pass on one track, and a training step on two (forward, losses, backward; no optimiser).
    ActionFormer, TriDet and TemporalMaxer have their authors' sizes. Heads with fixed windows have tadkit's defaults
    and take a track's windows as one batch. Heads alternate in each round; figures are medians.
    """
    from tadkit.bench.heads import bench_heads, report_json
    from tadkit.runtime.devices import torch_device

    with TerminalProgress() as progress:
        result = bench_heads(
            heads=names, steps=steps, rounds=rounds, threads=threads, device=torch_device(device), progress=progress
        )
    if as_json:
        click.echo(json.dumps(report_json(result), indent=1))
        return
    machine = result.machine
    print_line(
        f"{machine['cpu']}, {machine['device']}, {_counted(result.threads, 'thread')}, torch {machine['torch']}; "
        f"windows of {_counted(result.steps, 'step')}, {result.batch} per training step; "
        f"{_counted(result.rounds, 'round')}"
    )
    rows = [
        (
            name,
            *(f"{ms:.0f}" for ms in (it.forward_ms, it.forward_ms_min, it.step_ms, it.step_ms_min)),
            f"{it.parameters:,}",
        )
        for name, it in result.heads.items()
    ]
    headings = ("head", "forward ms", "min", "step ms", "min", "parameters")
    print_table(headings, rows, right=headings[1:])


@bench.command(
    short_help="Time the training stages.",
    epilog=example("tadkit bench training --json", "tadkit bench training --steps 2 --rounds 1"),
)
@click.option(
    "--steps",
    type=click.IntRange(1, 1000),
    default=4,
    show_default=True,
    help="Timed steps per round; 10 times as many for the head.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Timed runs of each stage.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of torch; by default all cores.")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, figures in full precision.")
def training(steps: int, rounds: int, threads: int | None, device: str, as_json: bool) -> None:
    """Time training steps of teacher, student and head at the sizes of examples/room.toml, on synthetic data.

    Also measures the fraction of the time spent waiting for data, and the cost of choosing the windows of a step from
    10,000 videos. Stages alternate in each round; figures are medians. student-kept is the student with
    colour_variants = 1 when the activations of its frozen blocks are all in memory, and -bf16 is mixed precision, left
    out on a CPU that does not multiply bfloat16.
    """
    from tadkit.bench.training import bench_training, report_json
    from tadkit.runtime.devices import torch_device

    with TerminalProgress() as progress:
        result = bench_training(
            steps=steps, rounds=rounds, threads=threads, device=torch_device(device), progress=progress
        )
    if as_json:
        click.echo(json.dumps(report_json(result), indent=1))
        return
    machine, planning = result.machine, result.planning
    print_line(
        f"{machine['cpu']}, {machine['device']}, {_counted(result.threads, 'thread')}, torch {machine['torch']}; "
        f"{_counted(result.steps, 'step')} per round, {_counted(result.rounds, 'round')}"
    )
    rows = [
        (
            name,
            f"{it.batch_windows} x {it.window_frames}",
            *(f"{rate:.3g}" for rate in (it.steps_per_s, it.steps_per_s_min, it.steps_per_s_max)),
            f"{it.waiting_share:.1%}",
        )
        for name, it in result.stages.items()
    ]
    headings = ("stage", "windows x length", "steps/s", "min", "max", "waiting for data")
    print_table(headings, rows, right=headings[1:])
    print_line()
    print_line(f"planning: {planning.ms_per_step:.4f} ms per step with {planning.videos:,} videos")
    if result.peak_memory_mb is not None:
        print_line(f"peak memory: {result.peak_memory_mb:,.0f} MiB")


def _counted(count: int, noun: str) -> str:
    """``1 round``, ``3 rounds``."""
    return f"{count} {noun}" + ("" if count == 1 else "s")
