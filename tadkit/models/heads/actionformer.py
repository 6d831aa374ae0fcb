"""ActionFormer: a pyramid of local self-attention (Zhang, Wu, Li, ECCV 2022, section 3)."""

from __future__ import annotations

from tadkit.config import ActionFormerSettings
from tadkit.models.heads.anchor_free import AnchorFreeHead
from tadkit.models.heads.pyramid import Pyramid


class ActionFormerHead(AnchorFreeHead):
    """The anchor-free head on ActionFormer's pyramid.

    Args:
        settings: sizes and priors.
        in_channels: channels of the feature track.
        num_classes: classes; each has a sigmoid of its own.
    """

    def __init__(self, settings: ActionFormerSettings, *, in_channels: int, num_classes: int) -> None:
        pyramid = Pyramid(settings, in_channels=in_channels)
        super().__init__(settings, pyramid=pyramid, num_classes=num_classes)
        self.windows = settings.windows
        self.reach_steps = None if settings.pad_to_steps else pyramid.reach_steps

    @property
    def halo_steps(self) -> int | None:
        """Steps on one side that a prediction depends on (exact upper bound); None where it is the whole window."""
        if self.reach_steps is None:
            return None
        wing = self.anchor_free.head_kernel // 2
        return self.reach_steps + self.anchor_free.head_layers * wing * self.strides[-1]

    def _padding_multiple(self) -> int:
        """The authors' blocked attention needs blocks of twice a window's wing to divide each level."""
        wings = [max(window // 2, 0) for window in self.windows]
        return max(stride * max(2 * wing, 1) for stride, wing in zip(self.strides, wings, strict=True))
