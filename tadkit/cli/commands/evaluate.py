"""``tadkit evaluate`` and ``tadkit operating-points``: the accuracy of detections, and what a detector shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tadkit.cli.console import print_line, print_table, print_warning
from tadkit.cli.options import (
    PATH,
    SettingChoice,
    SettingOption,
    example,
    or_stdin,
    refuse_output,
    refuse_stdin_twice,
)
from tadkit.errors import UsageError
from tadkit.records import HIGH_CONFIDENCE, THUMOS14_TIOU

if TYPE_CHECKING:
    from tadkit.config import Protocol
    from tadkit.detection.operating_points import ShownByModel
    from tadkit.evaluation import Counts, Diagnosis, MeanAveragePrecision
    from tadkit.evaluation.evaluate import Comparison, Evaluation


@click.command(
    short_help="Evaluate detections against annotations.",
    epilog=example("tadkit evaluate dets.json examples/room.json --tiou 0.1:0.1:0.5"),
)
@click.argument("detections", type=PATH)
@click.argument("annotations", type=PATH)
@click.option(
    "--protocol",
    cls=SettingOption,
    setting="EvaluationSettings.protocol",
    type=SettingChoice("EvaluationSettings.protocol"),
)
@click.option(
    "--tiou",
    metavar="LIST",
    default=THUMOS14_TIOU,
    show_default=True,
    help="Thresholds: first:step:last, or a list such as 0.5,0.75.",
)
@click.option("--subset", metavar="NAME", help="Evaluate only videos of this subset.")
@click.option("--analysis", is_flag=True, help="Add types of errors, the cost of each, and sensitivities (DETAD).")
@click.option(
    "--picture", type=PATH, metavar="PATH", help="Draw the analysis as .svg, .png or .pdf; needs tadkit[plot]."
)
@click.option(
    "--compare", type=PATH, metavar="PATH", help="Compare with these detections, by a paired bootstrap over the videos."
)
@click.option(
    "--resamples", type=click.IntRange(min=1), help="With --compare: number of bootstrap resamples; by default 1000."
)
@click.option("--seed", type=click.IntRange(min=0), help="With --compare: seed of the bootstrap; by default 0.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, fractions in full precision.")
def evaluate(
    detections: Path,
    annotations: Path,
    protocol: Protocol,
    tiou: str,
    subset: str | None,
    analysis: bool,
    picture: Path | None,
    compare: Path | None,
    resamples: int | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Evaluate DETECTIONS against ANNOTATIONS, both ActivityNet-style JSON.

    Prints average precision in per cent, per class and on average, and recall. - reads from stdin.
    """
    from tadkit.evaluation.evaluate import RESAMPLES, parse_tiou, report_json
    from tadkit.evaluation.evaluate import evaluate as judge
    from tadkit.evaluation.picture import check_picture, draw_analysis

    refuse_stdin_twice(DETECTIONS=detections, ANNOTATIONS=annotations, **{"--compare": compare})
    if compare is None and (resamples is not None or seed is not None):
        raise UsageError("--resamples and --seed need --compare PATH, which names the other detections")
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
    _warn(result.precision.counts)


def _print_result(result: Evaluation) -> None:
    _print_precision(result.precision)
    _print_recall(result)
    if result.diagnosis is not None:
        _print_errors(result.diagnosis)
        _print_sensitivities(result.diagnosis)
    if result.comparison is not None:
        _print_comparison(result.comparison, result.precision)


def _print_precision(precision: MeanAveragePrecision) -> None:
    headings = ["class", *(f"AP@{threshold:g}" for threshold in precision.tiou), "mean"]
    rows = [[label, *_per_cent([*values, values.mean()])] for label, values in precision.per_class.items()]
    rows.append(["mean (mAP)", *_per_cent([*precision.map, precision.average_map])])
    rows.append(["pooled", *_per_cent([*precision.pooled, precision.average_pooled])])
    print_line(f"average precision in per cent, {precision.protocol} protocol")
    print_table(headings, rows, right=headings[1:])


def _print_recall(result: Evaluation) -> None:
    from tadkit.evaluation.evaluate import MULTIPLES, PROPOSALS

    headings = ["recall", *(f"@{threshold:g}" for threshold in result.precision.tiou), "mean"]
    rows = [
        [f"Recall@{k}x", *_per_cent([*values, values.mean()])]
        for k, values in zip(MULTIPLES, result.recall_at, strict=True)
    ]
    print_line("recall in per cent, of each class's best detections")
    print_table(headings, rows, right=headings[1:])
    headings = [*(f"AR@{number}" for number in PROPOSALS), "AUC"]
    row = [*(result.proposals.average_recall_at(number) for number in PROPOSALS), result.proposals.area]
    print_line("recall in per cent of detections as class-agnostic proposals, mean over tIoU")
    print_table(headings, [_per_cent(row)], right=headings)


