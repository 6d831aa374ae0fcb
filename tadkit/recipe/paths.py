"""Paths that a recipe names: relative to it, with environment variables."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tadkit.config import DecodeSettings
from tadkit.errors import AnnotationError, SettingsError


def expanded(text: str, *, base: Path) -> Path:
    """A path of a recipe: ``${NAME}`` from the environment, relative to ``base``.

    Raises:
        SettingsError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise SettingsError(f"'{text}': the environment variable {match[1]} is not set; export {match[1]}=FOLDER")
        return os.environ[match[1]]

    return base / re.sub(r"\$\{(\w+)\}", value, text)


def whole_decoding(settings: DecodeSettings, *, base: Path) -> DecodeSettings:
    """A recipe's decoding with the whole path of the scores of videos, which must be there.

    Raises:
        SettingsError: a variable is not set.
        AnnotationError: they are not there.
    """
    if settings.video_scores is None:
        return settings
    path = expanded(settings.video_scores, base=base)
    if not path.is_file():
        raise AnnotationError(f"{path}: no such file; decode.video_scores names scores of videos, from the recipe on")
    return settings.model_copy(update={"video_scores": str(path)})
