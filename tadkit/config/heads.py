"""The choice of head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Discriminator, Tag

from tadkit.config.anchor_free_heads import ActionFormerSettings, TemporalMaxerSettings, TriDetSettings
from tadkit.config.whole_window_heads import BmnSettings, TadtrSettings, TagsSettings


def _head_kind(section: object) -> object:
    """Tag of a head section; files from before there was a choice of heads name none."""
    return section.get("kind", "actionformer") if isinstance(section, Mapping) else getattr(section, "kind", None)


HeadSettings = Annotated[
    Annotated[ActionFormerSettings, Tag("actionformer")]
    | Annotated[TriDetSettings, Tag("tridet")]
    | Annotated[TemporalMaxerSettings, Tag("temporal-maxer")]
    | Annotated[TadtrSettings, Tag("tadtr")]
    | Annotated[BmnSettings, Tag("bmn")]
    | Annotated[TagsSettings, Tag("tags")],
    Discriminator(_head_kind),
]
