"""How the student is trained, and how its branches are joined."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tadkit.config.base import Settings

Method = Literal["decomposed", "direct", "rgb", "rgb-matched"]
FeatureLoss = Literal["mse", "mse-normalised", "cosine", "smooth-l1"]


class DistillSettings(Settings):
    """How the student is trained."""

    method: Method = "decomposed"
    """decomposed is the paper's; direct distils into one stream; rgb and rgb-matched (two branches) have no teacher."""
    dim: int = Field(128, ge=8, le=4096)
    """Channels of each branch's feature."""
    feature_loss: FeatureLoss = "mse-normalised"
    """Distance between the motion feature and the teacher's feature."""
    feature_weight: float = Field(1.0, ge=0, le=1000)
    """Weight of the feature term (a in docs/method.md)."""
    prediction_weight: float = Field(1.0, ge=0, le=1000)
    """Weight of the prediction term (b in docs/method.md)."""
    joint: bool = False
    """Train fusion and joint head together with the student (the paper's one-stage form)."""
    stop_gradient: Literal["none", "motion", "both"] = "none"
    """With joint: branches that receive no gradient from the joint loss."""

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
    """local-attentive is from the paper's section 3; concat is the simple baseline."""
