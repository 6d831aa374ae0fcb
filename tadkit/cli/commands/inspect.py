"""``tadkit inspect``: what a store holds, and a look at its flow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tadkit.cli.options import PATH, POSITIVE, example, refuse_output
from tadkit.errors import StoreError, UsageError

if TYPE_CHECKING:
    from tadkit.report.inspect import StoreSummary, VideoSummary

MOST_ROWS = 20


@click.command(
    short_help="Tell what a store of flow or features holds.",
    epilog=example(
        "tadkit inspect flow.h5",
        "tadkit inspect flow.h5 --preview flow.mp4 --video room --seconds 16:20",
    ),
)
@click.argument("store", type=PATH)
@click.option("--video", metavar="NAME", help="Only this video.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, all videos, shares as fractions.")
@click.option(
    "--preview",
    type=PATH,
    metavar="PATH",
    help="Show frames beside flow in colour, in place of what is there: .mp4, or a still as .jpg or .png.",
)
@click.option(
    "--source", type=PATH, metavar="PATH", help="With --preview: the original video; looked for near the store if not."
)
@click.option("--seconds", metavar="A:B", help="With --preview: only from A to B; 12: and :20 are fine too.")
@click.option(
    "--full-px",
    type=POSITIVE,
    metavar="PX",
    help="With --preview: motion of the full colour; the 99th percentile of what is shown if not.",
)
@click.pass_context
def inspect(
    ctx: click.Context,
    store: Path,
    video: str | None,
    as_json: bool,
    preview: Path | None,
    source: Path | None,
    seconds: str | None,
    full_px: float | None,
) -> None:
    """Tell what STORE holds: an .h5 file of extract-flow or extract-features, or one part of it.

    What it was made with, how much it is, how much of the motion was clipped, what is missing and what failed. With
    --preview it is shown instead: hue is the direction (red to the right, yellow down, cyan to the left, violet up),
    saturation the speed, as the wheel says; a still shows the moment that moves most.
    """
    if preview is None:
        for option, value in (("--source", source), ("--seconds", seconds), ("--full-px", full_px)):
            if value is not None:
                raise UsageError(f"{option} {value}: goes with --preview PATH")
        ctx.exit(_tell(store, video, as_json))
    if as_json:
        raise UsageError("--json: does not go with --preview; run both one after the other")
    refuse_output(preview, store, source, option="--preview")
    from tadkit.cli.console import TerminalProgress
    from tadkit.report.preview import parse_seconds, write_preview

    span = (None, None) if seconds is None else parse_seconds(seconds)
    with TerminalProgress() as progress:
        result = write_preview(store, video, preview, source=source, seconds=span, full_px=full_px, progress=progress)
    scale = "" if result.full_px is None else f", full colour {result.full_px:.3g} px"
    click.echo(f"{result.out}: {result.pairs} frame pair{'s' * (result.pairs != 1)} of '{result.video}'{scale}")


def _tell(store: Path, video: str | None, as_json: bool) -> int:
    from tadkit.report.inspect import inspect_store, summary_json

    summary = inspect_store(store, video=video)
    if as_json:
        click.echo(json.dumps(summary_json(summary), indent=1))
    else:
        _print_summary(summary)
        _print_videos(summary)
        if video is not None:
            _print_tracks(summary.videos[0])
    _warn(summary)
    return StoreError.exit_code if summary.problems else 0


def _print_summary(summary: StoreSummary) -> None:
    from tadkit.cli.console import print_table

    size = "" if summary.size_hw is None else f"{summary.size_hw[1]} x {summary.size_hw[0]} px (width x height)"
    rate = "" if summary.rate_hz is None else f"{summary.rate_hz:g} frames a second"
    unit = "frames" if summary.kind == "flow" else "steps"
    each = "" if summary.bytes_per_minute is None else f", {_megabytes(summary.bytes_per_minute)} a minute of video"
    rows = [
        ("kind", f"{summary.kind}, format version {summary.version}, by {summary.producer}"),
        ("method", summary.method or "not said"),
        ("settings", _settings(summary)),
        ("looked at", ", ".join(text for text in (size, rate) if text) or "not said"),
        ("code", "; ".join(summary.codes) or "nothing stored"),
        ("labels", ", ".join(summary.labels or ())),
        ("holds", f"{_count(len(summary.videos), 'video')}, {summary.frames} {unit}, {summary.minutes:.1f} minutes"),
        ("takes", f"{_megabytes(summary.bytes)}{each}"),
        ("clipped", "" if summary.clipped is None else f"{summary.clipped:.3%} of the values"),
    ]
    print_table([str(summary.path), ""], [row for row in rows if row[1]])


def _settings(summary: StoreSummary) -> str:
    """The method's own settings in one line."""
    flow = summary.settings.get("flow")
    pairs = flow.items() if isinstance(flow, dict) else ()
    return ", ".join(f"{name} {value}" for name, value in pairs if name != "method" and value is not None)


def _print_videos(summary: StoreSummary) -> None:
    from tadkit.cli.console import clock, print_table

    headings = ["video", "length", "frames" if summary.kind == "flow" else "steps", "size", "clipped", "state"]
    rows = [
        [
            video.name,
            "" if video.duration_s is None else clock(video.duration_s),
            str(video.frames),
            _megabytes(video.bytes),
            "" if video.clipped is None else f"{video.clipped:.3%}",
            _state(video),
        ]
        for video in summary.videos[:MOST_ROWS]
    ]
    if rows:
        print_table(headings, rows, right=headings[1:5])
    if len(summary.videos) > MOST_ROWS:
        more = len(summary.videos) - MOST_ROWS
        click.echo(f"{more} more are not shown; --video NAME tells of one of them, --json of all")


def _print_tracks(video: VideoSummary) -> None:
    from tadkit.cli.console import print_table

    headings = ["track", "type", "shape", "bound", "size"]
    rows = [
        [
            track.name,
            track.dtype,
            " x ".join(map(str, track.shape)),
            "" if track.bound is None else f"{track.bound:g}",
            _megabytes(track.stored_bytes),
        ]
        for track in video.tracks
    ]
    print_table(headings, rows, right=["bound", "size"])


def _state(video: VideoSummary) -> str:
    if video.problem is not None:
        return "cannot be used"
    return "made with other settings" if video.other_settings else "whole"


def _warn(summary: StoreSummary) -> None:
    """What is missing or half done, on stderr."""
    remarks = [*summary.problems, *(f"'{name}' failed: {why}" for name, why in summary.quarantined.items())]
    if other := sum(video.other_settings for video in summary.videos):
        remarks.append(f"{_count(other, 'video')} made with other settings than the last ones")
    if summary.unlinked:
        remarks.append(f"{_count(len(summary.unlinked), 'part')} not in the index; the next extraction links them")
    if summary.unfinished:
        remarks.append(f"{_count(len(summary.unfinished), 'video')} begun and not complete; extract again to go on")
    for remark in remarks:
        click.echo(f"tadkit: warning: {remark}", err=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
