"""A backbone for tadkit: three convolutions on every frame."""

from itertools import pairwise

from torch import Tensor, nn


class ExampleNet(nn.Module):
    """From frames (n, in_channels, height, width) to features (n, channels, height / 8, width / 8)."""

    channels = 48
    rgb_mean = (128.0, 128.0, 128.0)  # of 0..255; the input is (frame - mean) / std
    rgb_std = (64.0, 64.0, 64.0)

    def __init__(self, in_channels: int) -> None:
        """Build the net: 3 channels for RGB, 2 for flow."""
        super().__init__()
        widths = (in_channels, 16, 32, self.channels)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(4, b), nn.ReLU())
                for a, b in pairwise(widths)
            )
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Features of each frame; tadkit averages them over space and over the frames of a step."""
        return self.layers(frames)


def example_net(in_channels: int) -> nn.Module:
    """The entry point ``example-net``."""
    return ExampleNet(in_channels)
