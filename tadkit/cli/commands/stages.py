"""Training: ``tadkit run`` and its stages, from a recipe, and ``tadkit adapt``, from annotations alone."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tadkit.cli.console import TerminalProgress, print_line, print_table, show_error
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
    from tadkit.recipe.adapt import AdaptResult
    from tadkit.recipe.judge import PairedDifference
    from tadkit.recipe.run import Row, RunResult


def run_recipe(
    path: Path,
    *,
    only: str | None,
    device: str,
    overrides: tuple[str, ...],
    as_json: bool = False,
    workers: int = 1,
    retry_failed: bool = False,
) -> None:
    """Run a recipe, or one stage of it, and print the result."""
    from tadkit.config.loading import load_recipe, parse_recipe

    if str(path) == "-":
        base = Path.cwd()
        recipe = parse_recipe(sys.stdin.read(), name="stdin", overrides=overrides)
    else:
        base = path.parent
        recipe = load_recipe(path, overrides=overrides)
    from tadkit.recipe.run import run as run_stages

    with TerminalProgress() as progress:
        result = run_stages(
            recipe,
            base=base,
            device=device,
            progress=progress,
            only=only,
            workers=workers,
            retry_failed=retry_failed,
        )
    if as_json and result.first:
        click.echo(json.dumps(_as_plain(result), indent=1))
    elif result.first:
        _print_result(result)


def _as_plain(result: RunResult) -> dict[str, object]:
    stages = [{"name": name, "state": state} for name, state in result.stages]
    return {"folder": str(result.folder), "stages": stages, "rows": [asdict(row) for row in result.rows]}


def _print_result(result: RunResult) -> None:
    for name, state in result.stages:
        print_line(f"{name}: {state}")
    if result.rows:
        figures = [f"mAP@{threshold:g}" for threshold in result.rows[0].map]
        headings = ["model", *figures, "mean mAP (95 %)", "pooled AP (95 %)"]
        differences = [row.difference for row in result.rows if row.difference is not None]
        if differences:
            headings.append(f"mAP - {differences[0].baseline} (95 %)")
        cells = [_cells(row) + ([_difference(row.difference)] if differences else []) for row in result.rows]
        print_table(headings, cells, right=headings[1:])
        if any(difference.covers_zero for difference in differences):
            print_line("A difference whose interval covers zero is no evidence that either model is better.")
    print_line(f"written to {result.folder}")
    if result.detector is not None:
        model = shlex.quote(str(result.detector))
        reads = f"detect VIDEO --model {model}"
        if result.features is not None:
            reads = f"detect-features {shlex.quote(str(result.features))} --head {model}"
        print_line(f"try it: tadkit {reads} --out dets.json")


def _cells(row: Row) -> list[str]:
    """Figures in per cent."""
    means = _with_interval(row.average_map, row.map_interval), _with_interval(row.average_pooled, row.pooled_interval)
    name = f"  {row.name}" if ": " in row.name else row.name  # a branch of the row above, or a further teacher
    return [name, *(f"{100 * fraction:.1f}" for fraction in row.map.values()), *means]


def _with_interval(mean: float, bounds: tuple[float, float]) -> str:
    """A figure with its interval, of which a single held-out video has none."""
    low, high = bounds
    return f"{100 * mean:.1f}" + (f" ({100 * low:.1f} to {100 * high:.1f})" if low < high else "")


def _difference(difference: PairedDifference | None) -> str:
    """A paired difference with its interval, in percentage points."""
    if difference is None:
        return ""
    low, high = difference.map_interval
    interval = f" ({100 * low:+.1f} to {100 * high:+.1f})" if low < high else ""
    return f"{100 * difference.average_map:+.1f}{interval}" + (" covers zero" if difference.covers_zero else "")


@click.command(
    short_help="Train and evaluate a detector from a recipe.",
    epilog=example("tadkit run examples/synth.toml", "tadkit run examples/synth.toml --set train.head.epochs=5"),
)
@click.argument("recipe", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print stages and figures as JSON.")
@workers_options
@device_option
@set_option
def run(
    recipe: Path,
    as_json: bool,
    workers: int | None,
    retry_failed: bool,
    device: str,
    overrides: tuple[str, ...],
) -> None:
    """Train a detector from RECIPE and evaluate it on the held-out videos.

    The stages are extract-flow, train-teacher, distill, extract-features and train-head; those that are up to date are
    skipped. A run resumes after being killed. - reads the recipe from stdin.
    """
    run_recipe(
        recipe,
        only=None,
        device=device,
        overrides=overrides,
        as_json=as_json,
        workers=workers or len(device.split(",")),
        retry_failed=retry_failed,
    )


@click.command(short_help="Train the teacher on flow.", epilog=example("tadkit train-teacher examples/synth.toml"))
@click.argument("recipe", type=PATH)
@device_option
@set_option
def train_teacher(recipe: Path, device: str, overrides: tuple[str, ...]) -> None:
    """Train the teacher of RECIPE, a detector that sees motion only, and its further teachers.

    Needs the flow from tadkit extract-flow.
    """
    run_recipe(recipe, only="train-teacher", device=device, overrides=overrides)


@click.command(
    short_help="Train the RGB student on the teacher's outputs.", epilog=example("tadkit distill examples/synth.toml")
)
@click.argument("recipe", type=PATH)
@device_option
@set_option
def distill(recipe: Path, device: str, overrides: tuple[str, ...]) -> None:
    """Train the student of RECIPE, which sees RGB only, on the teacher's outputs.

    Needs the videos and the teacher from tadkit train-teacher. Of a recipe with several teachers it is trained on all,
    unless distill.teachers names others. Sources with labelled = false are used here, too.
    """
    run_recipe(recipe, only="distill", device=device, overrides=overrides)


@click.command(
    short_help="Train the fusion and the joint head.", epilog=example("tadkit train-head examples/synth.toml")
)
@click.argument("recipe", type=PATH)
@device_option
@set_option
def train_head(recipe: Path, device: str, overrides: tuple[str, ...]) -> None:
    """Train the fusion and the joint head of RECIPE, and write the detector to one file.

    Needs the features from tadkit extract-features.
    """
    run_recipe(recipe, only="train-head", device=device, overrides=overrides)


@click.command(
    short_help="Train a detector of your own labels from few videos.",
    epilog=example(
        "tadkit adapt annotations.json --videos videos --out my.safetensors",
        "tadkit adapt annotations.json --videos videos --labels pour,stir --unfreeze --out my.safetensors",
    ),
)
@click.argument("annotations", type=PATH)
@click.option("--videos", type=PATH, metavar="DIR", required=True, help="Folder of the annotated videos.")
@recursive_option
@click.option("-o", "--out", type=PATH, metavar="PATH", required=True, help="The detector (.safetensors).")
@click.option("--model", metavar="NAME|PATH", help="Detector whose student is used; by default the bundled one.")
@click.option("--labels", metavar="A,B", help="Labels to train; by default all of the annotations.")
@click.option(
    "--unfreeze", is_flag=True, help="Train the student further, too: slower, and once for each group of videos."
)
@click.option(
    "--cache", type=PATH, metavar="DIR", help="Folder of features and training; by default OUT with the suffix .adapt."
)
@device_option
@set_option
@click.pass_context
def adapt(
    ctx: click.Context,
    annotations: Path,
    videos: Path,
    recursive: bool,
    out: Path,
    model: str | None,
    labels: str | None,
    unfreeze: bool,
    cache: Path | None,
    device: str,
    overrides: tuple[str, ...],
) -> None:
    """Train a detector of the labels in ANNOTATIONS, from a few videos, in minutes on a CPU.

    The student of a detector is frozen. Its features of the videos are stored, and a new fusion and joint head are
    trained on them. The detector is one file for tadkit detect --model.

    At the end, cross-fitted figures are printed: each group of videos is evaluated by heads that were trained without
    it. Their detections also give the operating points. Annotations come from the page of tadkit report --edit, or from
    tadkit data convert.

    A killed run resumes. After the annotations have changed, the stored features are used again. Failed videos are
    reported, and the others are used.
    """
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: a model file has the suffix .safetensors")
    refuse_output(out, annotations, None if model is None else Path(model))
    given = [label.strip() for label in (labels or "").split(",") if label.strip()]
    from tadkit.recipe.adapt import adapt as run_adapt

    with TerminalProgress() as progress:
        result = run_adapt(
            annotations,
            videos,
            out,
            model=model,
            labels=given,
            recursive=recursive,
            unfreeze=unfreeze,
            cache=cache,
            overrides=overrides,
            device=device,
            progress=progress,
        )
    _print_adapted(result)
    for error in result.failed.values():
        show_error(error)
    ctx.exit(next((error.exit_code for error in result.failed.values()), 0))


def _print_adapted(result: AdaptResult) -> None:
    rows = []
    for label in result.labels:
        shown, ap = label.shown, label.average_precision
        figures = ["", "", "", ""]
        if shown is not None and ap is not None:
            precision = f"{shown.hits} of {shown.detections}"
            figures = [f"{100 * ap:.1f}", f"{shown.score:.2f}", precision, f"{shown.hits} of {shown.actions}"]
        rows.append([label.name, str(label.actions), str(label.videos), *figures])
    headings = ("label", "actions", "videos", "AP", "shown from", "right", "found")
    print_table(headings, rows, right=headings[1:])
    for line in _remarks_on(result):
        print_line(line)
    print_line(f"{result.out}: try it with tadkit detect VIDEO --model {shlex.quote(str(result.out))} --out dets.json")


def _remarks_on(result: AdaptResult) -> list[str]:
    """What the figures of an adapted detector say, and what they do not."""
    lines = []
    if result.row is not None:
        at = sorted(result.row.map)
        mean = _with_interval(result.row.average_map, result.row.map_interval)
        lines.append(f"cross-fitted mAP {mean}, mean over tIoU {at[0]:g} to {at[-1]:g}; interval (95 %) over videos")
        trained = "student and head were" if result.fine_tuned else "the head was"
        counts = f"{sum(map(len, result.groups))} videos in {len(result.groups)} groups"
        lines.append(f"held out: {counts}; {trained} trained without the group that is evaluated")
        student = "" if result.fine_tuned else "the student, which is frozen; "
        lines.append(
            f"not held out: {student}the settings; the scores that are 'shown from', chosen on these detections"
        )
        if usual := [label.name for label in result.labels if label.shown and not label.has_operating_point]:
            lines.append(f"shown from 0.3, too few are right to choose a score: {', '.join(usual)}")
    elif result.videos == 1:
        lines.append("not evaluated: one video cannot be held out; label a second one")
    elif not result.groups:
        lines.append("not evaluated: train.head.groups is 0, or all videos are in one group of the split")
    if alone := [label.name for label in result.labels if label.average_precision is None and len(result.groups) > 1]:
        lines.append(f"not evaluated: {', '.join(alone)}: all actions are in one group; label some in other videos")
    if few := [label.name for label in result.labels if label.actions == 1]:
        lines.append(f"one action only: {', '.join(few)}; it is trained on, but expect little")
    if result.seen:
        count = f"{len(result.seen)} of the videos" if len(result.seen) > 1 else f"'{result.seen[0]}'"
        lines.append(f"too good: the student of {result.model} was trained on {count}, so no figure here is held out")
    return lines
