"""``tadkit detect`` and ``tadkit detect-features``: detections from videos or from their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tadkit.cli.console import TerminalProgress, clock, print_line, print_note, print_table, show_error
from tadkit.cli.options import (
    PATH,
    device_option,
    engine_option,
    example,
    recursive_option,
    refuse_output,
    set_option,
    video_scores_option,
)
from tadkit.records import HIGH_CONFIDENCE, Detection, is_shown

if TYPE_CHECKING:
    from tadkit.runtime.engines import EngineChoice

SHOWN_A_VIDEO = 50
STDOUT = Path("-")


@click.command(short_help="Find actions in videos.", epilog=example("tadkit detect examples/room.mp4 --out dets.json"))
@click.argument("videos", nargs=-1, required=True, type=PATH)
@click.option(
    "-o",
    "--out",
    type=PATH,
    metavar="PATH",
    help="Write all detections to this .json, .jsonl or .csv file; - is JSON on stdout.",
)
@click.option("--model", type=PATH, metavar="PATH", help="Detector; by default the bundled one.")
@click.option(
    "--show-score",
    type=click.FloatRange(0, 1),
    help="Lowest score in the table; by default each label's operating point in the model, or "
    f"{HIGH_CONFIDENCE:g} for labels without one. The file also contains lower ones, down to decode.min_score.",
)
@recursive_option
@video_scores_option
@device_option
@engine_option
@set_option
@click.pass_context
def detect(
    ctx: click.Context,
    videos: tuple[Path, ...],
    recursive: bool,
    out: Path | None,
    model: Path | None,
    show_score: float | None,
    video_scores: Path | None,
    device: str,
    engine: EngineChoice,
    overrides: tuple[str, ...],
) -> None:
    """Find actions in VIDEOS: files, or folders of them.

    Prints the high-confidence detections; --out writes all of them. --set changes settings under decode, video.reader
    and video.fallback_fps; the model determines all others. Failed videos are reported on stderr; the rest are still
    processed, and the exit code is that of the first failure.
    """
    from tadkit.config.loading import load_sections, parse_overrides
    from tadkit.detection.detections import written_suffix

    load_sections(overrides, "decode", "video")
    from tadkit.video.discovery import videos_in

    paths = videos_in(videos, recursive=recursive)
    if out is not None and out != STDOUT:
        refuse_output(out, *paths, model, video_scores)
        written_suffix(out)
    from tadkit.detection.detect import load_detector

    with TerminalProgress() as progress:
        detector = load_detector(model, device=device, engine=engine, overrides=parse_overrides(overrides))
        print_note(f"engine: {detector.engine_name}")
        found = detector.detect(paths, video_scores=video_scores, on_error="collect", progress=progress)
    if out == STDOUT:
        click.echo(found.to_json(), nl=False)
    else:
        if out is not None and found:
            found.write(out)
        points = found.origin.get("operating_points", {}) if show_score is None else {}
        otherwise = HIGH_CONFIDENCE if show_score is None else show_score
        _print_detections(found, points=points, otherwise=otherwise, file=out)
    for error in found.failed.values():
        show_error(error)
    ctx.exit(next((error.exit_code for error in found.failed.values()), 0))


def _print_detections(
    detections: Mapping[str, Sequence[Detection]],
    *,
    points: Mapping[str, float],
    otherwise: float,
    file: Path | None,
) -> None:
    """Print the high-confidence detections in order of time, and the number of all others."""
    rows, total, cut = [], 0, 0
    for video, found in detections.items():
        total += len(found)
        high = [d for d in found if is_shown(d, points, otherwise=otherwise)]
        shown = sorted(high, key=lambda d: -d.score)[:SHOWN_A_VIDEO]
        cut += len(high) - len(shown)
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
    if file is not None and detections:
        print_line(f"{file}: {total} detections" + (f", {more} more than shown" if more else ""))
    elif more:
        print_line(f"{more} more are not shown; --out PATH writes all of them")


@click.command(
    short_help="Find actions in stored features.",
    epilog=example("tadkit detect-features features.h5 --head head.safetensors --out dets.json"),
)
@click.argument("features", type=PATH)
@click.option(
    "--head", type=PATH, metavar="PATH", required=True, help="Head or detector, trained on features or imported."
)
@click.option(
    "-o",
    "--out",
    type=PATH,
    metavar="PATH",
    required=True,
    help="Write detections to this .json, .jsonl or .csv file; - is JSON on stdout.",
)
@video_scores_option
@device_option
@set_option
def detect_features(
    features: Path, head: Path, out: Path, video_scores: Path | None, device: str, overrides: tuple[str, ...]
) -> None:
    """Find actions in the videos of FEATURES, a store of tadkit import features.

    The head or detector comes from tadkit run with a recipe of features, or from tadkit import head. A detector reads
    the RGB stream alone. --set changes settings under decode, of a detector its own.
    """
    from tadkit.config.loading import load_sections, parse_overrides
    from tadkit.detection.detections import written_suffix

    if str(out) != "-":
        refuse_output(out, features, head, video_scores)
        written_suffix(out)
    load_sections(overrides, "decode")
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
    if str(out) == "-":
        click.echo(found.to_json(), nl=False)
        return
    found.write(out)
    total, videos = sum(len(detections) for detections in found.values()), len(found)
    print_line(f"{out}: {total} detections in {videos} video{'s' * (videos != 1)}")
