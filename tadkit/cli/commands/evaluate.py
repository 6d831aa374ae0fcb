"""``tadkit evaluate``: how good detections are, what is wrong with them, and whether others are better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from tadkit.cli.options import PATH, example, or_stdin, refuse_output, refuse_stdin_twice
from tadkit.errors import UsageError

if TYPE_CHECKING:
    from tadkit.evaluation import Counts, Diagnosis, MeanAveragePrecision
    from tadkit.evaluation.evaluate import Comparison, Evaluation


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
@click.option("--analysis", is_flag=True, help="Add types of error, what each costs, and sensitivities (DETAD).")
@click.option(
    "--picture", type=PATH, metavar="PATH", help="Draw the analysis as .svg, .png or .pdf; needs tadkit[plot]."
)
@click.option("--compare", type=PATH, metavar="PATH", help="Other detections; a paired bootstrap over the videos.")
@click.option("--resamples", type=click.IntRange(min=1), help="Draws of --compare's bootstrap; by default 1000.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of these draws; by default 0.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, fractions in full precision.")
def evaluate(
    detections: Path,
    annotations: Path,
    protocol: Literal["activitynet", "thumos14"],
    tiou: str,
    subset: str | None,
    analysis: bool,
    picture: Path | None,
    compare: Path | None,
    resamples: int | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Judge DETECTIONS against ANNOTATIONS, both ActivityNet-style JSON.

    Prints average precision in per cent, class by class and on average, and recall; - is stdin.
    """
    from tadkit.evaluation.evaluate import RESAMPLES, parse_tiou, report_json
    from tadkit.evaluation.evaluate import evaluate as judge
    from tadkit.evaluation.picture import check_picture, draw_analysis

    refuse_stdin_twice(DETECTIONS=detections, ANNOTATIONS=annotations, **{"--compare": compare})
    if compare is None and (resamples is not None or seed is not None):
        raise UsageError(
            "--resamples and --seed are of --compare's bootstrap; name the other detections with --compare"
        )
    if picture is not None:
        check_picture(picture)
        refuse_output(picture, detections, annotations, compare, option="--picture")
    result = judge(
        or_stdin(detections),
        or_stdin(annotations),
        protocol=protocol,
        tiou=parse_tiou(tiou),
        subset=subset,
        analysis=analysis or picture is not None,
        compare=compare and or_stdin(compare),
        resamples=resamples or RESAMPLES,
        seed=seed or 0,
    )
    if picture is not None:
        assert result.diagnosis is not None
        draw_analysis(picture, result.diagnosis, title=str(detections))
    if as_json:
        click.echo(json.dumps(report_json(result), indent=1))
    else:
        _print_result(result)
    _tell_left_out(result.precision.counts)


def _print_result(result: Evaluation) -> None:
    _print_precision(result.precision)
    _print_recall(result)
    if result.diagnosis is not None:
        _print_errors(result.diagnosis)
        _print_sensitivities(result.diagnosis)
    if result.comparison is not None:
        _print_comparison(result.comparison, result.precision)


def _print_precision(precision: MeanAveragePrecision) -> None:
    from tadkit.cli.console import print_table

    headings = ["class", *(f"AP@{threshold:g}" for threshold in precision.tiou), "mean"]
    rows = [[label, *_per_cent([*values, values.mean()])] for label, values in precision.per_class.items()]
    rows.append(["mean (mAP)", *_per_cent([*precision.map, precision.average_map])])
    rows.append(["pooled", *_per_cent([*precision.pooled, precision.average_pooled])])
    click.echo(f"average precision in per cent, {precision.protocol} protocol")
    print_table(headings, rows, right=headings[1:])


def _print_recall(result: Evaluation) -> None:
    from tadkit.cli.console import print_table
    from tadkit.evaluation.evaluate import MULTIPLES, PROPOSALS

    headings = ["recall", *(f"@{threshold:g}" for threshold in result.precision.tiou), "mean"]
    rows = [
        [f"Recall@{k}x", *_per_cent([*values, values.mean()])]
        for k, values in zip(MULTIPLES, result.recall_at, strict=True)
    ]
    click.echo("recall in per cent, of each class's best detections")
    print_table(headings, rows, right=headings[1:])
    headings = [*(f"AR@{number}" for number in PROPOSALS), "AUC"]
    row = [*(result.proposals.average_recall_at(number) for number in PROPOSALS), result.proposals.area]
    click.echo("recall in per cent of detections as proposals, whatever their labels, mean over tIoU")
    print_table(headings, [_per_cent(row)], right=headings)


def _print_errors(diagnosis: Diagnosis) -> None:
    from tadkit.cli.console import print_table
    from tadkit.evaluation import ERRORS

    headings = ["tIoU", "", "true positive", *ERRORS]
    rows = []
    for errors in diagnosis.errors:
        rows.append([f"{errors.tiou:g}", "share of best 10G", *_per_cent(list(errors.shares[-1]))])
        rows.append(["", "cost in mAP", "", *_per_cent([errors.costs[name] for name in ERRORS])])
        rows.append(["", "missed actions", *_per_cent([errors.missed]), *[""] * len(ERRORS)])
    click.echo("errors in per cent, among the 10G best detections of a class that has G actions")
    print_table(headings, rows, right=headings[2:])


def _print_sensitivities(diagnosis: Diagnosis) -> None:
    from tadkit.cli.console import print_table

    headings = ["actions by", "group", "up to", "actions", "missed", "normalised mAP"]
    rows = [
        [
            one.respect.removesuffix("_s"),
            group.name,
            "" if group.upper is None else f"{group.upper:g}",
            str(group.actions),
            *("" if value is None else f"{100 * value:.2f}" for value in (group.missed, group.normalised_map)),
        ]
        for one in diagnosis.sensitivities
        for group in one.groups
    ]
    everything = diagnosis.sensitivities[0].normalised_map
    click.echo(f"sensitivity in per cent, mean over tIoU; normalised mAP of all actions {100 * everything:.2f}")
    print_table(headings, rows, right=headings[2:])


def _print_comparison(comparison: Comparison, precision: MeanAveragePrecision) -> None:
    from tadkit.cli.console import print_table

    difference = comparison.difference
    headings = ["mAP at tIoU", "difference", "low", "high", "share better"]
    parts = [*zip((f"{threshold:g}" for threshold in precision.tiou), difference.by_tiou, strict=True)]
    rows = [
        [name, *_per_cent([one.value, one.low, one.high]), f"{one.share_above_zero:.3f}"]
        for name, one in (*parts, ("mean", difference))
    ]
    click.echo(f"mAP minus that of {comparison.other} ({100 * comparison.average_map:.2f}), in points")
    click.echo(
        f"95 % intervals, and share in which it is better, over {comparison.resamples} draws of the videos "
        f"(seed {comparison.seed})"
    )
    print_table(headings, rows, right=headings[1:])


def _tell_left_out(counts: Counts) -> None:
    """What did not count as one would expect, on stderr; nothing is left out in silence."""
    if counts.detections == 0:
        click.echo("tadkit: warning: there is no detection of any label judged, so every figure is 0", err=True)
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
