"""The errors that tadkit raises on purpose, each with the exit code of the command line.

Anything that a user can cause is a :class:`TadkitError`. Its message says what is wrong, where, what was expected and
how to fix it. ``assert`` is only for bugs in tadkit.
"""

from __future__ import annotations

import re
from typing import ClassVar


class TadkitError(Exception):
    """An expected error. Each argument is a message of one line that the user can act on."""

    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        """The messages, one per line."""
        return "\n".join(map(str, self.args))


class UsageError(TadkitError):
    """The arguments of a command are wrong."""

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


HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line separators, direction marks and overrides, and undecodable bytes of file names."""


def printable(text: str) -> str:
    r"""``text`` in one line, with characters that a terminal would obey written as escapes such as ``\x1b``."""
    return HIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
