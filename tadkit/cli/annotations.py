"""``tadkit data convert``, ``check`` and ``stats``: annotations that exist."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tadkit.cli.options import PATH, example

if TYPE_CHECKING:
    from tadkit.data.formats import Format, Tool
    from tadkit.pipelines.convert import SubsetCounts

TOOLS = ("boris", "elan", "cvat", "label-studio", "via")
FORMATS = (
    "tadkit",
    "activitynet",
    "bmn",
    "hacs",
    "fineaction",
    "thumos14",
    "thumos14-afsd",
    "thumos14-actionformer",
    "thumos14-opentad",
    "multithumos",
    "charades",
    "epic-kitchens",
    "ego4d-mq",
    *TOOLS,
)
"""As in ``tadkit.data.formats``, which help must not load; a test holds the two together."""


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
@click.option("--classes", type=PATH, metavar="FILE", help="Class list, for sources that number their classes.")
@click.option("--fps", type=click.FloatRange(min=0, min_open=True), metavar="HZ", help="Frames a second, for CVAT.")
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
    classes: Path | None,
    fps: float | None,
    noun: bool,
    as_json: bool,
) -> None:
    """Convert annotations in SOURCE, a file or folder, to tadkit's JSON or to an annotation tool's form.

    Subsets are named training, validation and testing, whatever the source calls them (docs/data.md). What is left out
    or assumed is told on stderr.
    """
    from tadkit.pipelines.convert import convert as run

    tool: Tool | None = None if to == "tadkit" else to  # type: ignore[assignment] # click checks it
    result = run(
        source,
        out,
        form=form,
        to=tool,
        subsets=subsets,
        durations=durations,
        videos=videos,
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
