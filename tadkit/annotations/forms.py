"""Names of the annotation formats, apart from their readers so that the command line's help loads fast."""

from __future__ import annotations

from typing import Literal

Tool = Literal["boris", "elan", "cvat", "label-studio", "via"]
"""Formats that are written as well as read."""

Format = Literal[
    "tadkit",
    "activitynet",
    "bmn",
    "hacs",
    "fineaction",
    "thumos14",
    "thumos14-afsd",
    "thumos14-actionformer",
    "thumos14-opentad",
    "multithumos",
    "charades",
    "epic-kitchens",
    "ego4d-mq",
    "csv",
    Tool,
]
"""Every format that is read."""
