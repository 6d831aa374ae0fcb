"""``tadkit import``: features and heads that others made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tadkit.cli.options import PATH, POSITIVE, InOrder, example, refuse_output

if TYPE_CHECKING:
    from tadkit.interop.actionformer import Source


@click.group("import", cls=InOrder, epilog=example("tadkit import features i3d --out features.h5 --stride 4 --fps 30"))
def import_() -> None:
    """Bring what others computed or trained."""


@import_.command(
    short_help="Features as a feature store.",
    epilog=example(
        "tadkit import features i3d --out features.h5 --stride 4 --clip-frames 16 --fps 30",
        "tadkit import features i3d --out features.h5 --stride 4 --fps 30 --annotations annotations.json",
    ),
)
@click.argument("source", type=PATH, metavar="DIR")
@click.option("-o", "--out", type=PATH, metavar="PATH", required=True, help="HDF5 file for features.")
@click.option("--annotations", type=PATH, metavar="PATH", help="Annotations whose durations the features must fit.")
@click.option("--stride", type=POSITIVE, metavar="FRAMES", help="Frames between steps.")
@click.option("--clip-frames", type=click.IntRange(min=1), metavar="N", help="Frames a step sees; default: the stride.")
@click.option("--fps", type=POSITIVE, metavar="HZ", help="Frames a second.")
@click.option("--channels-first", is_flag=True, help="Arrays are (channels, steps), not (steps, channels).")
@click.option("--rescaled", is_flag=True, help="Steps lie evenly over the annotated durations, not by --stride.")
@click.pass_context
def features(
    ctx: click.Context,
    source: Path,
    out: Path,
    annotations: Path | None,
    stride: float | None,
    clip_frames: int | None,
    fps: float | None,
    channels_first: bool,
    rescaled: bool,
) -> None:
    """Read features of DIR: one .npy, .npz, .pt, .csv or .h5 a video, or one .h5 with a dataset a video.

    Step k is put at the centre of the frames that it sees: (k * stride + (clip_frames - 1) / 2) / fps seconds. Options
    go before what the files say (npz and h5 may hold stride, clip_frames, fps), and those before the fps of the
    annotations. Features whose end is far from the annotated duration are refused.
    """
    from tadkit.cli.console import TerminalProgress, show_error

    refuse_output(out, source, annotations)
    from tadkit.interop.import_features import import_features

    with TerminalProgress() as progress:
        result = import_features(
            source,
            out,
            annotations=annotations,
            stride_frames=stride,
            clip_frames=clip_frames,
            fps=fps,
            channels_first=channels_first,
            rescaled=rescaled,
            progress=progress,
        )
    click.echo(
        f"{out}: {result.videos} videos, {result.channels} channels, {result.steps} steps, {len(result.failed)} failed"
    )
    for error in result.failed.values():
        show_error(error)
    ctx.exit(next((error.exit_code for error in result.failed.values()), 0))


@import_.command(
    short_help="A head of ActionFormer, TriDet, OpenTAD or TadTR.",
    epilog=example(
        "tadkit import head --from actionformer epoch_034.pth.tar --config thumos_i3d.yaml --out head.safetensors"
    ),
)
@click.argument("checkpoint", type=PATH)
@click.option(
    "--from",
    "source",
    type=click.Choice(["actionformer", "tridet", "opentad", "tadtr"]),
    required=True,
    help="Whose head it is.",
)
@click.option(
    "--config", type=PATH, metavar="PATH", help="Settings that it was trained with: YAML, JSON or OpenTAD's .py."
)
@click.option("--labels", type=PATH, metavar="PATH", help="Its classes, one a line, in order; else 0, 1, ...")
@click.option("-o", "--out", type=PATH, metavar="PATH", required=True, help="Head file to write (.safetensors).")
def head(checkpoint: Path, source: Source, config: Path | None, labels: Path | None, out: Path) -> None:
    """Turn CHECKPOINT into a head of tadkit that gives the same outputs.

    Averaged weights are taken where it has them. No code in the file is run. Sizes are read from the weights; what they
    do not tell, such as attention windows, comes from the config, or else from the recipe for THUMOS14, and is told.
    """
    refuse_output(out, checkpoint, config, labels)
    from tadkit.interop.import_head import import_head

    imported = import_head(checkpoint, out, source=source, config=config, labels=labels)
    for setting in imported.assumed:
        click.echo(f"assumed, as neither weights nor --config tell: {setting}", err=True)
    if imported.left_out:
        click.echo(
            f"left out {imported.left_out} tensors of the model's backbone: the head alone is imported", err=True
        )
    made = imported.head
    weights = "averaged weights" if imported.averaged else "weights"
    click.echo(f"{out}: {made.settings.kind} of {made.in_channels} channels, {made.num_classes} classes, {weights}")
