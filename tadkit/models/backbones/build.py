"""Building a backbone from its settings."""

from __future__ import annotations

from typing import assert_never

from tadkit.config import BackboneSettings, TemporalShiftSettings, TsmResnetSettings
from tadkit.models.backbones.backbone import Backbone
from tadkit.models.backbones.temporal_shift import TemporalShiftBackbone
from tadkit.models.backbones.tsm_resnet import TsmResnet


def build_backbone(settings: BackboneSettings, *, in_channels: int, pretrained: bool) -> Backbone:
    """The backbone that the settings name.

    Args:
        settings: of one kind of backbone.
        in_channels: 3 for RGB and temporal gradient, 2 for flow.
        pretrained: load the published weights; a checkpoint's own weights need none.

    Raises:
        SettingsError: ``pretrained`` with a net that has no published weights.
        WeightsError: the weights are not installed or cannot be downloaded.
    """
    match settings:
        case TemporalShiftSettings():
            return TemporalShiftBackbone(settings, in_channels=in_channels, pretrained=pretrained)
        case TsmResnetSettings():
            return TsmResnet(settings, in_channels=in_channels, pretrained=pretrained)
        case _:
            assert_never(settings)
