"""Build a head from its settings."""

from __future__ import annotations

from tadkit.config import (
    ActionFormerSettings,
    BmnSettings,
    HeadSettings,
    PluginHeadSettings,
    TadtrSettings,
    TagsSettings,
    TemporalMaxerSettings,
    TriDetSettings,
)
from tadkit.models.heads.actionformer import ActionFormerHead
from tadkit.models.heads.bmn import BmnHead
from tadkit.models.heads.head import Head, HeadOf
from tadkit.models.heads.tadtr import TadtrHead
from tadkit.models.heads.tags import TagsHead
from tadkit.models.heads.temporal_maxer import TemporalMaxerHead
from tadkit.models.heads.tridet import TriDetHead
from tadkit.runtime.plugins import made_by_plugin, wrong_plugin


def build_head(settings: HeadSettings, *, in_channels: int, num_classes: int, trained_steps: int | None = None) -> Head:
    """The head for ``settings``, with freshly initialised weights.

    Args:
        settings: kind and sizes.
        in_channels: channels of the feature track.
        num_classes: number of classes.
        trained_steps: feature steps of the windows that it is or was trained on, if known: the windows in which a head
            runs that does not have a halo.

    Raises:
        SettingsError: an entry point is not installed, fails, or gives no head.
    """
    head = _new_head(settings, in_channels=in_channels, num_classes=num_classes)
    head.trained_steps = trained_steps
    return head


def _new_head(settings: HeadSettings, *, in_channels: int, num_classes: int) -> Head:
    match settings:
        case ActionFormerSettings():
            return ActionFormerHead(settings, in_channels=in_channels, num_classes=num_classes)
        case TriDetSettings():
            return TriDetHead(settings, in_channels=in_channels, num_classes=num_classes)
        case TemporalMaxerSettings():
            return TemporalMaxerHead(settings, in_channels=in_channels, num_classes=num_classes)
        case TadtrSettings():
            return TadtrHead(settings, in_channels=in_channels, num_classes=num_classes)
        case BmnSettings():
            return BmnHead(settings, in_channels=in_channels, num_classes=num_classes)
        case TagsSettings():
            return TagsHead(settings, in_channels=in_channels, num_classes=num_classes)
        case PluginHeadSettings():
            return _plugin_head(settings, in_channels=in_channels, num_classes=num_classes)


def _plugin_head(settings: PluginHeadSettings, *, in_channels: int, num_classes: int) -> Head:
    head = made_by_plugin(
        "tadkit.heads",
        settings.entry_point,
        in_channels=in_channels,
        num_classes=num_classes,
        window_steps=settings.window_steps,
        prior_probability=settings.prior_probability,
    )
    if not isinstance(head, HeadOf):
        raise wrong_plugin(
            "tadkit.heads",
            settings.entry_point,
            f"returned {type(head).__name__}; expected a tadkit.models.heads.HeadOf",
        )
    head.in_channels, head.num_classes = in_channels, num_classes
    if not hasattr(head, "settings"):
        head.settings = settings
    return head
