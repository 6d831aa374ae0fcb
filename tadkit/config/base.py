"""Base class of all settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tadkit.errors import SettingsError


class Settings(BaseModel):
    """Base of all settings: frozen; unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @property
    def unused(self) -> Mapping[str, str]:
        """Settings, or whole sections, that have no effect beside the others, each with what it needs."""
        return {}


def added_later(default: Any, **limits: Any) -> Any:
    """Field that is written only if it is not the default, so that the keys of earlier runs do not change."""
    return Field(default, exclude_if=lambda value: value == default, **limits)


def merged(base: Any, over: Any) -> Any:
    """``base`` with the values of ``over``, merged table by table; index keys set values in a list."""
    if isinstance(over, Mapping) and isinstance(base, Mapping):
        return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}
    if isinstance(over, Mapping) and isinstance(base, list) and over:
        if all(key.isdecimal() and int(key) < len(base) for key in over):
            return [merged(item, over[str(i)]) if str(i) in over else item for i, item in enumerate(base)]
        raise SettingsError(f"--set {'.'.join(over)}: this list has items 0 to {len(base) - 1}")
    return over
