"""torchvision's nets for video, used as a library: R(2+1)D-18, S3D, MViT-v2-S and Swin3D-T, with its Kinetics weights.

Sources: Tran et al., *A Closer Look at Spatiotemporal Convolutions*, CVPR 2018; Xie et al., *Rethinking Spatiotemporal
Feature Learning*, ECCV 2018; Li et al., *MViTv2*, CVPR 2022; Liu et al., *Video Swin Transformer*, CVPR 2022. The
classifier is left out; features are averaged over space only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tadkit.config import TorchvisionClipSettings, TorchvisionConvolutionalSettings
from tadkit.models.backbones.video_nets.video_net import AttentionNet, ConvolutionalNet, ReceptiveField, VideoNet
from tadkit.models.backbones.weights import averaged_over_colours, torchvision_weights
from tadkit.runtime.devices import import_torchvision


class TorchvisionNet(NamedTuple):
    """What torchvision calls a net, its weights, the weights that read the input, and the classifier."""

    function: str
    weights: str
    stem: str
    classifier: str


NETS = {
    "r2plus1d-18": TorchvisionNet("r2plus1d_18", "R2Plus1D_18_Weights", "stem.0", "fc"),
    "s3d": TorchvisionNet("s3d", "S3D_Weights", "features.0.0.0", "classifier"),
    "mvit-v2-s": TorchvisionNet("mvit_v2_s", "MViT_V2_S_Weights", "conv_proj", "head"),
    "swin3d-t": TorchvisionNet("swin3d_t", "Swin3D_T_Weights", "patch_embed.proj", "head"),
}


def _build(
    backbone: VideoNet,
    settings: TorchvisionConvolutionalSettings | TorchvisionClipSettings,
    *,
    in_channels: int,
    pretrained: bool,
) -> Any:
    """Torchvision's net with a stem for ``in_channels`` and no classifier; the backbone's colours become its own."""
    video, names = import_torchvision("torchvision.models.video"), NETS[settings.name]
    weights: Any = getattr(video, names.weights).KINETICS400_V1
    scale = weights.transforms()
    backbone.rgb_mean, backbone.rgb_std = (tuple(255 * x for x in values) for values in (scale.mean, scale.std))
    net: Any = getattr(video, names.function)(weights=None)
    if pretrained:
        net.load_state_dict(torchvision_weights(weights, name=settings.name))
    setattr(net, names.classifier, nn.Identity())
    if in_channels != 3:
        _read_channels(net, names.stem, in_channels)
    backbone.frozen_norm = settings.starts_trained
    return net


def _read_channels(net: nn.Module, stem: str, in_channels: int) -> None:
    """Replace the convolution that reads RGB by one for other input, with filters averaged over the colours."""
    conv: Any = net.get_submodule(stem)
    other = nn.Conv3d(
        in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=conv.bias is not None
    )
    other.load_state_dict(conv.state_dict() | {"weight": averaged_over_colours(conv.weight, channels=in_channels)})
    parent, _, name = stem.rpartition(".")
    setattr(net.get_submodule(parent), name, other)


class TorchvisionConvolutional(ConvolutionalNet):
    """R(2+1)D-18 (512 channels) or S3D (1024): one step for every 8 frames."""

    def __init__(self, settings: TorchvisionConvolutionalSettings, *, in_channels: int, pretrained: bool) -> None:
        """Build the net for ``in_channels``; ``pretrained`` downloads torchvision's weights.

        Raises:
            WeightsError: the weights cannot be downloaded.
        """
        super().__init__()
        self.net = _build(self, settings, in_channels=in_channels, pretrained=pretrained)
        self.channels, self.min_side_px = (512, 1) if settings.name == "r2plus1d-18" else (1024, 32)
        self._place(_reach(ReceptiveField(), nn.Sequential(*self.layers())), stride=settings.stride)
        self._freeze(settings.frozen_blocks)

    def own_name(self, published: str) -> str:
        """Of torchvision."""
        return f"net.{published}"

    def layers(self) -> list[nn.Module]:
        """All layers before the pooling over time, in order."""
        net = self.net
        if hasattr(net, "features"):
            return list(net.features)
        return [net.stem, *net.layer1, *net.layer2, *net.layer3, *net.layer4]

    def blocks(self) -> list[nn.Module]:
        """Stem and 8 residual blocks of R(2+1)D; 3 convolutions and 9 inception blocks of S3D."""
        return [layer for layer in self.layers() if not isinstance(layer, nn.MaxPool3d)]

    def net_steps(
        self, clip: Float[Tensor, "batch channels frames height width"]
    ) -> Float[Tensor, "batch features steps"]:
        """The last layer averaged over space."""
        x: Tensor = clip
        for layer in self.layers():
            x = layer(x)
        return x.mean(dim=(3, 4))


def _reach(before: ReceptiveField, layer: nn.Module) -> ReceptiveField:
    """Receptive field after a layer of torchvision's."""
    match layer:
        case nn.Module(conv1=nn.Module() as first, conv2=nn.Module() as second, downsample=beside):  # residual block
            branch = _reach(_reach(before, first), second)
            return branch.joined(_reach(before, beside) if isinstance(beside, nn.Module) else before)
        case nn.Module(branch0=_, branch1=_, branch2=_, branch3=_):  # Inception
            branches = [_reach(before, branch) for branch in layer.children()]
            return branches[0].joined(*branches[1:])
        case nn.Sequential():
            for part in layer:
                before = _reach(before, part)
            return before
        case _:
            return before.through(layer)


class TorchvisionAttention(AttentionNet):
    """MViT-v2-S on clips of 16 frames or Swin3D-T on clips of 32: 768 channels, one step for every 2 frames.

    Frames may have any height and width from 32 px on. MViT's relative positions are then interpolated over space, as
    torchvision does, and Swin's windows are padded.
    """

    min_side_px = 32

    def __init__(self, settings: TorchvisionClipSettings, *, in_channels: int, pretrained: bool) -> None:
        """Build the net for ``in_channels``; ``pretrained`` downloads torchvision's weights.

        Raises:
            WeightsError: the weights cannot be downloaded.
        """
        super().__init__()
        self.net = _build(self, settings, in_channels=in_channels, pretrained=pretrained)
        self.channels = 768
        self.multiscale = settings.name == "mvit-v2-s"
        self._place(clip_frames=settings.align_frames, net_stride=2, stride=settings.stride)
        self._freeze(settings.frozen_blocks)

    def own_name(self, published: str) -> str:
        """Of torchvision."""
        return f"net.{published}"

    def blocks(self) -> list[nn.Module]:
        """The patch embedding, and the blocks of MViT or the stages and mergers of Swin."""
        net = self.net
        if self.multiscale:
            return [nn.ModuleList([net.conv_proj, net.pos_encoding]), *net.blocks]
        return [net.patch_embed, *net.features]

    def clip_steps(
        self, clips: Float[Tensor, "clips channels frames height width"]
    ) -> Float[Tensor, "clips 768 steps"]:
        """The last norm averaged over space; MViT's class token is left out."""
        net = self.net
        if not self.multiscale:
            maps: Tensor = net.norm(net.features(net.pos_drop(net.patch_embed(clips))))
            return maps.mean(dim=(2, 3)).transpose(1, 2)
        patches = net.conv_proj(clips)
        size = tuple(patches.shape[2:])
        x = net.pos_encoding(patches.flatten(2).transpose(1, 2))
        for block in net.blocks:
            x, size = block(x, size)
        tokens: Tensor = rearrange(net.norm(x)[:, 1:], "b (t s) c -> b c t s", t=size[0])
        return tokens.mean(dim=3)
