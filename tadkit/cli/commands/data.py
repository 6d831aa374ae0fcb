"""``tadkit data``: existing annotations, and synthetic datasets whose ground truth is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tadkit.cli.commands.annotations import check, convert, stats
from tadkit.cli.commands.detect import export_detections
from tadkit.cli.console import TerminalProgress, print_line
from tadkit.cli.options import PATH, InOrder, SettingChoice, SettingOption, example


@click.group(
    short_help="Convert, check and create annotated data.",
    cls=InOrder,
    epilog=example("tadkit data synth people --count 4 --duration 20"),
)
def data() -> None:
    """Convert and check annotations, or create datasets with exact ground truth."""


for command in (convert, check, stats, export_detections):
    data.add_command(command)


def _option(flag: str, setting: str, kind: Any, metavar: str | None = None) -> SettingOption:
    """An option for the setting ``Class.field`` of ``tadkit.config``, under the field's name."""
    return SettingOption([flag, setting.split(".")[1]], setting=setting, type=kind, metavar=metavar)


@data.command(
    short_help="Create videos of synthetic people.",
    epilog=example("tadkit data synth people --count 4 --duration 20"),
    params=[
        click.Argument(["folder"], type=PATH),
        _option("--count", "SynthSource.count", click.INT, "N"),
        _option("--duration", "SynthSource.duration_s", click.FLOAT, "SECONDS"),
        _option("--camera", "SynthSource.camera", SettingChoice("SynthSource.camera")),
        _option("--seed", "SynthSource.seed", click.INT, "N"),
        SettingOption(["--many-falls", "many_falls"], setting="SynthSource.many_falls", is_flag=True),
    ],
)
def synth(folder: Path, **values: object) -> None:
    """Create videos of synthetic people in FOLDER, with annotations.

    Prints the path of the annotations.
    """
    from tadkit.config import SynthSource
    from tadkit.config.loading import check_settings

    settings = check_settings(SynthSource, values, name="tadkit data synth")
    from tadkit.synth import write_dataset as make

    with TerminalProgress() as progress:
        annotations = make(folder, settings, progress=progress)
    print_line(str(annotations))


@data.command(
    short_help="Join trimmed clips into untrimmed streams.",
    epilog=example("tadkit data compose clips.npz streams --streams 2"),
    params=[
        click.Argument(["clips"], type=PATH),
        click.Argument(["folder"], type=PATH),
        _option("--streams", "ComposeSource.streams", click.INT, "N"),
        _option("--actions", "ComposeSource.actions", click.INT, "N"),
        _option("--fps", "ComposeSource.fps", click.FLOAT, "HZ"),
        _option("--seed", "ComposeSource.seed", click.INT, "N"),
    ],
)
def compose(clips: Path, folder: Path, **values: object) -> None:
    """Join the trimmed CLIPS into untrimmed streams in FOLDER, with annotations.

    CLIPS is an .npz file of uint8 clips (frames, height, width, 3) with keys SUBJECT_ACTION_TAKE. Prints the path of
    the annotations.
    """
    from tadkit.config import ComposeSource
    from tadkit.config.loading import check_settings

    settings = check_settings(ComposeSource, {"clips": str(clips), **values}, name="tadkit data compose")
    from tadkit.synth.compose import compose_streams as make

    with TerminalProgress() as progress:
        annotations = make(settings, clips, folder, progress=progress)
    print_line(str(annotations))
