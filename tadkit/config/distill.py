"""How the student is trained, and how its branches are joined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from tadkit.config.base import Settings, added_later

Method = Literal["decomposed", "direct", "rgb", "rgb-matched", "mars", "mers", "hallucination", "logits"]
Branch = Literal["motion", "appearance"]
"""A branch of the student; the single stream of a method with one branch is its appearance branch."""
FeatureLoss = Literal["mse", "mse-normalised", "cosine", "smooth-l1", "sigmoid-l2"]


class MethodTraits(NamedTuple):
    """What a method needs, and its own values of the settings that a recipe leaves out (docs/method.md).

    Attributes:
        two_branches: it has a motion branch beside the appearance branch.
        taught: it is trained on the teacher's outputs.
        feature_loss: distance of its feature term.
        feature_weight: weight of its feature term; 0: it has none.
        prediction_weight: weight of its prediction term; 0: it has none.
        truth_trains_stream: the ground truth trains backbone and branches, not the head alone.
        truth_of_motion: the predictions of the motion branch are compared with the ground truth, too.
    """

    two_branches: bool
    taught: bool = True
    feature_loss: FeatureLoss = "mse-normalised"
    feature_weight: float = 1.0
    prediction_weight: float = 1.0
    truth_trains_stream: bool = True
    truth_of_motion: bool = False


_TRAITS: Mapping[Method, MethodTraits] = {
    "decomposed": MethodTraits(two_branches=True),
    "direct": MethodTraits(two_branches=False),
    # Without a teacher the values of the terms have no effect, but the files of version 0.1.0 state them.
    "rgb": MethodTraits(two_branches=False, taught=False),
    "rgb-matched": MethodTraits(two_branches=True, taught=False, truth_of_motion=True),
    "mars": MethodTraits(two_branches=False, feature_loss="mse", feature_weight=50.0, prediction_weight=0.0),
    "mers": MethodTraits(two_branches=False, feature_loss="mse", prediction_weight=0.0, truth_trains_stream=False),
    "hallucination": MethodTraits(
        two_branches=True, feature_loss="sigmoid-l2", prediction_weight=0.0, truth_of_motion=True
    ),
    "logits": MethodTraits(two_branches=False, feature_weight=0.0),
}


TWO_BRANCHES = f"a method with two branches ({', '.join(name for name, of in _TRAITS.items() if of.two_branches)})"
"""What some settings need, in words."""
ADDED_TERMS = ("time_contrast_weight", "relation_weight", "boundary_weight")
"""Weights of the terms that any method may have beside its own."""


class DistillationTerms(NamedTuple):
    """The terms that compare a student with its teacher, as they are trained."""

    feature_loss: FeatureLoss
    feature_weight: float
    prediction_weight: float


_ATTENTION_HEADS = 4


class DistillSettings(Settings):
    """How the student is trained."""

    method: Method = "decomposed"
    """decomposed is the paper's, the others are baselines (docs/method.md); rgb and rgb-matched have no teacher."""
    dim: int = Field(128, ge=8, le=4096)
    """Channels of each branch's feature, and of the teacher's."""
    feature_loss: FeatureLoss | None = None
    """Distance between student's and teacher's features; by default the method's own, as docs/method.md lists them."""
    feature_weight: float | None = Field(None, ge=0, le=1000)
    """Weight of the feature term, by default the method's own: 1, for mars 50; logits has no such term."""
    prediction_weight: float | None = Field(None, ge=0, le=1000)
    """Weight of the prediction term, by default 1; mars, mers and hallucination have no such term."""
    time_contrast_weight: float = added_later(0.0, ge=0, le=1000)
    """Weight of the contrast between time steps, for any method: a step is closest to the teacher's same step."""
    time_contrast_temperature: float = added_later(0.1, ge=0.01, le=10)
    """Temperature of the contrast between time steps; lower values count the most similar steps more."""
    relation_weight: float = added_later(0.0, ge=0, le=1000)
    """Weight of the relation term, for any method: similarities between steps are the teacher's."""
    boundary_weight: float = added_later(0.0, ge=0, le=1000)
    """Weight of the boundary term, for any method: features change over time where the teacher's change."""
    teachers: tuple[Annotated[str, Field(min_length=1)], ...] = added_later(())
    """Names of the teachers that the student is trained on, in the order of their features: teacher is the recipe's
    own, the others are those of [[teachers]]. By default all, the recipe's own first."""
    shared_head: bool = added_later(True)
    """Both branches share one head, as in the paper; false gives each branch a head of its own."""
    joint: bool = False
    """Train fusion and joint head together with the student (the paper's one-stage form)."""
    joint_prediction_weight: float = added_later(0.0, ge=0, le=1000)
    """With joint: weight of the prediction term of the joint head, which the paper lacks: the teacher's predictions
    supervise it, too; in a two-stream row, the average of both nets' predictions."""
    stop_gradient: Literal["none", "motion", "both"] = "none"
    """With joint: branches that receive no gradient from the joint loss."""

    @property
    def two_branches(self) -> bool:
        """Whether the student has a motion branch beside the appearance branch."""
        return _TRAITS[self.method].two_branches

    @property
    def taught(self) -> bool:
        """Whether the student is trained on the teacher's outputs: by the method itself or by an added term."""
        return _TRAITS[self.method].taught or any(getattr(self, weight) > 0 for weight in ADDED_TERMS)

    @property
    def compared(self) -> Branch:
        """The branch whose feature and predictions every term compares with the teacher's."""
        return "motion" if self.two_branches else "appearance"

    @property
    def predicted(self) -> tuple[Branch, ...]:
        """Branches whose predictions are compared with the teacher's or with the ground truth."""
        own = _TRAITS[self.method]
        motion = own.truth_of_motion or (own.taught and self.terms.prediction_weight > 0)
        return ("motion", "appearance") if self.two_branches and motion else ("appearance",)

    @property
    def adapted_to(self) -> int:
        """Teachers to whose features, side by side, an adapter widens the compared branch's; 0: there is no adapter."""
        compares = self.terms.feature_weight > 0 or any(getattr(self, weight) > 0 for weight in ADDED_TERMS)
        return len(self.teachers) if len(self.teachers) > 1 and self.taught and compares else 0

    @property
    def own_heads(self) -> bool:
        """Whether the motion branch has a head of its own."""
        return self.two_branches and not self.shared_head

    @property
    def joint_trains(self) -> tuple[Branch, ...]:
        """Branches that the joint loss trains."""
        if not _TRAITS[self.method].truth_trains_stream or self.stop_gradient == "both":
            return ()
        return ("appearance",) if self.stop_gradient == "motion" or not self.two_branches else ("motion", "appearance")

    @field_validator("teachers")
    @classmethod
    def _named_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if value.count(name) > 1:
                raise ValueError(f"'{name}' is there twice; name each teacher once")
        return value

    @property
    def terms(self) -> DistillationTerms:
        """The method's own terms: of the settings, or else the published ones. A term it lacks has weight 0."""
        own = _TRAITS[self.method]

        def weight(given: float | None, published: float) -> float:
            return published if given is None or published == 0 else given

        return DistillationTerms(
            own.feature_loss if self.feature_loss is None else self.feature_loss,
            weight(self.feature_weight, own.feature_weight),
            weight(self.prediction_weight, own.prediction_weight),
        )

    @property
    def unused(self) -> Mapping[str, str]:
        """Settings of terms and branches that the method lacks, and of a joint loss that is off."""
        unused: dict[str, str] = {}
        own, terms = _TRAITS[self.method], self.terms
        if not own.taught or own.feature_weight == 0:
            unused["feature_weight"] = "a method with a feature term"
        if "feature_weight" in unused or terms.feature_weight == 0:
            unused["feature_loss"] = "a method with a feature term, whose weight is above 0"
        if not own.taught or own.prediction_weight == 0:
            unused["prediction_weight"] = "a method with a prediction term"
        if not self.taught:
            unused["teachers"] = "a method with a teacher"
        if self.time_contrast_weight == 0:
            unused["time_contrast_temperature"] = "time_contrast_weight above 0"
        if not self.two_branches:
            unused["shared_head"] = TWO_BRANCHES
        if not self.joint:
            unused |= dict.fromkeys(("joint_prediction_weight", "stop_gradient"), "joint = true")
        elif self.joint_trains == self.model_copy(update={"stop_gradient": "none"}).joint_trains:
            unused["stop_gradient"] = "a method whose joint loss trains that branch"
        return unused

    @property
    def stated(self) -> DistillSettings:
        """These settings with the values of the method's terms filled in, as model files state them."""
        return self.model_copy(update=self.terms._asdict())


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
