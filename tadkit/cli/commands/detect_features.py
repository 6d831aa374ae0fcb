"""``tadkit detect-features``: from features to detections, by a head alone."""

from __future__ import annotations

from pathlib import Path

import click

from tadkit.cli.options import PATH, device_option, example, refuse_output, set_option, video_scores_option


@click.command(
    short_help="Find actions in features, by a head.",
    epilog=example("tadkit detect-features features.h5 --head head.safetensors --out dets.json"),
)
@click.argument("features", type=PATH)
@click.option("--head", type=PATH, metavar="PATH", required=True, help="Head, trained on features or imported.")
@click.option(
    "-o",
    "--out",
    type=PATH,
    metavar="PATH",
    required=True,
    help="Write detections as JSON, in place of what is there; - is stdout.",
)
@video_scores_option
@device_option
@set_option
def detect_features(
    features: Path, head: Path, out: Path, video_scores: Path | None, device: str, overrides: tuple[str, ...]
) -> None:
    """Find actions in the videos of FEATURES, a store of tadkit import features.

    A head comes from tadkit run on a recipe of features, or from tadkit import head. Settings under decode can be
    --set.
    """
    from tadkit.cli.console import TerminalProgress
    from tadkit.config.loading import load_sections
    from tadkit.records import detections_json, write_detections

    if str(out) != "-":
        refuse_output(out, features, head, video_scores)
    decoding = load_sections(overrides, "decode")["decode"]
    from tadkit.detection.detect_features import detect_features as run_detect_features

    with TerminalProgress() as progress:
        result = run_detect_features(
            features,
            head=head,
            decoding=decoding,
            device=device,
            progress=progress,
            video_scores=video_scores,
        )
    if str(out) == "-":
        click.echo(detections_json(result.detections, external=result.external), nl=False)
        return
    write_detections(out, result.detections, external=result.external)
    total = sum(len(found) for found in result.detections.values())
    videos = len(result.detections)
    click.echo(f"{out}: {total} detections in {videos} video{'s' * (videos != 1)}")