def _print_errors(diagnosis: Diagnosis) -> None:
    from tadkit.evaluation import ERRORS

    headings = ["tIoU", "", "true positive", *ERRORS]
    rows = []
    for errors in diagnosis.errors:
        rows.append([f"{errors.tiou:g}", "share of best 10G", *_per_cent(list(errors.shares[-1]))])
        rows.append(["", "cost in mAP", "", *_per_cent([errors.costs[name] for name in ERRORS])])
        rows.append(["", "missed actions", *_per_cent([errors.missed]), *[""] * len(ERRORS)])
    print_line("errors in per cent, among the 10G best detections of a class that has G actions")
    print_table(headings, rows, right=headings[2:])


def _print_sensitivities(diagnosis: Diagnosis) -> None:
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
    print_line(f"sensitivity in per cent, mean over tIoU; normalised mAP of all actions {100 * everything:.2f}")
    print_table(headings, rows, right=headings[2:])


def _print_comparison(comparison: Comparison, precision: MeanAveragePrecision) -> None:
    difference = comparison.difference
    headings = ["mAP at tIoU", "difference", "low", "high", "better"]
    parts = [*zip((f"{threshold:g}" for threshold in precision.tiou), difference.by_tiou, strict=True)]
    rows = [
        [name, *_per_cent([one.value, one.low, one.high]), f"{one.share_above_zero:.3f}"]
        for name, one in (*parts, ("mean", difference))
    ]
    print_line(f"mAP minus the mAP of {comparison.other} ({100 * comparison.average_map:.2f}), in points")
    print_line(
        f"95 % intervals, and fraction in which it is better, over {comparison.resamples} resamples of the videos "
        f"(seed {comparison.seed})"
    )
    print_table(headings, rows, right=headings[1:])


def _warn(counts: Counts) -> None:
    """Warn of everything that was left out or counted in an unexpected way."""
    if counts.detections == 0:
        print_warning("no detection has a label of the annotations, so every figure is 0")
    names = ", ".join(counts.unknown_label_names)
    remarks = (
        (counts.missing_videos, "videos of the annotations have no detections; their actions count as missed"),
        (
            counts.unknown_videos,
            "videos with detections are not evaluated; their detections are false positives",
        ),
        (counts.unknown_labels, f"detections are left out, because no annotation has their label: {names}"),
        (counts.truths_without_length, "annotations have zero length; nothing can match them"),
        (counts.ambiguous, "annotations are ambiguous: activitynet drops them, thumos14 ignores detections there"),
    )
    for count, remark in remarks:
        if count:
            print_warning(f"{count} {remark}")


def _per_cent(values: list[float]) -> list[str]:
    return [f"{100 * value:.2f}" for value in values]


@click.command(
    "operating-points",
    short_help="Show or choose from which scores a detector shows detections.",
    epilog=example(
        "tadkit operating-points",
        "tadkit operating-points --annotations examples/room.json --detections dets.json",
    ),
)
@click.argument("model", type=PATH, required=False)
@click.option("--annotations", type=PATH, metavar="PATH", help="Ground truth of the videos in --detections.")
@click.option("--detections", type=PATH, multiple=True, metavar="PATH", help="Detections file. May be repeated.")
@click.option(
    "--tiou",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="Least overlap of a right detection with its action.",
)
@click.option(
    "-o",
    "--out",
    type=PATH,
    metavar="PATH",
    help="Choose operating points from the detections, and write the detector with them to this file.",
)
def operating_points(
    model: Path | None, annotations: Path | None, detections: tuple[Path, ...], tiou: float, out: Path | None
) -> None:
    """Print from which score MODEL, by default the bundled detector, shows the detections of each label.

    With --annotations and --detections, also prints how many of the shown detections are right and how many actions
    are found, in per cent. With --out, chooses for each label the score of the best F1; the detections must then come
    from a model that was not trained on their videos, such as those of a run's held-out videos. tadkit run does this by
    itself where train.head.groups is set.
    """
    if (annotations is None) != (not detections):
        missing = "--annotations" if annotations is None else "--detections"
        raise UsageError(f"{missing} PATH: needed, because the other of --annotations and --detections is given")
    if out is not None:
        if annotations is None:
            raise UsageError(f"--out {out}: needs --annotations and --detections to choose from")
        refuse_output(out, model, annotations, *detections)
    from tadkit.detection.operating_points import operating_points as points_of

    _print_shown(points_of(model, annotations=annotations, detections=detections, tiou=tiou, out=out))
    if out is not None:
        print_line(f"written to {out}")


def _print_shown(shown: ShownByModel) -> None:
    default = f"{HIGH_CONFIDENCE:.2f} (default)"
    own = [(label, f"{shown.points[label]:.2f}" if label in shown.points else default) for label in shown.labels]
    if not shown.after:
        print_table(("label", "shown from"), own, right=("shown from",))
        return
    headings = ["label", "actions", "from", "shown", "precision", "recall"]
    rows = []
    for label, _ in own:
        for part in dict.fromkeys((shown.before[label], shown.after[label])):
            figures = (f"{part.score:.2f}", str(part.detections), f"{part.precision:.1%}", f"{part.recall:.1%}")
            rows.append((label, str(part.actions), *figures))
    print_table(headings, rows, right=headings[1:])
