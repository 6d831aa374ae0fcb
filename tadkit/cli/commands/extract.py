"""``tadkit extract-flow`` and ``tadkit extract-features``, for a recipe or for videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tadkit.cli.commands.stages import run_recipe
from tadkit.cli.console import TerminalProgress, print_line, print_warning, show_error
from tadkit.cli.options import (
    PATH,
    device_option,
    example,
    recursive_option,
    refuse_output,
    set_option,
    workers_options,
)
from tadkit.errors import UsageError

if TYPE_CHECKING:
    from tadkit.extraction.results import ExtractionResult

LEAST_SHOWN = 1e-4
"""Smaller fractions are shown as "under 0.01%"."""


def _is_recipe(sources: tuple[Path, ...]) -> bool:
    return len(sources) == 1 and (sources[0].suffix.lower() == ".toml" or str(sources[0]) == "-")


def _needed(out: Path | None, inputs: list[Path]) -> Path:
    if out is None:
        raise UsageError("videos need an output file, such as --out flow.h5 (a RECIPE.toml needs none)")
    if str(out) == "-":
        raise UsageError("--out -: a store cannot be written to stdout; name a file, such as flow.h5")
    refuse_output(out, *inputs)
    return out


def _refuse(with_recipe: dict[str, Path | None], *, recursive: bool) -> None:
    if recursive:
        raise UsageError("--recursive: only for folders of videos; a recipe names its own videos")
    for option, value in with_recipe.items():
        if value is not None:
            raise UsageError(f"{option} {value}: only for videos; a recipe chooses its own files")


def _one_teacher(teachers: tuple[Path, ...]) -> Path | None:
    if len(teachers) > 1:
        raise UsageError(
            f"--teacher {teachers[1]}: a store has the outputs of one teacher; run tadkit extract-flow for each, or "
            "list the teachers in a recipe"
        )
    return next(iter(teachers), None)


@click.command(
    short_help="Compute optical flow.",
    epilog=example(
        "tadkit extract-flow examples/room.mp4 --out flow.h5 --set flow.method=temporal-gradient",
        "tadkit extract-flow examples/synth.toml",
    ),
)
@click.argument("sources", nargs=-1, required=True, type=PATH)
@click.option("-o", "--out", type=PATH, metavar="PATH", help="HDF5 file for the flow; required for videos.")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    type=PATH,
    metavar="PATH",
    help="Also store this teacher's features and predictions.",
)
@recursive_option
@workers_options
@device_option
@set_option
@click.pass_context
def extract_flow(
    ctx: click.Context,
    sources: tuple[Path, ...],
    out: Path | None,
    teachers: tuple[Path, ...],
    recursive: bool,
    workers: int | None,
    retry_failed: bool,
    device: str,
    overrides: tuple[str, ...],
) -> None:
    """Compute optical flow of SOURCES: one RECIPE.toml, or videos and folders of them.

    Results that exist for the same settings are kept, including parts of a video. Failed videos are listed with the
    reason in OUT.failed.json and skipped until the video or the settings change. With videos, --set changes settings
    under flow and video; with a recipe, any setting. To use several GPUs: --device cuda:0,cuda:1.
    """
    workers, teacher = workers or len(device.split(",")), _one_teacher(teachers)
    if _is_recipe(sources):
        _refuse({"--out": out, "--teacher": teacher}, recursive=recursive)
        run_recipe(
            sources[0],
            only="extract-flow",
            device=device,
            overrides=overrides,
            workers=workers,
            retry_failed=retry_failed,
        )
        return
    from tadkit.config.loading import load_sections
    from tadkit.video.discovery import videos_in

    settings = load_sections(overrides, "flow", "video")
    videos = videos_in(sources, recursive=recursive)
    path = _needed(out, [*videos, *([] if teacher is None else [teacher])])
    from tadkit.extraction.extract_flow import extract_flow as run_extract_flow

    with TerminalProgress() as progress:
        result = run_extract_flow(
            videos,
            path,
            flow=settings["flow"],
            video=settings["video"],
            teacher=teacher,
            device=device,
            progress=progress,
            workers=workers,
            retry_failed=retry_failed,
        )
    ctx.exit(_report(result, path))


@click.command(
    short_help="Compute motion and appearance features.",
    epilog=example(
        "tadkit extract-features examples/room.mp4 --out features.h5", "tadkit extract-features examples/synth.toml"
    ),
)
@click.argument("sources", nargs=-1, required=True, type=PATH)
@click.option("-o", "--out", type=PATH, metavar="PATH", help="HDF5 file for the features; required for videos.")
@click.option("--model", type=PATH, metavar="PATH", help="Student or detector; by default the bundled detector.")
@recursive_option
@device_option
@set_option
@click.pass_context
def extract_features(
    ctx: click.Context,
    sources: tuple[Path, ...],
    out: Path | None,
    model: Path | None,
    recursive: bool,
    device: str,
    overrides: tuple[str, ...],
) -> None:
    """Compute motion and appearance features of SOURCES: one RECIPE.toml, or videos and folders of them.

    Results that exist for the same model are kept. Videos are read with the settings that the model was trained with,
    so --set needs a recipe.
    """
    if _is_recipe(sources):
        _refuse({"--out": out, "--model": model}, recursive=recursive)
        run_recipe(sources[0], only="extract-features", device=device, overrides=overrides)
        return
    if overrides:
        raise UsageError(f"--set {overrides[0]}: videos are read with the settings of the model; --set needs a recipe")
    from tadkit.video.discovery import videos_in

    videos = videos_in(sources, recursive=recursive)
    path = _needed(out, [*videos, *([] if model is None else [model])])
    from tadkit.extraction.extract_features import extract_features as run_extract_features

    with TerminalProgress() as progress:
        result = run_extract_features(videos, path, model=model, device=device, progress=progress)
    ctx.exit(_report(result, path))


def _report(result: ExtractionResult, path: Path) -> int:
    """Print what was extracted, kept, clipped and what failed; returns the exit code of the first failure."""
    print_line(f"{path}: {len(result.done)} extracted, {len(result.reused)} kept, {len(result.failed)} failed")
    for video, share in result.clipped.items():
        if share:
            fraction = f"{share:.2%}" if share >= LEAST_SHOWN else f"under {LEAST_SHOWN:.2%}"
            print_warning(f"{video}: {fraction} of the values clipped at flow.bound_px")
    for error in result.failed.values():
        show_error(error)
    return next((error.exit_code for error in result.failed.values()), 0)
