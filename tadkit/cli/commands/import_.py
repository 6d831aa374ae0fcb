"""``tadkit import``: features and heads from other projects; ``tadkit export``: detectors for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from tadkit.cli.console import TerminalProgress, print_line, print_note, show_error
from tadkit.cli.options import PATH, POSITIVE, InOrder, example, refuse_output
from tadkit.interop import Source, TableLayout

if TYPE_CHECKING:
    from tadkit.models.exported import ExportForm

FORMS = ("onnx", "openvino", "torch")


@click.group("import", cls=InOrder, epilog=example("tadkit import features i3d --out features.h5 --stride 4 --fps 30"))
def import_() -> None:
    """Import features and heads from other projects."""


@import_.command(
    short_help="Import features into a feature store.",
    epilog=example(
        "tadkit import features i3d --out features.h5 --stride 4 --clip-frames 16 --fps 30",
        "tadkit import features i3d --out features.h5 --stride 4 --fps 30 --annotations annotations.json",
    ),
)
@click.argument("source", type=PATH, metavar="DIR")
@click.option("-o", "--out", type=PATH, metavar="PATH", required=True, help="HDF5 file for the features.")
@click.option("--annotations", type=PATH, metavar="PATH", help="Annotations; the features must match their durations.")
@click.option("--stride", type=POSITIVE, metavar="FRAMES", help="Frames from one feature step to the next.")
@click.option(
    "--clip-frames", type=click.IntRange(min=1), metavar="N", help="Frames that a step covers; by default the stride."
)
@click.option("--fps", type=POSITIVE, metavar="HZ", help="Frame rate of the videos.")
@click.option("--channels-first", is_flag=True, help="Arrays are (channels, steps), not (steps, channels).")
@click.option(
    "--rescaled", is_flag=True, help="Steps are spread evenly over the annotated durations; --stride is not used."
)
@click.option(
    "--csv",
    "layout",
    type=click.Choice(get_args(TableLayout)),
    default="detect",
    show_default=True,
    help="What csv files have besides features.",
)
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
    layout: TableLayout,
) -> None:
    """Import features from DIR: one .npy, .npz, .pt, .csv or .h5 per video, or one .h5 with a dataset per video.

    RGB and flow may be in two files, NAME_rgb.npy and NAME_flow.npy, with NAME_fps.npy and NAME_timestamps_ms.npy, as
    video_features writes them; the time stamps then place the steps.

    Step k is placed at the centre of the frames it covers: (k * stride + (clip_frames - 1) / 2) / fps seconds. Options
    override values in the files (npz and h5 may contain stride, clip_frames and fps), which override the fps of the
    annotations. Features that end far from the annotated duration are refused.
    """
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
            layout=layout,
            progress=progress,
        )
    print_line(
        f"{out}: {result.videos} videos, {result.channels} channels, {result.steps} steps, {len(result.failed)} failed"
    )
    for error in result.failed.values():
        show_error(error)
    ctx.exit(next((error.exit_code for error in result.failed.values()), 0))


@import_.command(
    short_help="Import a head of ActionFormer, TriDet, TemporalMaxer, OpenTAD or TadTR.",
    epilog=example(
        "tadkit import head --from actionformer epoch_034.pth.tar --config thumos_i3d.yaml --out head.safetensors"
    ),
)
@click.argument("checkpoint", type=PATH)
@click.option(
    "--from",
    "source",
    type=click.Choice(get_args(Source)),
    required=True,
    help="Project that the head comes from.",
)
@click.option("--config", type=PATH, metavar="PATH", help="Settings it was trained with: YAML, JSON or OpenTAD's .py.")
@click.option(
    "--labels", type=PATH, metavar="PATH", help="Text file of its classes, one per line, in order; by default 0, 1, ..."
)
@click.option("-o", "--out", type=PATH, metavar="PATH", required=True, help="Head file to write (.safetensors).")
def head(checkpoint: Path, source: Source, config: Path | None, labels: Path | None, out: Path) -> None:
    """Convert CHECKPOINT to a head file of tadkit that gives the same outputs.

    Averaged weights are used if it has any. No code in the file is run. Sizes are read from the weights. What cannot be
    read from them, such as attention windows, comes from --config or else from the project's settings for THUMOS14,
    which are reported. An option of --config that is unknown, contradicts the weights or is not supported is refused.
    """
    refuse_output(out, checkpoint, config, labels)
    from tadkit.interop.heads.decoding import changes
    from tadkit.interop.import_head import import_head

    imported = import_head(checkpoint, out, source=source, config=config, labels=labels)
    for setting in imported.assumed:
        print_note(f"assumed, in neither the weights nor --config: {setting}")
    if imported.left_out:
        print_note(f"left out {imported.left_out} tensors of the model's backbone: only the head is imported")
    for difference in imported.decoding.differences:
        print_note(f"not the same as in --config: {difference}")
    if own := changes(imported.decoding.settings):
        print_note(f"to decode as in --config: {own}")
    made = imported.head
    weights = "averaged weights" if imported.averaged else "weights"
    print_line(f"{out}: {made.settings.kind} of {made.in_channels} channels, {made.num_classes} classes, {weights}")


@click.command(
    short_help="Write a detector for ONNX Runtime, OpenVINO or plain torch.",
    epilog=example(
        "tadkit export people-motion --to onnx --out people-motion.onnx --video examples/room.mp4",
        "tadkit export detector.safetensors --to openvino --out detector.xml --video examples/room.mp4",
    ),
)
@click.argument("model", type=PATH)
@click.option("--to", "form", type=click.Choice(FORMS), required=True, help="What is to run it; torch is TorchScript.")
@click.option(
    "-o",
    "--out",
    type=PATH,
    metavar="FILE",
    required=True,
    help="File to write: .onnx, .xml (OpenVINO, with its weights in a .bin beside it) or .pt (torch).",
)
@click.option(
    "--video",
    type=PATH,
    metavar="PATH",
    required=True,
    help="Video whose first frames are run by the file and by torch, to compare them.",
)
def export(model: Path, form: ExportForm, out: Path, video: Path) -> None:
    """Write the RGB path of MODEL, a detector's file or bundled model, as one file: frames in, candidates out.

    It takes any number of frames, and reads a video as a stream: what later frames need is an output of one call and an
    input of the next. Labels, rate, size and what else a program must know are in the file. examples/run_onnx.py runs
    it with onnxruntime and numpy, and docs/python.md describes it.

    The largest differences from torch are printed; a file that differs is not written. Models that read flow, backbones
    that read windows, cross-attention fusion and heads that need whole windows cannot be exported.
    """
    from tadkit.zoo import model_path

    path = model_path(model)
    refuse_output(out, path, video)
    from tadkit.detection.export import export_detector

    differs = export_detector(path, out, form=form, video=video)
    print_line(
        f"{out}: largest differences from torch in {differs.frames} frames of {video.name}: {differs.score:.1e} in "
        f"score, {differs.seconds:.1e} s in the ends of {differs.candidates} candidates"
    )
