"""``tadkit inspect``: the contents of a store, and a preview of its flow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tadkit.cli.console import TerminalProgress, clock, print_line, print_table, print_warning
from tadkit.cli.options import PATH, POSITIVE, example, refuse_output
from tadkit.errors import StoreError, UsageError

if TYPE_CHECKING:
    from tadkit.report.inspect import StoreSummary, VideoSummary

MOST_ROWS = 20


@click.command(
    short_help="Show the contents of a store of flow or features.",
    epilog=example(
        "tadkit inspect flow.h5",
        "tadkit inspect flow.h5 --preview flow.mp4 --video room --seconds 16:20",
    ),
)
@click.argument("store", type=PATH)
@click.option("--video", metavar="NAME", help="Only this video.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: all videos, fractions instead of per cent.")
@click.option(
    "--preview",
    type=PATH,
    metavar="PATH",
    help="Write frames next to colour-coded flow: a video (.mp4), or one picture (.jpg, .png).",
)
@click.option(
    "--source",
    type=PATH,
    metavar="PATH",
    help="With --preview: the original video; by default searched near the store.",
)
@click.option("--seconds", metavar="A:B", help="With --preview: only from second A to B; 12: and :20 also work.")
@click.option(
    "--full-px",
    type=POSITIVE,
    metavar="PX",
    help="With --preview: motion shown in full colour; by default the 99th percentile.",
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
    """Show the contents of STORE, an .h5 file from extract-flow or extract-features, or one part of it.

    Prints its settings, its size, how much motion was clipped, and what is missing or failed. With --preview, writes a
    picture of the flow instead: hue is the direction (red right, yellow down, cyan left, violet up), saturation the
    speed, as the colour wheel shows. A single picture shows the moment with the most motion.
    """
    if preview is None:
        for option, value in (("--source", source), ("--seconds", seconds), ("--full-px", full_px)):
            if value is not None:
                raise UsageError(f"{option} {value}: needs --preview PATH")
        ctx.exit(_show(store, video, as_json))
    if as_json:
        raise UsageError("--json: cannot be combined with --preview; run the command twice")
    refuse_output(preview, store, source, option="--preview")
    from tadkit.report.preview import parse_seconds, write_preview

    span = (None, None) if seconds is None else parse_seconds(seconds)
    with TerminalProgress() as progress:
        result = write_preview(store, video, preview, source=source, seconds=span, full_px=full_px, progress=progress)
    scale = "" if result.full_px is None else f", full colour {result.full_px:.3g} px"
    print_line(f"{result.out}: {result.pairs} frame pair{'s' * (result.pairs != 1)} of '{result.video}'{scale}")


def _show(store: Path, video: str | None, as_json: bool) -> int:
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
    size = "" if summary.size_hw is None else f"{summary.size_hw[1]} x {summary.size_hw[0]} px (width x height)"
    rate = "" if summary.rate_hz is None else f"{summary.rate_hz:g} frames per second"
    unit = "frames" if summary.kind == "flow" else "steps"
    each = "" if summary.bytes_per_minute is None else f", {_megabytes(summary.bytes_per_minute)} per minute of video"
    rows = [
        ("kind", f"{summary.kind}, format version {summary.version}, by {summary.producer}"),
        ("method", summary.method or "unknown"),
        ("settings", _settings(summary)),
        ("frames", ", ".join(text for text in (size, rate) if text) or "unknown"),
        ("code", "; ".join(summary.codes) or "none"),
        ("labels", ", ".join(summary.labels or ())),
        ("contents", f"{_count(len(summary.videos), 'video')}, {summary.frames} {unit}, {summary.minutes:.1f} minutes"),
        ("size", f"{_megabytes(summary.bytes)}{each}"),
        ("clipped", "" if summary.clipped is None else f"{summary.clipped:.3%} of the values"),
    ]
    print_table([str(summary.path), ""], [row for row in rows if row[1]])


def _settings(summary: StoreSummary) -> str:
    """The method's own settings in one line."""
    flow = summary.settings.get("flow")
    pairs = flow.items() if isinstance(flow, dict) else ()
    return ", ".join(f"{name} {value}" for name, value in pairs if name != "method" and value is not None)


def _print_videos(summary: StoreSummary) -> None:
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
        print_line(f"{more} more are not shown; --video NAME shows one of them, --json all")


def _print_tracks(video: VideoSummary) -> None:
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
        return "unusable"
    return "made with other settings" if video.other_settings else "complete"


def _warn(summary: StoreSummary) -> None:
    """Warn of what is missing or incomplete."""
    remarks = [*summary.problems, *(f"'{name}' failed: {why}" for name, why in summary.quarantined.items())]
    if other := sum(video.other_settings for video in summary.videos):
        remarks.append(f"{_count(other, 'video')} made with other settings than the last ones")
    if summary.unlinked:
        remarks.append(f"{_count(len(summary.unlinked), 'part')} not in the index; the next extraction adds them")
    if summary.unfinished:
        remarks.append(f"{_count(len(summary.unfinished), 'video')} incomplete; extract again to resume")
    for remark in remarks:
        print_warning(remark)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
