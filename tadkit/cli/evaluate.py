"""``tadkit evaluate``: mean average precision of detections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from tadkit.cli.options import PATH, example, or_stdin

if TYPE_CHECKING:
    from tadkit.evaluation import Counts, MeanAveragePrecision


@click.command(
    short_help="Judge detections against annotations.",
    epilog=example("tadkit evaluate dets.json examples/room.json --tiou 0.1:0.1:0.5"),
)
@click.argument("detections", type=PATH)
@click.argument("annotations", type=PATH)
@click.option(
    "--protocol",
    type=click.Choice(["activitynet", "thumos14"]),
    default="activitynet",
    show_default=True,
    help="Whose rules: the official ActivityNet evaluator's, or the THUMOS14 kit's.",
)
@click.option("--tiou", metavar="LIST", default="0.3:0.1:0.7", show_default=True, help="first:step:last, or 0.5,0.75.")
@click.option("--subset", metavar="NAME", help="Judge only videos of this subset of the annotations.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, fractions in full precision.")
def evaluate(
    detections: Path,
    annotations: Path,
    protocol: Literal["activitynet", "thumos14"],
    tiou: str,
    subset: str | None,
    as_json: bool,
) -> None:
    """Judge DETECTIONS against ANNOTATIONS, both ActivityNet-style JSON.

    Prints average precision in per cent, class by class and on average; - is stdin.
    """
    from tadkit.pipelines.evaluate import evaluate as judge
    from tadkit.pipelines.evaluate import parse_tiou, report_json

    thresholds = parse_tiou(tiou)
    result = judge(or_stdin(detections), or_stdin(annotations), protocol=protocol, tiou=thresholds, subset=subset)
    if as_json:
        click.echo(json.dumps(report_json(result), indent=1))
    else:
        _print_result(result)
    _tell_left_out(result.counts)


def _print_result(result: MeanAveragePrecision) -> None:
    from tadkit.cli.console import print_table

    headings = ["class", *(f"AP@{threshold:g}" for threshold in result.tiou), "mean"]
    rows = [[label, *_per_cent([*values, values.mean()])] for label, values in result.per_class.items()]
    rows.append(["mean (mAP)", *_per_cent([*result.map, result.average_map])])
    rows.append(["pooled", *_per_cent([*result.pooled, result.average_pooled])])
    click.echo(f"average precision in per cent, {result.protocol} protocol")
    print_table(headings, rows, right=headings[1:])


def _tell_left_out(counts: Counts) -> None:
    """What did not count as one would expect, on stderr; nothing is left out in silence."""
    names = ", ".join(counts.unknown_label_names)
    remarks = (
        (counts.missing_videos, "videos of the annotations have no detections; their actions count as missed"),
        (counts.unknown_videos, "videos with detections are not judged; their detections are false positives"),
        (counts.unknown_labels, f"detections have labels that no annotation has, and are left out: {names}"),
        (counts.truths_without_length, "annotations start where they end; nothing can match them"),
        (counts.ambiguous, "annotations are ambiguous: dropped by activitynet, ignored stretches in thumos14"),
    )
    for count, remark in remarks:
        if count:
            click.echo(f"tadkit: warning: {count} {remark}", err=True)


def _per_cent(values: list[float]) -> list[str]:
    return [f"{100 * value:.2f}" for value in values]
