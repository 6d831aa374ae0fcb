"""How the student is trained, and how its branches are joined."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tadkit.config.base import Settings

Method = Literal["decomposed", "direct", "rgb", "rgb-matched"]
FeatureLoss = Literal["mse", "mse-normalised", "cosine", "smooth-l1"]

_ATTENTION_HEADS = 4


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

    kind: Literal["local-attentive", "self-gating", "global-gating", "cross-attention", "concat", "sum", "late"] = (
        "local-attentive"
    )
    """local-attentive is from the paper's section 3, docs/method.md has the formulas of the others."""
    directions: Literal["both", "motion", "appearance"] = "both"
    """Branches that are gated, or that attend to the other; with one of them, the other passes unchanged."""
    residual: bool = False
    """Gates multiply by 1 + w instead of w, so that they cannot silence a channel."""
    attention_heads: int = Field(_ATTENTION_HEADS, ge=1, le=64)
    """Heads of cross-attention; they must divide distill.dim."""

    @model_validator(mode="after")
    def _has_an_effect(self) -> FusionSettings:
        gates = self.kind in ("local-attentive", "self-gating", "global-gating")
        if self.directions != "both" and not (gates or self.kind == "cross-attention"):
            raise ValueError(f"directions must be both with kind {self.kind}, which treats the branches alike")
        if self.residual and not gates:
            raise ValueError(f"residual needs a kind that gates (local-attentive, self-gating, ...), not {self.kind}")
        if self.attention_heads != _ATTENTION_HEADS and self.kind != "cross-attention":
            raise ValueError(f"attention_heads needs kind cross-attention, not {self.kind}")
        return self
