"""Heads that see a window of fixed length as a whole."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tadkit.config.base import Settings


class WholeWindowSettings(Settings):
    """What the heads that see a whole window share."""

    window_steps: int = Field(128, ge=2, le=65_536)
    """Feature steps of a window, in training and in use, instead of window_s; longer tracks are cut into them."""
    prior_probability: float = Field(0.01, gt=0, lt=1)
    """Probability of each class that the classifier starts from."""

    @property
    def pyramid_levels(self) -> int:
        """Levels of the predictions: none, because they are of a window as a whole."""
        return 0

    @property
    def fixed_window_steps(self) -> int | None:
        """Feature steps of the windows that the head reads as a whole."""
        return self.window_steps

    @property
    def class_agnostic(self) -> bool:
        """Whether the head has no classifier, so that all its detections are of one class."""
        return False


class TadtrSettings(WholeWindowSettings):
    """Query head in the manner of TadTR (Liu et al., IEEE TIP 2022); its detections need no suppression."""

    kind: Literal["tadtr"] = "tadtr"
    """Deformable transformer; each of its queries finds at most one action."""
    dim: int = Field(128, ge=8, le=4096)
    """Channels inside the head."""
    queries: int = Field(40, ge=1, le=10_000)
    """Queries a window: more than actions that a window can hold."""
    encoder_layers: int = Field(2, ge=0, le=12)
    """Deformable layers over the track."""
    decoder_layers: int = Field(4, ge=1, le=12)
    """Layers of the queries; each refines the segments of the one before."""
    attention_heads: int = Field(8, ge=1, le=256)
    """Attention heads."""
    points: int = Field(4, ge=1, le=64)
    """Places of the track that a query reads, a head."""
    mlp_dim: int = Field(512, ge=8, le=16_384)
    """Hidden channels of the perceptrons in the layers."""
    norm_groups: int = Field(8, ge=1, le=4096)
    """Groups of channels that the embedding's norm takes together."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout in the layers."""
    padding: Literal["masked", "counted"] = "masked"
    """counted reads padding as if it were real, as OpenTAD does."""
    pad_to_steps: int = Field(0, ge=0, le=65_536)
    """Shorter tracks are padded to this many steps, which only counted padding makes a difference to."""
    variant: Literal["opentad", "authors"] = "opentad"
    """authors: as in TadTR's own code the embedding has a bias, and steps are told their ends, not their centres."""
    actionness: bool = False
    """Predict how well each segment fits an action and multiply its scores by that, as published TadTR does."""
    actionness_bins: int = Field(16, ge=1, le=256)
    """Parts of a segment whose mean features its actionness is predicted from."""
    actionness_context: float = Field(0.25, ge=0, le=10)
    """Surroundings of a segment on either side that its actionness is predicted from, as a share of its length."""
    class_cost: float = Field(6.0, ge=0, le=1000)
    """Weight of the classes in the matching."""
    segment_cost: float = Field(5.0, ge=0, le=1000)
    """Weight of the distance of normalised centre and width in the matching."""
    iou_cost: float = Field(2.0, ge=0, le=1000)
    """Weight of the overlap in the matching."""
    class_weight: float = Field(2.0, ge=0, le=1000)
    """Weight of the classification loss."""
    segment_weight: float = Field(5.0, ge=0, le=1000)
    """Weight of the distance in the regression loss."""
    iou_weight: float = Field(2.0, ge=0, le=1000)
    """Weight of the overlap in the regression loss."""
    actionness_weight: float = Field(4.0, ge=0, le=1000)
    """Weight of the actionness in the regression loss."""

    @model_validator(mode="after")
    def _divides(self) -> TadtrSettings:
        for name in ("attention_heads", "norm_groups"):
            if self.dim % getattr(self, name):
                raise ValueError(f"dim {self.dim} must be a multiple of {name} {getattr(self, name)}")
        return self


class BmnSettings(WholeWindowSettings):
    """Boundary matching in the manner of BMN (Lin et al., ICCV 2019), with a classifier of its proposals."""

    kind: Literal["bmn"] = "bmn"
    """Proposals are judged by starts, ends and a map of every start and duration, and named by a classifier."""
    dim: int = Field(128, ge=4, le=4096)
    """Channels of the track inside the head."""
    map_dim: int = Field(64, ge=1, le=4096)
    """Channels of the map of proposals."""
    roi_dim: int = Field(256, ge=1, le=4096)
    """Channels that the samples of a proposal are mixed to."""
    groups: int = Field(4, ge=1, le=4096)
    """Groups of the convolutions over time."""
    graph_layers: int = Field(0, ge=0, le=6)
    """G-TAD's graph layers (Xu et al., CVPR 2020) after the first convolutions; the paper of BMN has none."""
    neighbours: int = Field(3, ge=1, le=1000)
    """Steps that look most alike, itself included, that a step hears in a graph layer."""
    durations: int = Field(64, ge=1, le=4096)
    """Longest proposal in feature steps; one row of the map for each length."""
    samples: int = Field(16, ge=1, le=256)
    """Features read of each proposal and its surroundings."""
    samples_per_bin: int = Field(3, ge=1, le=64)
    """Places averaged to one of these features."""
    context: float = Field(0.5, ge=0, le=10)
    """Surroundings on either side, as a share of the proposal's length."""
    map_layers: int = Field(2, ge=1, le=6)
    """3 x 3 convolutions over the map."""
    edge_steps: float = Field(3.0, ge=0.01, le=1000)
    """Stretch around a start or end, in feature steps, whose steps learn to say so."""
    classifier: bool = True
    """Name the proposals (ours, the paper has none); without, all are "action", or the one label, until named."""
    score: Literal["iou", "iou*s*e"] = "iou*s*e"
    """Score of a proposal: its confidence, or its confidence times that of its start and of its end."""
    regression_weight: float = Field(5.0, ge=0, le=1000)
    """Weight of the confidence map's squared error."""
    classifier_weight: float = Field(1.0, ge=0, le=1000)
    """Weight of the proposals' classes."""

    @model_validator(mode="after")
    def _divides(self) -> BmnSettings:
        if self.dim % self.groups:
            raise ValueError(f"dim {self.dim} must be a multiple of groups {self.groups}")
        return self

    @property
    def class_agnostic(self) -> bool:
        """Whether the head has no classifier, so that all its detections are of one class."""
        return not self.classifier


class TagsSettings(WholeWindowSettings):
    """Proposal-free masks in the manner of TAGS (Nag et al., ECCV 2022)."""

    kind: Literal["tags"] = "tags"
    """Every step names its classes and marks the whole extent of its action."""
    dim: int = Field(128, ge=8, le=4096)
    """Channels inside the head."""
    layers: int = Field(2, ge=1, le=12)
    """Global self-attention layers."""
    attention_heads: int = Field(4, ge=1, le=256)
    """Attention heads."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout in the layers."""
    reach_steps: int = Field(64, ge=1, le=65_536)
    """Distance in steps beyond which a mask's prior does not change."""
    thresholds: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)
    """Levels at which a mask is cut; each gives a candidate."""
    mask_weight: float = Field(1.0, ge=0, le=1000)
    """Weight of the masks' losses."""

    @model_validator(mode="after")
    def _fits(self) -> TagsSettings:
        if self.dim % self.attention_heads:
            raise ValueError(f"dim {self.dim} must be a multiple of attention_heads {self.attention_heads}")
        if not self.thresholds or not all(0 < level < 1 for level in self.thresholds):
            raise ValueError(f"thresholds must lie between 0 and 1, got {self.thresholds}")
        return self
