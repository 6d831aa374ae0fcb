"""``tadkit detect`` and ``tadkit detect-features``, and ``tadkit data export-detections`` for what they have found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tadkit.cli.console import TerminalProgress, clock, print_line, print_note, print_table, show_error
from tadkit.cli.live import Live, live_options, print_live
from tadkit.cli.options import (
    PATH,
    device_option,
    engine_option,
    example,
    or_stdin,
    recursive_option,
    refuse_output,
    refuse_stdin_twice,
    set_option,
    video_scores_option,
    workers_option,
)
from tadkit.cli.outputs import Outputs, output_options
from tadkit.errors import TadkitError, UsageError
from tadkit.records import HIGH_CONFIDENCE, Detection, is_shown, shown_of

if TYPE_CHECKING:
    from tadkit.detection.detections import VideoDetections
    from tadkit.detection.finished import FinishedVideos
    from tadkit.runtime.engines import EngineChoice

SHOWN_A_VIDEO = 50
STDIN = Path("-")


class Shard(click.ParamType):  # type: ignore[type-arg] # generic in new versions of click only
    """``K/N``: the K-th of N parts."""

    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Parse the two numbers."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)/(\d+)", value)
        number, count = map(int, match.groups()) if match else (0, 0)
        if not 1 <= number <= count:
            self.fail(f"{value!r} is not a shard; expected K/N with K from 1 to N, such as 2/8.", param, ctx)
        return number, count


@click.command(
    short_help="Find actions in videos.",
    epilog=example(
        "tadkit detect examples/room.mp4 --out dets.json",
        "tadkit detect examples/room.mp4 --out dets.json --out room.srt --overlay room-overlay.mp4",
        "tadkit detect --list videos.txt --shard 2/8 --resume --out dets-2.json",
        "tadkit detect --live rtsp://camera.example/1",
    ),
)
@click.argument("videos", nargs=-1, type=PATH)
@output_options(videos=True)
@click.option("--model", type=PATH, metavar="PATH", help="Detector; by default the bundled one.")
@click.option(
    "--list", "lists", type=PATH, multiple=True, metavar="FILE", help="File that lists videos, one path a line."
)
@recursive_option
@click.option(
    "--shard",
    type=Shard(),
    metavar="K/N",
    help="Take every N-th video by name, starting at the K-th; all N shards together cover every video.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Keep the result of each video in the folder PATH.parts beside the first --out, and skip videos that have one "
    "of the same content, model and settings. URLs are always read again.",
)
@live_options
@workers_option("one video")
@video_scores_option
@device_option
@engine_option
@set_option
@click.pass_context
def detect(
    ctx: click.Context,
    videos: tuple[Path, ...],
    outputs: Outputs,
    model: Path | None,
    lists: tuple[Path, ...],
    recursive: bool,
    shard: tuple[int, int] | None,
    resume: bool,
    live: Live,
    workers: int,
    video_scores: Path | None,
    device: str,
    engine: EngineChoice,
    overrides: tuple[str, ...],
) -> None:
    """Find actions in VIDEOS: files, folders of them, or URLs; - is a list of them on stdin.

    Prints the high-confidence detections; --out, --clips and --overlay write them. --set changes settings under decode,
    video.reader and video.fallback_fps; the model determines all others. Failed videos are reported on stderr; the rest
    are still processed, and the exit code is that of the first failure.
    """
    from tadkit.config.loading import load_sections, parse_overrides

    live.refuse(ctx)
    load_sections(overrides, "decode", "video")
    if live.source is not None:
        ctx.exit(_live(live, model, device=device, engine=engine, overrides=overrides, least=outputs.least))
    items = _videos(videos, lists, recursive=recursive, shard=shard)
    outputs.refuse(list(items), inputs=(model, video_scores, *lists), files=items.values())
    finished = _finished(outputs, video_scores) if resume else None
    from tadkit.detection.detect import load_detector
    from tadkit.video.container import url_of

    with TerminalProgress() as progress:
        detector = load_detector(model, device=device, engine=engine, overrides=parse_overrides(overrides))
        if not items or any(path.exists() or url_of(path) for path in items.values()):
            print_note(f"engine: {detector.engine_name}")
        found = detector.detect_named(
            items,
            video_scores=video_scores,
            on_error="collect",
            progress=progress,
            finished=finished,
            workers=workers,
        )
    if outputs.on_stdout:
        click.echo(found.to_json(), nl=False)
    else:
        points = found.origin.get("operating_points", {}) if outputs.least is None else {}
        otherwise = HIGH_CONFIDENCE if outputs.least is None else outputs.least
        limits = {"top": outputs.top, "per_class": outputs.per_class}
        _print_detections(found, points=points, otherwise=otherwise, written=bool(outputs.files), **limits)
    errors = [*found.failed.values(), *(outputs.write(found) if found or not items else [])]
    for error in errors:
        show_error(error)
    if len(items) != 1:
        reused = finished.reused if finished is not None else 0
        _print_summary({"detected": len(found) - reused, "skipped, as done": reused, "failed": len(found.failed)})
    ctx.exit(_exit_code(errors))


def _live(
    live: Live,
    model: Path | None,
    *,
    device: str,
    engine: EngineChoice,
    overrides: tuple[str, ...],
    least: float | None,
) -> int:
    from tadkit.config.loading import parse_overrides
    from tadkit.detection.detect import load_detector

    detector = load_detector(model, device=device, engine=engine, overrides=parse_overrides(overrides))
    print_note(f"engine: {detector.engine_name}")
    return print_live(detector, live, least=least)


def _videos(
    given: tuple[Path, ...], lists: tuple[Path, ...], *, recursive: bool, shard: tuple[int, int] | None
) -> dict[str, Path]:
    """File of each video by name.

    Raises:
        UsageError: no videos, or stdin is named twice.
        VideoError: a folder contains no video.
    """
    from tadkit.video.discovery import listed_videos, named, shard_of, videos_in

    refuse_stdin_twice(**{f"VIDEOS {place}": path for place, path in enumerate((*given, *lists), start=1)})
    sources = [one for path in given for one in (listed_videos(or_stdin(path)) if path == STDIN else [path])]
    sources += [one for path in lists for one in listed_videos(or_stdin(path))]
    if not sources:
        raise UsageError("no videos; name files or folders, or a list of them with --list FILE")
    items = named(videos_in(sources, recursive=recursive))
    return items if shard is None else shard_of(items, *shard)


def _finished(outputs: Outputs, video_scores: Path | None) -> FinishedVideos:
    from tadkit.detection.finished import FinishedVideos
    from tadkit.detection.outputs.forms import PLACE

    if not outputs.files:
        raise UsageError("--resume keeps results beside the file of --out; add --out dets.json")
    first = outputs.files[0]
    folder = first.with_name(f"{first.name.replace(PLACE, 'videos')}.parts")
    refuse_output(folder / "video.json", option="--resume")
    return FinishedVideos(folder, video_scores=video_scores)


def _print_summary(counts: Mapping[str, int]) -> None:
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    print_note(f"{sum(counts.values())} videos" + (f": {said}" if said else ""))


def _exit_code(errors: Sequence[TadkitError]) -> int:
    return errors[0].exit_code if errors else 0


def _print_detections(
    detections: Mapping[str, Sequence[Detection]],
    *,
    points: Mapping[str, float],
    otherwise: float,
    written: bool,
    top: int | None = None,
    per_class: int | None = None,
) -> None:
    """Print the high-confidence detections in order of time, and, unless a file has them, the number of all others."""
    rows, total, cut = [], 0, 0
    for video, found in detections.items():
        total += len(found)
        high = [d for d in found if is_shown(d, points, otherwise=otherwise)]
        chosen = shown_of(high, {}, least=0.0, top=top, per_class=per_class)
        shown = chosen[:SHOWN_A_VIDEO]
        cut += len(chosen) - len(shown)
        for d in sorted(shown, key=lambda d: d.start_s):
            rows.append((video, clock(d.start_s), clock(d.end_s), d.label, f"{d.score:.2f}"))
    if rows:
        print_table(("video", "start", "end", "label", "score"), rows, right=("start", "end", "score"))
    elif detections:
        of_labels = "".join(f"{score:g} ({label}), " for label, score in sorted(points.items()))
        best = max((d.score for found in detections.values() for d in found), default=0.0)
        hint = f"; the best scores {best:.2f} (lower --show-score to see it)" if best else ""
        print_line(f"no detection scores {of_labels}{otherwise:g} or more{hint}")
    if cut:
        print_line(f"the table has the {SHOWN_A_VIDEO} best of each video; {cut} more score as high")
    more = total - len(rows)
    if more and not written:
        print_line(f"{more} more are not shown; --out PATH writes all of them")


@click.command(
    short_help="Find actions in stored features.",
    epilog=example("tadkit detect-features features.h5 --head head.safetensors --out dets.json"),
)
@click.argument("features", type=PATH)
@click.option(
    "--head", type=PATH, metavar="PATH", required=True, help="Head or detector, trained on features or imported."
)
@output_options(videos=False)
@video_scores_option
@device_option
@set_option
@click.pass_context
def detect_features(
    ctx: click.Context,
    features: Path,
    head: Path,
    outputs: Outputs,
    video_scores: Path | None,
    device: str,
    overrides: tuple[str, ...],
) -> None:
    """Find actions in the videos of FEATURES, a store of tadkit import features.

    The head or detector comes from tadkit run with a recipe of features, or from tadkit import head. A detector reads
    the RGB stream alone. --set changes settings under decode, of a detector its own.
    """
    from tadkit.config.loading import load_sections, parse_overrides

    if not outputs.outs:
        raise UsageError("--out is missing; name a file, or - for JSON on stdout")
    load_sections(overrides, "decode")
    outputs.refuse_files(features, head, video_scores)
    from tadkit.store import read_store

    with read_store(features, kind="features") as store:
        names = store.videos()
    outputs.refuse(names, inputs=(features, head, video_scores))
    from tadkit.detection.detect_features import detect_features as run_detect_features

    with TerminalProgress() as progress:
        found = run_detect_features(
            features,
            head=head,
            decoding=parse_overrides(overrides).get("decode", {}),
            device=device,
            progress=progress,
            video_scores=video_scores,
        )
    _write(ctx, found, outputs)


@click.command(
    "export-detections",
    short_help="Write detections in other formats.",
    epilog=example(
        "tadkit data export-detections dets.json --videos examples --out dets.labelstudio.json --clips clips",
        "tadkit data export-detections dets-1.json dets-2.json --out dets.json",
    ),
)
@click.argument("detections", nargs=-1, required=True, type=PATH)
@click.option(
    "--videos", type=PATH, metavar="DIR", help="Folder of the videos, for clips, overlays, cut lists and file names."
)
@output_options(videos=True)
@click.pass_context
def export_detections(ctx: click.Context, detections: tuple[Path, ...], videos: Path | None, outputs: Outputs) -> None:
    """Write DETECTIONS, JSON files of tadkit detect or of other projects, in other formats, without detecting again.

    Several files, such as those of shards, are written as one. Outputs and what is shown are as in tadkit detect.
    """
    from tadkit.detection.from_files import detections_from

    found = detections_from(detections, videos=videos)
    if not (outputs.outs or outputs.clips or outputs.overlay):
        raise UsageError("nothing to write; add --out, --clips or --overlay")
    files = [one.file for one in found.values() if one.file is not None]
    outputs.refuse(list(found), inputs=detections, files=files)
    _write(ctx, found, outputs)


def _write(ctx: click.Context, found: VideoDetections, outputs: Outputs) -> None:
    """Write detections, report what could not be written, and exit."""
    if outputs.on_stdout:
        click.echo(found.to_json(), nl=False)
    errors = outputs.write(found)
    for error in errors:
        show_error(error)
    ctx.exit(_exit_code(errors))
