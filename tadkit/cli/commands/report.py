"""``tadkit report``, a page to look at detections and to correct or make annotations, and ``tadkit suggest``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tadkit.cli.console import TerminalProgress, clock, print_line, print_table, show_error
from tadkit.cli.options import (
    PATH,
    POSITIVE,
    device_option,
    engine_option,
    example,
    or_stdin,
    recursive_option,
    refuse_output,
    refuse_stdin_twice,
)
from tadkit.errors import UsageError

if TYPE_CHECKING:
    from tadkit.runtime.engines import EngineChoice


@click.command(
    short_help="Write a page to look at detections, and to correct or label.",
    epilog=example(
        "tadkit report dets.json --videos examples --truth examples/room.json --out report.html",
        "tadkit report dets.json --videos examples --edit --out correct.html",
        "tadkit report --videos examples --labels walk,fall --edit --out label.html",
    ),
)
@click.argument("detections", type=PATH, required=False)
@click.option("--videos", type=PATH, metavar="DIR", help="Folder of the videos, which the page plays from there.")
@recursive_option
@click.option("--truth", type=PATH, metavar="PATH", help="Annotations to compare with; with --edit, to correct.")
@click.option("--edit", is_flag=True, help="Annotations can be made, corrected and downloaded.")
@click.option("--labels", metavar="A,B", help="With --edit: labels to offer beside those of the files.")
@click.option("-o", "--out", type=PATH, metavar="PATH", required=True, help="The page (.html).")
def report(
    detections: Path | None,
    videos: Path | None,
    recursive: bool,
    truth: Path | None,
    edit: bool,
    labels: str | None,
    out: Path,
) -> None:
    """Write one HTML page with the videos of DETECTIONS, a timeline under each, and score sliders for each label.

    With --truth, the page marks hits, misses and false alarms and has a table of confused labels. With --edit,
    detections can be accepted and corrected and new annotations made; the page downloads them as JSON that tadkit
    reads. Without DETECTIONS it shows the annotations, or with --edit is a tool for labelling.

    The page needs no server and no network; it is a single file, but plays the videos from where they are. Missing
    videos are reported, and listed on the page.
    """
    refuse_stdin_twice(DETECTIONS=detections, **{"--truth": truth})
    refuse_output(out, detections, truth)
    given = [label.strip() for label in (labels or "").split(",") if label.strip()]
    from tadkit.report.report import write_report

    with TerminalProgress() as progress:
        result = write_report(
            out,
            detections=None if detections is None else or_stdin(detections),
            truth=None if truth is None else or_stdin(truth),
            videos=videos,
            recursive=recursive,
            labels=given,
            edit=edit,
            progress=progress,
        )
    counts = [(result.videos, "video"), (result.detections, "detection"), (result.annotations, "annotation")]
    words = ", ".join(f"{count} {noun}{'s' * (count != 1)}" for count, noun in counts if count)
    print_line(f"{result.out}: {words}")


@click.command(
    short_help="Find the stretches that are most worth labelling.",
    epilog=example(
        "tadkit suggest videos --model my.safetensors --annotations annotations.json --out next.json",
        "tadkit suggest --dets dets.json --out next.json",
    ),
)
@click.argument("videos", nargs=-1, type=PATH)
@click.option("--dets", type=PATH, metavar="PATH", help="Detections of the videos, in place of --model.")
@click.option("--model", metavar="NAME|PATH", help="Detector that is unsure; by default the bundled one.")
@click.option("--annotations", type=PATH, metavar="PATH", help="Leave out the videos that these annotations have.")
@click.option("--stretch", type=POSITIVE, default=20.0, show_default=True, metavar="SECONDS", help="Length.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, metavar="N", help="Most stretches.")
@click.option("-o", "--out", type=PATH, metavar="PATH", help="Detections of these videos (.json), for tadkit report.")
@recursive_option
@device_option
@engine_option
@click.pass_context
def suggest(
    ctx: click.Context,
    videos: tuple[Path, ...],
    dets: Path | None,
    model: str | None,
    annotations: Path | None,
    stretch: float,
    top: int,
    out: Path | None,
    recursive: bool,
    device: str,
    engine: EngineChoice,
) -> None:
    """Print the stretches of VIDEOS, files or folders, that a detector would learn most from.

    These are stretches where scores are near the operating points, and where the motion and the appearance branch of
    the student disagree, if it has both, spread over videos and labels. With --dets the branches are not compared.

    tadkit report FILE --edit opens the file of --out at these stretches. Label the whole of a video before you train on
    it: what is not labelled counts as background.
    """
    if dets is not None and model is not None:
        raise UsageError("--dets and --model are given, but detections have been made already; leave out one of them")
    if dets is None and not videos:
        raise UsageError("no videos; name files or folders, or detections with --dets")
    refuse_stdin_twice(**{"--dets": dets, "--annotations": annotations})
    if out is not None:
        refuse_output(out, dets, annotations, *videos)
    from tadkit.detection.suggest import suggest as run_suggest
    from tadkit.video.discovery import named, videos_in

    with TerminalProgress() as progress:
        result = run_suggest(
            named(videos_in(videos, recursive=recursive)),
            detections=None if dets is None else or_stdin(dets),
            model=model,
            labelled=None if annotations is None else or_stdin(annotations),
            stretch_s=stretch,
            count=top,
            out=out,
            device=device,
            engine=engine,
            progress=progress,
        )
    rows = [
        (
            one.video,
            clock(one.start_s),
            clock(one.end_s),
            one.label,
            f"{one.uncertainty:.2f}",
            "" if one.disagreement is None else f"{one.disagreement:.2f}",
        )
        for one in result.stretches
    ]
    if rows:
        headings = ("video", "start", "end", "label", "uncertainty", "disagreement")
        print_table(headings, rows, right=("start", "end", *headings[4:]))
    for error in result.failed.values():
        show_error(error)
    ctx.exit(next((error.exit_code for error in result.failed.values()), 0))
