"""The errors that tadkit raises on purpose, each with the exit code that the command line gives it.

Anything that a user can cause is a :class:`TadkitError` whose message says what is wrong, where, what was expected and
the way out. ``assert`` is kept for mistakes of ours.
"""

from __future__ import annotations

from typing import ClassVar


class TadkitError(Exception):
    """Expected trouble: the message is one line a user can act on."""

    exit_code: ClassVar[int] = 1


class UsageError(TadkitError):
    """The command was called in a way that cannot be carried out."""

    exit_code = 2


class SettingsError(TadkitError):
    """A recipe or a ``--set`` value is wrong."""

    exit_code = 2


class VideoError(TadkitError):
    """A video is missing, empty, damaged or not a video."""

    exit_code = 3


class StoreError(TadkitError):
    """An HDF5 store or run folder is missing, damaged, too new or of another kind."""

    exit_code = 4


class WeightsError(TadkitError):
    """A checkpoint or pretrained weights are missing, damaged or do not fit."""

    exit_code = 5


class AnnotationError(TadkitError):
    """Annotations or detections cannot be read or contradict themselves."""

    exit_code = 6
