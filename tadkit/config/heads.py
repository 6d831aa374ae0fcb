"""The detection heads, and the choice of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from tadkit.config.base import Settings

_Channels = Annotated[int, Field(ge=1, le=65_536)]
_Reach = Annotated[float, Field(ge=0, le=1_000_000)]
_Window = Annotated[int, Field(ge=0, le=4095)]


class AnchorFreeSettings(Settings):
    """What the anchor-free heads share."""

    dim: int = Field(128, ge=8, le=4096)
    """Channels inside the head."""
    levels: int = Field(5, ge=1, le=10)
    """Pyramid levels; level l sees steps 2^l feature steps apart."""
    stem_layers: int = Field(1, ge=0, le=6)
    """Layers before the pyramid."""
    embedding_layers: int = Field(2, ge=0, le=6)
    """Convolutions that embed the features."""
    embedding_kernel: int = Field(3, ge=1, le=15)
    """Steps that a convolution of the embedding sees; odd."""
    streams: tuple[tuple[_Channels, _Channels], ...] = ()
    """Parts of the features that are projected apart before the embedding: channels in and out of each."""
    absolute_positions: bool = False
    """Sinusoids added to the embedding; predictions then depend on where a window starts."""
    positions_steps: int = Field(2304, ge=1, le=1_000_000)
    """Longest track that the sinusoids are made for; longer ones stretch them, and cannot be trained on."""
    neck: Literal["identity", "fpn"] = "identity"
    """fpn adds coarse levels to fine ones (Lin et al., CVPR 2017); identity only normalises each."""
    neck_dim: int = Field(0, ge=0, le=4096)
    """Channels after an fpn neck; 0 is dim."""
    head_dim: int = Field(0, ge=0, le=4096)
    """Channels of classifier and regressor; 0 is what the neck gives."""
    head_layers: int = Field(2, ge=1, le=6)
    """Convolutions of the classifier and of the regressor, the last one included."""
    head_kernel: int = Field(3, ge=1, le=15)
    """Steps that a convolution of classifier and regressor sees; odd."""
    padding: Literal["masked", "opentad", "leaky"] = "masked"
    """masked keeps padding out of everything; opentad (in blocks and neck) and leaky (everywhere) let it in as those
    peers do, whose results depend on the padded length."""
    pad_to_steps: int = Field(0, ge=0, le=65_536)
    """Zero-pad shorter tracks to this many steps, longer ones to a multiple that the peer's windows need; 0: none."""
    norm_eps: float = Field(1e-5, ge=1e-12, le=1)
    """Smallest variance in the layer norms of embedding, neck, classifier and regressor."""
    first_range_steps: float = Field(4.0, ge=0.01, le=1_000_000)
    """Longest reach, in feature steps, that level 0 regresses; it doubles with each level, the last has no bound."""
    ranges_steps: tuple[tuple[_Reach, _Reach], ...] = ()
    """Shortest and longest reach, in feature steps, of each level, in place of the doubling ones."""
    closed_ranges: bool = False
    """A reach that is one level's longest and the next one's shortest belongs to both, as in the peers' training."""
    centre_radius: float = Field(1.5, ge=0, le=1000)
    """Centre sampling: positives lie within this many strides of the action's centre; 0 takes the whole action."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of each class target that is spread over all classes and background."""
    regression_weight: float = Field(1.0, ge=0, le=1000)
    """Weight of the regression loss; 0 makes it weigh as much as the classification loss at every step."""
    normaliser: Literal["batch", "running"] = "batch"
    """Losses are divided by the batch's positives, or by a running mean of them with momentum 0.9."""
    normaliser_start: float = Field(100.0, gt=0, le=1_000_000)
    """What the running mean starts from."""
    layer_scale: bool = False
    """A learnt factor for each channel of the residual paths, at first 1e-4 (Touvron et al., ICCV 2021)."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Share of samples whose residual paths are left out, path by path, in training."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout in the layers of stem and pyramid, where the head has any."""
    prior_probability: float = Field(0.01, gt=0, lt=1)
    """Foreground probability that the classifier starts from."""

    @model_validator(mode="after")
    def _fits_the_pyramid(self) -> Self:
        if self.ranges_steps and len(self.ranges_steps) != self.levels:
            raise ValueError(f"ranges_steps names {len(self.ranges_steps)} levels of {self.levels}")
        if any(shortest >= longest for shortest, longest in self.ranges_steps):
            raise ValueError("ranges_steps must name the shortest reach of a level before a longer one")
        if self.streams and sum(width for _, width in self.streams) != self.dim:
            raise ValueError(f"dim {self.dim} must be the sum of what the streams are projected to")
        if self.embedding_kernel % 2 == 0 or self.head_kernel % 2 == 0:
            raise ValueError("embedding_kernel and head_kernel must be odd")
        return self

    @property
    def pyramid_levels(self) -> int:
        """Levels of the predictions, which can be cut and stored step by step."""
        return self.levels

    @property
    def fixed_window_steps(self) -> int | None:
        """Feature steps of the windows that the head reads as a whole; None: it reads tracks of any length."""
        return None

    @property
    def class_agnostic(self) -> bool:
        """Whether the head has no classifier, so that all its detections are of one class."""
        return False


