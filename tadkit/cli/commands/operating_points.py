"""``tadkit operating-points``: from which score a detector shows the detections of each label."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tadkit.cli.console import print_line, print_table
from tadkit.cli.options import PATH, example, refuse_output
from tadkit.errors import UsageError
from tadkit.records import HIGH_CONFIDENCE

if TYPE_CHECKING:
    from tadkit.detection.operating_points import ShownByModel


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
