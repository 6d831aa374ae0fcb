"""The names of annotations' forms, apart from their readers, which the command line's help need not load."""

from __future__ import annotations

from typing import Literal

Tool = Literal["boris", "elan", "cvat", "label-studio", "via"]
"""Forms that are written as well as read."""

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
    Tool,
]
"""Every form that is read."""
