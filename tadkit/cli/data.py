"""``tadkit data``: datasets whose truth is known exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tadkit.cli.options import PATH, example


def _given(**values: Any) -> dict[str, Any]:
    """The options that were given; the others keep the defaults of ``config.py``."""
    return {name: value for name, value in values.items() if value is not None}


@click.group(epilog=example("tadkit data synth made-up --count 4 --duration 20"))
def data() -> None:
    """Make datasets whose actions are known exactly."""


@data.command(epilog=example("tadkit data synth made-up --count 4 --duration 20"))
@click.argument("folder", type=PATH)
@click.option("--count", type=int, metavar="N", help="Videos.  [default: sources.count of kind synth]")
@click.option("--duration", "duration_s", type=float, metavar="SECONDS", help="Length of each video.")
@click.option("--camera", type=click.Choice(["side", "above", "both"]), help="Where people are seen from.")
@click.option("--seed", type=int, metavar="N", help="Seed of the first video; the n-th has seed + n.")
def synth(folder: Path, count: int | None, duration_s: float | None, camera: str | None, seed: int | None) -> None:
    """Draw videos of people into FOLDER, with annotations.

    Defaults are those of sources of kind synth in docs/settings.md.
    """
    from tadkit.cli.console import TerminalProgress
    from tadkit.config import SynthSource
    from tadkit.recipes import check_settings

    values = _given(count=count, duration_s=duration_s, camera=camera, seed=seed)
    settings = check_settings(SynthSource, values, name="tadkit data synth")
    from tadkit.pipelines.data import synth as make

    with TerminalProgress() as progress:
        annotations = make(folder, settings, progress)
    click.echo(annotations)


@data.command(epilog=example("tadkit data compose clips.npz streams --streams 2"))
@click.argument("clips", type=PATH)
@click.argument("folder", type=PATH)
@click.option("--streams", type=int, metavar="N", help="Streams a subject.")
@click.option("--actions", type=int, metavar="N", help="Actions a stream.")
@click.option("--fps", type=float, metavar="HZ", help="Frames per second that the clips are played at.")
@click.option("--seed", type=int, metavar="N", help="Seed of order and gaps.")
def compose(
    clips: Path, folder: Path, streams: int | None, actions: int | None, fps: float | None, seed: int | None
) -> None:
    """Compose untrimmed streams of the trimmed CLIPS into FOLDER, with annotations.

    CLIPS is an .npz of uint8 clips (frames, height, width, 3) keyed SUBJECT_ACTION_TAKE. Defaults are those of sources
    of kind compose in docs/settings.md.
    """
    from tadkit.cli.console import TerminalProgress
    from tadkit.config import ComposeSource
    from tadkit.recipes import check_settings

    values = _given(clips=str(clips), streams=streams, actions=actions, fps=fps, seed=seed)
    settings = check_settings(ComposeSource, values, name="tadkit data compose")
    from tadkit.pipelines.data import compose as make

    with TerminalProgress() as progress:
        annotations = make(folder, settings, progress)
    click.echo(annotations)
