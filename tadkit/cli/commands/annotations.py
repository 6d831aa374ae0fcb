"""``tadkit data convert``, ``check`` and ``stats``, for existing annotations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from tadkit.annotations.forms import Format, Tool
from tadkit.annotations.presets import PresetName
from tadkit.cli.console import TerminalProgress, print_line, print_note, print_table, print_warning, show_error
from tadkit.cli.options import PATH, POSITIVE, example
from tadkit.errors import AnnotationError, printable

if TYPE_CHECKING:
    from tadkit.annotations.convert import SubsetCounts
    from tadkit.annotations.stats import ClassStats, Stats

FORMATS, TOOLS, PRESETS = get_args(Format), get_args(Tool), get_args(PresetName)


@click.command(
    short_help="Convert annotations of datasets and tools.",
    epilog=example(
        "tadkit data convert thumos_gt.json --out thumos14.json",
        "tadkit data convert labels.boris --videos videos --out annotations.json",
        "tadkit data convert cvat.xml --videos videos --attribute action --out annotations.json",
        "tadkit data convert talk.eaf --tier phase --videos videos --out annotations.json",
        "tadkit data convert examples/room.json --to elan --out elan",
    ),
)
@click.argument("source", type=PATH)
@click.option(
    "--from", "form", type=click.Choice(FORMATS), help="Format of SOURCE; by default detected from its content."
)
@click.option(
    "--to", type=click.Choice(("tadkit", *TOOLS)), default="tadkit", show_default=True, help="Format to write."
)
@click.option("-o", "--out", type=PATH, metavar="PATH", required=True, help="Output file; for elan and cvat a folder.")
@click.option("--subset", "subsets", multiple=True, metavar="NAME", help="Keep only this subset. May be repeated.")
@click.option(
    "--durations", multiple=True, type=PATH, metavar="FILE", help="Durations: CSV of video,seconds, or annotations."
)
@click.option(
    "--videos", type=PATH, metavar="DIR", help="Folder of the videos, for durations, frame times and file names."
)
@click.option("--present-only", is_flag=True, help="Leave out videos that are not in --videos.")
@click.option("--classes", type=PATH, metavar="FILE", help="Class list, for sources that number their classes.")
@click.option("--fps", type=POSITIVE, metavar="HZ", help="Frame rate, for formats that count frames.")
@click.option("--attribute", metavar="NAME", help="CVAT, VIA: attribute with the classes; Label Studio: control.")
@click.option("--rater", metavar="NAME", help="Label Studio: whose labels to use, by number or address.")
@click.option("--tier", "tiers", multiple=True, metavar="NAME", help="ELAN: read only this tier. May be repeated.")
@click.option(
    "--tier-type", "tier_types", multiple=True, metavar="NAME", help="ELAN: read only tiers of this linguistic type."
)
@click.option(
    "--subject", "subjects", multiple=True, metavar="NAME", help="BORIS: read only this subject; ELAN: participant."
)
@click.option("--observation", "observations", multiple=True, metavar="NAME", help="BORIS: read only this observation.")
@click.option(
    "--starts", type=PATH, metavar="FILE", help="CSV of video,start: what the labels' clock shows at the first frame."
)
@click.option("--noun", is_flag=True, help="EPIC-KITCHENS: label by noun, not by verb.")
@click.option("--json", "as_json", is_flag=True, help="Print counts, assumptions and losses as JSON.")
@click.pass_context
def convert(
    ctx: click.Context,
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
    attribute: str | None,
    rater: str | None,
    tiers: tuple[str, ...],
    tier_types: tuple[str, ...],
    subjects: tuple[str, ...],
    observations: tuple[str, ...],
    starts: Path | None,
    noun: bool,
    as_json: bool,
) -> None:
    """Convert annotations in SOURCE, a file or folder, to tadkit's JSON or to an annotation tool's format.

    Subsets are renamed to training, validation and testing (docs/data.md). What is left out or assumed is reported on
    stderr. If labels could not be converted, the others are written and the exit code is 6.

    --tier, --tier-type, --subject and --observation may be repeated, and take patterns with * and ?.
    """
    from tadkit.annotations.convert import convert as run
    from tadkit.annotations.findings import MOST_ERRORS

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
        attribute=attribute,
        rater=rater,
        tiers=tiers,
        tier_types=tier_types,
        subjects=subjects,
        observations=observations,
        starts=starts,
    )
    for remark in result.remarks[:MOST_ERRORS]:
        print_warning(remark)
    if len(result.remarks) > MOST_ERRORS:
        print_warning(f"{len(result.remarks) - MOST_ERRORS} more warnings; --json lists all")
    for loss in result.losses[:MOST_ERRORS]:
        show_error(AnnotationError(loss))
    if len(result.losses) > MOST_ERRORS:
        show_error(AnnotationError(f"{len(result.losses) - MOST_ERRORS} more losses; --json lists all"))
    if form is None:
        print_note(f"{source}: read as {result.form}; use --from to choose another format")
    if as_json:
        counts = {name: asdict(of_subset) for name, of_subset in result.counts.items()}
        said = {"remarks": result.remarks, "losses": result.losses}
        click.echo(json.dumps({"form": result.form, "out": str(out), "subsets": counts, **said}, indent=1))
    else:
        print_line(f"{out}: written" + (f", without {len(result.losses)} losses" if result.losses else ""))
        _print_counts(result.counts)
    ctx.exit(AnnotationError.exit_code if result.losses else 0)


def _print_counts(counts: Mapping[str, SubsetCounts]) -> None:
    headings = ["subset", "videos", "with actions", "instances", "ambiguous", "classes"]
    rows = [
        [name or "(none)", *(str(n) for n in (c.videos, c.with_actions, c.instances, c.ambiguous, c.classes))]
        for name, c in counts.items()
    ]
    print_table(headings, rows, right=headings[1:])


@click.command(
    short_help="Find mistakes in annotations.",
    epilog=example(
        "tadkit data check examples/room.json --videos examples",
        "tadkit data check thumos14.json --videos videos --features features.h5 --preset thumos14",
    ),
)
@click.argument("annotations", nargs=-1, required=True, type=PATH)
@click.option(
    "--videos", type=PATH, metavar="DIR", help="Folder of the videos: checks for missing files, lengths, frame rates."
)
@click.option("--features", type=PATH, metavar="STORE", help="Feature store: checks for missing videos, lengths.")
@click.option(
    "--preset",
    "dataset",
    type=click.Choice(PRESETS),
    help="Compare with this dataset's splits, counts and, if known, classes.",
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
    """Check ANNOTATIONS, one or several JSON files of one dataset, and print one line per mistake.

    Errors are annotations that contradict each other or cannot be used; the exit code is then 6. Warnings do not
    prevent use. More than three warnings of one kind share a line, and errors after the fiftieth are only counted;
    --json lists all.
    """
    from tadkit.annotations.check import check as run
    from tadkit.annotations.findings import lines

    with TerminalProgress() as progress:
        result = run(annotations, videos=videos, features=features, dataset=dataset, progress=progress)
    if as_json:
        findings = [asdict(finding) for finding in result.findings]
        counts = {"videos": result.videos, "errors": result.errors, "warnings": result.warnings}
        click.echo(json.dumps({**counts, "forms": result.forms, "findings": findings}, indent=1))
    else:
        for line in lines(result.findings):
            print_line(line)
        for subset, form in result.forms.items():
            print_line(f"{subset}: counts match {form}")
        print_line(f"{result.videos} videos: {result.errors} errors, {result.warnings} warnings")
    ctx.exit(_WRONG if result.errors else 0)


_WRONG = 6
"""Exit code of wrong annotations (tadkit.errors.AnnotationError)."""


@click.command(
    short_help="Count and measure actions, and propose head settings.",
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
    help="Frames per second (video.rate_hz).",
)
@click.option(
    "--stride", type=click.IntRange(min=1), default=2, show_default=True, help="Frames per step (backbone.stride)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(annotations: Path, subset: str | None, rate_hz: float, stride: int, as_json: bool) -> None:
    """Print counts, lengths and coverage of each class of ANNOTATIONS, and propose a head and window length.

    The proposal is for steps of --stride frames at --rate. The coverage of a class is the fraction of all video time
    that its actions cover. The coverage of an action is the fraction of its video, shown in the groups of DETAD.
    """
    from tadkit.annotations.stats import stats as run

    result = run(annotations, subset=subset, rate_hz=rate_hz, stride=stride)
    if as_json:
        click.echo(json.dumps(asdict(result), indent=1))
    else:
        _print_stats(result)


def _print_stats(result: Stats) -> None:
    headings = ["class", "actions", "videos", "shortest s", "median s", "longest s", "coverage %"]
    rows = [_stats_row(label, of_class) for label, of_class in result.per_class.items()]
    print_line(f"{result.videos} videos, {result.hours:.2f} hours")
    print_table(headings, [*rows, _stats_row("all", result.total)], right=headings[1:])
    counts = [(printable(label), of_class.instances) for label, of_class in result.per_class.items()]
    width = max(len(label) for label, _ in counts)
    _draw("actions of each class", [(f"{label:<{width}}", count) for label, count in counts])
    _draw("actions by length", [(f"{low:>8g} to {high:<6g} s", count) for low, high, count in result.histogram])
    shares = [(f"{100 * low:>3g} to {100 * high:<3g} %", count) for low, high, count in result.coverage_histogram]
    _draw("actions by coverage, the fraction of the video that one covers", shares)
    fit = result.proposal
    print_line(f"proposal for a step of {fit.step_s:g} s:")
    print_line(f"  head.levels={fit.levels} head.first_range_steps={fit.first_range_steps:g}")
    print_line(f"  train.head.window_s={fit.window_s:g}")
    if fit.too_short:
        print_warning(f"{fit.too_short:.1%} of the actions are shorter than two steps; use smaller steps")


def _draw(title: str, counts: Sequence[tuple[str, int]]) -> None:
    """Print a bar for each count, and a blank line."""
    print_line(f"{title}:")
    most = max(count for _, count in counts)
    for name, count in counts:
        print_line(f"  {name} {count:>7} {'#' * -(-40 * count // most)}".rstrip())
    print_line()


def _stats_row(name: str, of_class: ClassStats) -> list[str]:
    lengths = [f"{s:.2f}" for s in (of_class.shortest_s, of_class.median_s, of_class.longest_s)]
    return [name, str(of_class.instances), str(of_class.videos), *lengths, f"{100 * of_class.coverage:.2f}"]
