"""What the student learns, and how its branches are joined."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tadkit.config.base import Settings

Method = Literal["decomposed", "direct", "rgb", "rgb-matched"]
FeatureLoss = Literal["mse", "mse-normalised", "cosine", "smooth-l1"]


class DistillSettings(Settings):
    """What the student learns from."""

    method: Method = "decomposed"
    """decomposed is the paper's; direct distils into one stream; rgb has no teacher; rgb-matched has two branches."""
    dim: int = Field(128, ge=8, le=4096)
    """Channels of each branch's feature."""
    feature_loss: FeatureLoss = "mse-normalised"
    """Distance of the motion feature to the teacher's."""
    feature_weight: float = Field(1.0, ge=0, le=1000)
    """Weight of the feature term (a in docs/method.md)."""
    prediction_weight: float = Field(1.0, ge=0, le=1000)
    """Weight of the prediction term (b in docs/method.md)."""
    joint: bool = False
    """Train fusion and joint head along with the student (the paper's one-stage form)."""
    stop_gradient: Literal["none", "motion", "both"] = "none"
    """Branches that the joint loss does not reach, when joint."""

    @property
    def two_branches(self) -> bool:
        """Whether the student has a motion branch beside the appearance branch."""
        return self.method in ("decomposed", "rgb-matched")

    @property
    def taught(self) -> bool:
        """Whether the student is trained on the teacher's outputs."""
        return self.method in ("decomposed", "direct")


class FusionSettings(Settings):
    """How motion and appearance are joined."""

    kind: Literal["local-attentive", "concat"] = "local-attentive"
    """local-attentive is the paper's section 3; concat is the plain rival."""
