"""``tadkit data``: made-up videos and composed streams."""

from __future__ import annotations

from pathlib import Path

from tadkit.config import ComposeSource, SynthSource
from tadkit.progress import Progress


def synth(folder: Path, settings: SynthSource, *, progress: Progress) -> Path:
    """Make videos of made-up people in ``folder``; what is there already is kept. Returns the annotations' path."""
    from tadkit.data.synth import write_dataset

    return write_dataset(folder, settings, progress=progress)


def compose(clips: Path, folder: Path, settings: ComposeSource, *, progress: Progress) -> Path:
    """Compose untrimmed streams from trimmed clips in ``folder``. Returns the annotations' path."""
    from tadkit.data.compose import compose_streams

    return compose_streams(settings, clips, folder, progress=progress)
