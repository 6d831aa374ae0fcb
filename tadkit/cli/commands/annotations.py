"""``tadkit data convert``, ``check`` and ``stats``: annotations that exist."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from tadkit.annotations.forms import Format, Tool
from tadkit.annotations.presets import PresetName
from tadkit.cli.options import PATH, POSITIVE, example

if TYPE_CHECKING:
    from tadkit.annotations.convert import SubsetCounts
    from tadkit.annotations.stats import ClassStats, Stats

FORMATS, TOOLS, PRESETS = get_args(Format), get_args(Tool), get_args(PresetName)


@click.command(
    short_help="Convert annotations of datasets and tools.",
    epilog=example(
        "tadkit data convert thumos_gt.json --out thumos14.json",
        "tadkit data convert labels.boris --videos videos --out annotations.json",
        "tadkit data convert examples/room.json --to elan --out elan",
    ),
)
@click.argument("source", type=PATH)
@click.option("--from", "form", type=click.Choice(FORMATS), help="Form of SOURCE; told from its content by default.")
@click.option("--to", type=click.Choice(("tadkit", *TOOLS)), default="tadkit", show_default=True, help="Form to write.")
@click.option("-o", "--out", type=PATH, metavar="PATH", required=True, help="File; for elan and cvat a folder.")
@click.option("--subset", "subsets", multiple=True, metavar="NAME", help="Keep only this subset. May be given again.")
@click.option("--durations", multiple=True, type=PATH, metavar="FILE", help="CSV of video,seconds, or annotations.")
@click.option("--videos", type=PATH, metavar="DIR", help="Folder of the videos: durations, frame times, file names.")
@click.option("--present-only", is_flag=True, help="Leave out videos that --videos does not have.")
@click.option("--classes", type=PATH, metavar="FILE", help="Class list, for sources that number their classes.")
@click.option("--fps", type=POSITIVE, metavar="HZ", help="Frames a second, for forms in frames.")
@click.option("--noun", is_flag=True, help="EPIC-KITCHENS: label by noun, not by verb.")
@click.option("--json", "as_json", is_flag=True, help="Print counts as JSON.")
def convert(
    source: Path,
    form: Format | None,
    to: str,
    out: Path,
    subsets: tuple[str, ...],
    durations: tuple[Path, ...],
    videos: Path | None,
    present_only: bool,
    classes: Path | None,
    fps: float | None,
    noun: bool,
    as_json: bool,
) -> None:
    """Convert annotations in SOURCE, a file or folder, to tadkit's JSON or to an annotation tool's form.

    Subsets are named training, validation and testing, whatever the source calls them (docs/data.md). What is left out
    or assumed is told on stderr.
    """
    from tadkit.annotations.convert import convert as run

    tool: Tool | None = None if to == "tadkit" else to  # type: ignore[assignment] # click checks it
    result = run(
        source,
        out,
        form=form,
        to=tool,
        subsets=subsets,
        durations=durations,
        videos=videos,
        present_only=present_only,
        classes=classes,
        fps=fps,
        noun=noun,
    )
    for remark in result.remarks:
        click.echo(f"tadkit: warning: {remark}", err=True)
    if form is None:
        click.echo(f"{source}: read as {result.form}; another form is named with --from", err=True)
    if as_json:
        counts = {name: asdict(of_subset) for name, of_subset in result.counts.items()}
        click.echo(json.dumps({"form": result.form, "out": str(out), "subsets": counts}, indent=1))
        return
    click.echo(f"{out}: written")
    _print_counts(result.counts)


def _print_counts(counts: Mapping[str, SubsetCounts]) -> None:
    from tadkit.cli.console import print_table

    headings = ["subset", "videos", "with actions", "instances", "ambiguous", "classes"]
    rows = [
        [name or "(none)", *(str(n) for n in (c.videos, c.with_actions, c.instances, c.ambiguous, c.classes))]
        for name, c in counts.items()
    ]
    print_table(headings, rows, right=headings[1:])


@click.command(
    short_help="Find what is wrong with annotations.",
    epilog=example(
        "tadkit data check examples/room.json --videos examples",
        "tadkit data check thumos14.json --videos videos --features features.h5 --preset thumos14",
    ),
)
@click.argument("annotations", nargs=-1, required=True, type=PATH)
@click.option("--videos", type=PATH, metavar="DIR", help="Folder of the videos: missing files, lengths, frame rates.")
@click.option("--features", type=PATH, metavar="STORE", help="Feature store: missing videos, lengths.")
@click.option(
    "--preset", "dataset", type=click.Choice(PRESETS), help="Compare with its splits, counts, and classes where known."
)
@click.option("--json", "as_json", is_flag=True, help="Print findings as JSON.")
@click.pass_context
def check(
    ctx: click.Context,
    annotations: tuple[Path, ...],
    videos: Path | None,
    features: Path | None,
    dataset: PresetName | None,
    as_json: bool,
) -> None:
    """Check ANNOTATIONS, one or several JSON files that belong together, and say each thing that is wrong in a line.

    Errors contradict themselves or cannot be used, and make the exit code 6; warnings are read as they stand. More than
    three warnings of one kind share a line, and errors after the fiftieth are counted; --json lists all.
    """
    from tadkit.annotations.check import check as run
    from tadkit.annotations.findings import lines
    from tadkit.cli.console import TerminalProgress

    with TerminalProgress() as progress:
        result = run(annotations, videos=videos, features=features, dataset=dataset, progress=progress)
    if as_json:
        findings = [asdict(finding) for finding in result.findings]
        counts = {"videos": result.videos, "errors": result.errors, "warnings": result.warnings}
        click.echo(json.dumps({**counts, "forms": result.forms, "findings": findings}, indent=1))
    else:
        for line in lines(result.findings):
            click.echo(line)
        for subset, form in result.forms.items():
            click.echo(f"{subset}: counts are those of {form}")
        click.echo(f"{result.videos} videos: {result.errors} errors, {result.warnings} warnings")
    ctx.exit(_WRONG if result.errors else 0)


_WRONG = 6
"""The exit code of wrong annotations (tadkit.errors.AnnotationError)."""


@click.command(
    short_help="Lengths, counts and a pyramid that fits.",
    epilog=example("tadkit data stats examples/room.json --rate 5 --stride 1"),
)
@click.argument("annotations", type=PATH)
@click.option("--subset", metavar="NAME", help="Count only this subset.")
@click.option(
    "--rate",
    "rate_hz",
    type=POSITIVE,
    default=10.0,
    show_default=True,
    metavar="HZ",
    help="Frames a second (video.rate_hz).",
)
@click.option(
    "--stride", type=click.IntRange(min=1), default=2, show_default=True, help="Frames a step (backbone.stride)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(annotations: Path, subset: str | None, rate_hz: float, stride: int, as_json: bool) -> None:
    """Print counts, lengths and coverage of each class of ANNOTATIONS, draw them, and propose a head and windows.

    The proposal is for steps of --stride frames at --rate. Coverage of a class is the share of all time in which it
    goes on; that of an action is the share of its video that it takes, drawn in the groups of DETAD.
    """
    from tadkit.annotations.stats import stats as run

    result = run(annotations, subset=subset, rate_hz=rate_hz, stride=stride)
    if as_json:
        click.echo(json.dumps(asdict(result), indent=1))
    else:
        _print_stats(result)


def _print_stats(result: Stats) -> None:
    from tadkit.cli.console import print_table

    headings = ["class", "actions", "videos", "shortest s", "median s", "longest s", "coverage %"]
    rows = [_stats_row(label, of_class) for label, of_class in result.per_class.items()]
    click.echo(f"{result.videos} videos, {result.hours:.2f} hours")
    print_table(headings, [*rows, _stats_row("all", result.total)], right=headings[1:])
    width = max(map(len, result.per_class))
    _draw("actions of each class", [(f"{label:<{width}}", c.instances) for label, c in result.per_class.items()])
    _draw("actions by length", [(f"{low:>8g} to {high:<6g} s", count) for low, high, count in result.histogram])
    shares = [(f"{100 * low:>3g} to {100 * high:<3g} %", count) for low, high, count in result.coverage_histogram]
    _draw("actions by coverage, the share of the video that one takes", shares)
    fit = result.proposal
    click.echo(f"for a step of {fit.step_s:g} s:")
    click.echo(f"  head.levels={fit.levels} head.first_range_steps={fit.first_range_steps:g}")
    click.echo(f"  train.head.window_s={fit.window_s:g}")
    if fit.too_short:
        click.echo(
            f"tadkit: warning: {fit.too_short:.1%} of the actions are shorter than two steps; take smaller steps",
            err=True,
        )


def _draw(title: str, counts: Sequence[tuple[str, int]]) -> None:
    """A bar for each count, and a blank line."""
    click.echo(f"{title}:")
    most = max(count for _, count in counts)
    for name, count in counts:
        click.echo(f"  {name} {count:>7} {'#' * -(-40 * count // most)}".rstrip())
    click.echo()


def _stats_row(name: str, of_class: ClassStats) -> list[str]:
    lengths = [f"{s:.2f}" for s in (of_class.shortest_s, of_class.median_s, of_class.longest_s)]
    return [name, str(of_class.instances), str(of_class.videos), *lengths, f"{100 * of_class.coverage:.2f}"]
