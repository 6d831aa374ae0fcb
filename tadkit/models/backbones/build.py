"""Building a backbone from its settings."""

from __future__ import annotations

from typing import assert_never

import torch

from tadkit.config import (
    BackboneSettings,
    I3DSettings,
    PluginBackboneSettings,
    SlowFastSettings,
    TemporalEncoderSettings,
    TemporalShiftSettings,
    TorchvisionClipSettings,
    TorchvisionConvolutionalSettings,
    TsmResnetSettings,
    VideoMaeSettings,
)
from tadkit.models.backbones.backbone import Backbone
from tadkit.models.backbones.plugin import plugin_backbone
from tadkit.models.backbones.temporal_encoder import TemporalEncoder
from tadkit.models.backbones.temporal_shift import TemporalShiftBackbone
from tadkit.models.backbones.tsm_resnet import TsmResnet
from tadkit.models.backbones.video_nets.i3d import I3D
from tadkit.models.backbones.video_nets.slowfast import SlowFast
from tadkit.models.backbones.video_nets.torchvision_video import TorchvisionAttention, TorchvisionConvolutional
from tadkit.models.backbones.video_nets.videomae import VideoMae
from tadkit.models.backbones.weights import load_weights_file


def build_backbone(settings: BackboneSettings, *, in_channels: int, pretrained: bool, stack: int = 1) -> Backbone:
    """The backbone that the settings name.

    Args:
        settings: of one kind of backbone.
        in_channels: 3 for RGB and temporal gradient, 2 for flow; ``stack`` times as many for stacks; of features as
            many as a stream has.
        pretrained: load the published weights, or those of ``settings.weights``; a checkpoint's weights need neither.
        stack: flows, or gradients, that make one frame of motion.

    Raises:
        SettingsError: ``pretrained`` with a net that has no published weights, or an entry point that does not work.
        WeightsError: the weights are not installed, cannot be downloaded, or do not fit.
    """
    net = _new_backbone(settings, in_channels=in_channels, pretrained=pretrained and settings.weights is None)
    net.stack = stack
    if pretrained and settings.weights is not None:
        net.weights_report = load_weights_file(net, settings.weights)
    return net


def _new_backbone(settings: BackboneSettings, *, in_channels: int, pretrained: bool) -> Backbone:
    match settings:
        case TemporalShiftSettings():
            return TemporalShiftBackbone(settings, in_channels=in_channels, pretrained=pretrained)
        case TsmResnetSettings():
            return TsmResnet(settings, in_channels=in_channels, pretrained=pretrained)
        case TemporalEncoderSettings():
            return TemporalEncoder(settings, in_channels=in_channels)
        case I3DSettings():
            return I3D(settings, in_channels=in_channels)
        case SlowFastSettings():
            return SlowFast(settings, in_channels=in_channels)
        case TorchvisionConvolutionalSettings():
            return TorchvisionConvolutional(settings, in_channels=in_channels, pretrained=pretrained)
        case TorchvisionClipSettings():
            return TorchvisionAttention(settings, in_channels=in_channels, pretrained=pretrained)
        case VideoMaeSettings():
            return VideoMae(settings, in_channels=in_channels)
        case PluginBackboneSettings():
            return plugin_backbone(settings, in_channels=in_channels)
        case _:
            assert_never(settings)


def align_frames_of(settings: BackboneSettings, *, in_channels: int) -> int:
    """``align_frames`` of the backbone that the settings name, without building it unless another package has it.

    Raises:
        SettingsError: an entry point does not work.
    """
    if not isinstance(settings, PluginBackboneSettings):
        return settings.align_frames
    with torch.random.fork_rng(devices=()):
        return plugin_backbone(settings, in_channels=in_channels).align_frames
