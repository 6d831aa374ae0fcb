"""``tadkit report``: a page to look at detections, and to correct or make annotations."""

from __future__ import annotations

from pathlib import Path

import click

from tadkit.cli.console import TerminalProgress, print_line
from tadkit.cli.options import PATH, example, or_stdin, recursive_option, refuse_output, refuse_stdin_twice


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
