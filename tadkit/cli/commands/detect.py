"""``tadkit detect``: from videos to detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tadkit.cli.options import PATH, device_option, example, refuse_output, set_option, video_scores_option

if TYPE_CHECKING:
    from tadkit.records import Detection

SHOWN_A_VIDEO = 50
STDOUT = Path("-")


@click.command(short_help="Find actions in videos.", epilog=example("tadkit detect examples/room.mp4 --out dets.json"))
@click.argument("videos", nargs=-1, required=True, type=PATH)
@click.option(
    "-o",
    "--out",
    type=PATH,
    metavar="PATH",
    help="Write all detections as JSON, in place of what is there; - is stdout.",
)
@click.option("--model", type=PATH, metavar="PATH", help="Detector; the bundled one by default.")
@click.option(
    "--show-score",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="Lowest score in the table. The file also holds the less sure ones, down to decode.min_score.",
)
@video_scores_option
@device_option
@set_option
@click.pass_context
def detect(
    ctx: click.Context,
    videos: tuple[Path, ...],
    out: Path | None,
    model: Path | None,
    show_score: float,
    video_scores: Path | None,
    device: str,
    overrides: tuple[str, ...],
) -> None:
    """Find actions in VIDEOS: files, or folders of them.

    Prints a table of the surer detections; with --out, writes all of them as JSON. Settings under decode, and
    video.reader, can be --set; a trained model fixes the others. A video that fails is told on stderr and the others
    are kept; the exit code is then that of the first failure.
    """
    from tadkit.cli.console import TerminalProgress, show_error
    from tadkit.config.loading import load_sections, parse_overrides
    from tadkit.records import detections_json, write_detections

    load_sections(overrides, "decode", "video")
    changes = parse_overrides(overrides)
    from tadkit.video.discovery import videos_in

    paths = videos_in(videos)
    if out is not None and out != STDOUT:
        refuse_output(out, *paths, model, video_scores)
    from tadkit.detection.detect import detect as run_detect

    with TerminalProgress() as progress:
        result = run_detect(
            paths, model=model, device=device, overrides=changes, progress=progress, video_scores=video_scores
        )
    if out == STDOUT:
        click.echo(detections_json(result.detections, external=result.external), nl=False)
    else:
        if out is not None and result.detections:
            write_detections(out, result.detections, external=result.external)
        _print_detections(result.detections, show_score=show_score, file=out)
    for error in result.failed.values():
        show_error(error)
    ctx.exit(next((error.exit_code for error in result.failed.values()), 0))


def _print_detections(detections: Mapping[str, Sequence[Detection]], *, show_score: float, file: Path | None) -> None:
    """The surer detections in the order of time, and how many more there are."""
    from tadkit.cli.console import clock, print_table

    rows, total = [], 0
    for video, found in detections.items():
        total += len(found)
        sure = sorted((d for d in found if d.score >= show_score), key=lambda d: -d.score)[:SHOWN_A_VIDEO]
        for d in sorted(sure, key=lambda d: d.start_s):
            rows.append((video, clock(d.start_s), clock(d.end_s), d.label, f"{d.score:.2f}"))
    if rows:
        print_table(("video", "start", "end", "label", "score"), rows, right=("start", "end", "score"))
    elif detections:
        click.echo(f"no detection scores {show_score:g} or more")
    more = total - len(rows)
    if file is not None and detections:
        click.echo(f"{file}: {total} detections" + (f", {more} more than shown" if more else ""))
    elif more:
        click.echo(f"{more} more are not shown; --out PATH writes all of them")