class ActionFormerSettings(AnchorFreeSettings):
    """Anchor-free head in the manner of ActionFormer (Zhang, Wu, Li, ECCV 2022)."""

    kind: Literal["actionformer"] = "actionformer"
    """Transformer pyramid of local attention; what a head section without a kind means."""
    blocks: Literal["transformer", "conv"] = "transformer"
    """Layers of stem and pyramid; conv is the paper's rival of two convolutions."""
    attention_heads: int = Field(4, ge=1, le=256)
    """Heads of the attention."""
    attention_window: int = Field(9, ge=3, le=4095)
    """Steps that a step attends to, itself included; odd."""
    attention_windows: tuple[_Window, ...] = ()
    """The same for each level, the stem's first, in place of attention_window; 0 attends to all steps."""
    relative_positions: bool = False
    """A learnt weight for each distance in local attention."""

    @model_validator(mode="after")
    def _odd_window(self) -> ActionFormerSettings:
        if self.attention_window % 2 == 0:
            raise ValueError(f"attention_window must be odd, got {self.attention_window}")
        if any(window != 0 and (window < 3 or window % 2 == 0) for window in self.attention_windows):
            raise ValueError("attention_windows must be 0 or odd and at least 3")
        if self.attention_windows and len(self.attention_windows) != self.levels:
            raise ValueError(f"attention_windows names {len(self.attention_windows)} levels of {self.levels}")
        if self.dim % self.attention_heads:
            raise ValueError(f"dim {self.dim} must be a multiple of attention_heads {self.attention_heads}")
        return self

    @property
    def windows(self) -> tuple[int, ...]:
        """Steps that a step of each level attends to; 0 is all."""
        return self.attention_windows or (self.attention_window,) * self.levels


class TriDetSettings(AnchorFreeSettings):
    """Anchor-free head in the manner of TriDet (Shi et al., CVPR 2023)."""

    kind: Literal["tridet"] = "tridet"
    """Pyramid of scalable-granularity perception; boundaries from relative probabilities around each step."""
    granularity_windows: tuple[Annotated[int, Field(ge=1, le=4095)], ...] = (1,)
    """Steps that the short branch of a pyramid layer sees: one for all levels, or one a level; odd."""
    granularity_ratio: float = Field(5.0, gt=0, le=100)
    """How much more the long branch sees (k in the paper)."""
    mlp_dim: int = Field(0, ge=0, le=16_384)
    """Hidden channels of a layer's MLP; 0 is four times dim."""
    pooling: Literal["max", "avg"] = "max"
    """How a level is made from the finer one."""
    bins: int = Field(16, ge=0, le=64)
    """Steps on either side that a boundary is sought in (B in the paper); 0 regresses distances as in ActionFormer."""
    boundary_kernel: int = Field(3, ge=1, le=15)
    """Steps that a convolution of the boundary heads sees; odd."""
    iou_power: float = Field(0.2, ge=0, le=100)
    """The loss of a positive class weighs as its segment's IoU to this power."""
    branch_deviation: float = Field(0.1, ge=0, le=10)
    """Standard deviation of the depthwise weights at first; at the authors' 0 they never learn."""
    input_noise: float = Field(0.0, ge=0, le=100)
    """Standard deviation of noise added to the features in training."""

    @model_validator(mode="after")
    def _fits_tridet(self) -> TriDetSettings:
        if any(window < 1 or window % 2 == 0 for window in self.granularity_windows):
            raise ValueError("granularity_windows must be odd")
        if len(self.granularity_windows) not in (1, self.levels):
            raise ValueError(f"granularity_windows names {len(self.granularity_windows)} levels of {self.levels}")
        if self.dim % 16:
            raise ValueError(f"dim {self.dim} must be a multiple of 16, the groups of its norm")
        return self

    @property
    def windows(self) -> tuple[int, ...]:
        """Steps that the short branch of each level sees, the stem's first."""
        return self.granularity_windows * (self.levels if len(self.granularity_windows) == 1 else 1)


class TemporalMaxerSettings(AnchorFreeSettings):
    """Anchor-free head in the manner of TemporalMaxer (Tang, Kim, Sohn, arXiv 2303.09055): a pyramid of max-pools."""

    kind: Literal["temporal-maxer"] = "temporal-maxer"
    """The cheapest of the pyramids; a strong one where the features are."""
    neck_groups: int = Field(0, ge=0, le=4096)
    """Groups of a group norm without weights in place of the neck's layer norm; 0: none."""
    regress_to: Literal["shortest", "cheapest"] = "shortest"
    """Where actions overlap, a step regresses the shortest, or the one that its prediction costs least for."""

    @model_validator(mode="after")
    def _groups_divide(self) -> TemporalMaxerSettings:
        if self.neck_groups and self.dim % self.neck_groups:
            raise ValueError(f"dim {self.dim} must be a multiple of neck_groups {self.neck_groups}")
        if self.neck_groups and self.neck != "identity":
            raise ValueError("neck_groups goes with neck identity, whose norm it stands in place of")
        return self


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


def _head_kind(section: object) -> object:
    """Tag of a head section; files from before there was a choice of heads name none."""
    return section.get("kind", "actionformer") if isinstance(section, Mapping) else getattr(section, "kind", None)


HeadSettings = Annotated[
    Annotated[ActionFormerSettings, Tag("actionformer")]
    | Annotated[TriDetSettings, Tag("tridet")]
    | Annotated[TemporalMaxerSettings, Tag("temporal-maxer")]
    | Annotated[TadtrSettings, Tag("tadtr")]
    | Annotated[BmnSettings, Tag("bmn")]
    | Annotated[TagsSettings, Tag("tags")],
    Discriminator(_head_kind),
]
