"""Backbones of other packages (docs/plugins.md)."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from tadkit.config import PluginBackboneSettings
from tadkit.models.backbones.backbone import Backbone, average_steps
from tadkit.runtime.plugins import Group, made_by_plugin, wrong_plugin

GROUP: Group = "tadkit.backbones"
_STATED = ("channels", "stride", "halo_frames", "align_frames")
_OPTIONS = ("rgb_mean", "rgb_std", "flow_unit_px", "gradient_unit", "frozen_norm")


class FrameNet(Backbone):
    """A 2-D net of another package on every frame; space is averaged, and ``stride`` frames make one step."""

    halo_frames = 0

    def __init__(self, net: nn.Module, settings: PluginBackboneSettings) -> None:
        """Take over what the net says about itself: ``channels``, and how its input is scaled."""
        super().__init__()
        self.net = net
        self.entry_point = settings.entry_point
        self.channels = int(net.channels)  # type: ignore[arg-type]
        self.stride = self.align_frames = settings.stride
        self.frozen_norm = settings.starts_trained
        for name in _OPTIONS:
            if hasattr(net, name):
                setattr(self, name, getattr(net, name))

    def own_name(self, published: str) -> str:
        """As in the other package's net."""
        return f"net.{published}"

    def forward(
        self, inputs: Shaped[Tensor, "batch frames ..."], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch channels steps"]:
        """Features of every step; frames do not affect one another, so neither does padding."""
        batch, frames = inputs.shape[:2]
        x = self.net(rearrange(self.prepare(inputs), "b t c h w -> (b t) c h w"))
        if x.shape[:2] != (batch * frames, self.channels):
            raise wrong_plugin(
                GROUP,
                self.entry_point,
                f"gives {tuple(x.shape)} for {batch * frames} frames and {self.channels} channels",
            )
        pooled = x.flatten(2).mean(dim=2) if x.ndim > 2 else x
        return average_steps(pooled.view(batch, frames, -1) * mask[..., None], mask, self.stride).transpose(1, 2)


def plugin_backbone(settings: PluginBackboneSettings, *, in_channels: int) -> Backbone:
    """The backbone of an entry point: what its function returns, if that is a Backbone, or a net for frames.

    Raises:
        SettingsError: the entry point is not installed, fails, or returns neither.
    """
    net = made_by_plugin(GROUP, settings.entry_point, in_channels=in_channels)
    if isinstance(net, Backbone):
        if lacking := [name for name in _STATED if not isinstance(getattr(net, name, None), int)]:
            raise wrong_plugin(GROUP, settings.entry_point, f"returned a Backbone without {', '.join(lacking)}")
        if net.stride != settings.stride:
            raise wrong_plugin(
                GROUP, settings.entry_point, f"has stride {net.stride}; set stride = {net.stride} beside entry_point"
            )
        return net
    if not isinstance(net, nn.Module):
        raise wrong_plugin(
            GROUP,
            settings.entry_point,
            f"returned {type(net).__name__}; expected a Backbone, or a module with channels",
        )
    if not isinstance(getattr(net, "channels", None), int):
        raise wrong_plugin(
            GROUP, settings.entry_point, "returned a module without the attribute channels, its number of features"
        )
    return FrameNet(net, settings)
