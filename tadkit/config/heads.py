"""Settings of the detection heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from tadkit.config.base import Settings, added_later

_Channels = Annotated[int, Field(ge=1, le=65_536)]
_Reach = Annotated[float, Field(ge=0, le=1_000_000)]
_Window = Annotated[int, Field(ge=0, le=4095)]


class AnchorFreeSettings(Settings):
    """Settings shared by the anchor-free heads."""

    dim: int = Field(128, ge=8, le=4096)
    """Channels inside the head."""
    levels: int = Field(5, ge=1, le=10)
    """Pyramid levels; the steps of level l are level_ratio^l feature steps apart."""
    level_ratio: int = added_later(2, ge=2, le=16)
    """Ratio of the strides of neighbouring levels; even, except for blocks of convolutions."""
    start_level: int = added_later(0, ge=0, le=9)
    """Finest level that is predicted; the levels below it are computed but not predicted."""
    stem_layers: int = Field(1, ge=0, le=6)
    """Layers before the pyramid."""
    embedding_layers: int = Field(2, ge=0, le=6)
    """Convolutions that embed the features."""
    embedding_kernel: int = Field(3, ge=1, le=15)
    """Kernel size of the embedding; odd."""
    embedding_norm: bool = added_later(True)
    """Layer norm after each convolution of the embedding; without it they have biases."""
    streams: tuple[tuple[_Channels, _Channels], ...] = ()
    """Parts of the features that are projected separately before the embedding: channels in and out of each."""
    absolute_positions: bool = False
    """Add sinusoidal positions to the embedding; predictions then depend on where a window starts."""
    positions_steps: int = Field(2304, ge=1, le=1_000_000)
    """Track length covered by absolute positions; they are interpolated for longer tracks, in inference only."""
    neck: Literal["identity", "fpn"] = "identity"
    """fpn adds coarse levels to fine ones (Lin et al., CVPR 2017); identity only normalises each."""
    neck_dim: int = Field(0, ge=0, le=4096)
    """Output channels of an fpn neck; 0 means dim."""
    neck_norm: bool = added_later(True)
    """Layer norm of the neck's outputs; without it the convolutions of an fpn neck have biases."""
    head_dim: int = Field(0, ge=0, le=4096)
    """Channels of classifier and regressor; 0 means those of the neck."""
    head_layers: int = Field(2, ge=1, le=6)
    """Convolutions of the classifier and of the regressor, including the last one."""
    head_kernel: int = Field(3, ge=1, le=15)
    """Kernel size of classifier and regressor; odd."""
    head_norm: bool = added_later(True)
    """Layer norm between the convolutions of classifier and regressor; without it they have biases."""
    padding: Literal["masked", "opentad", "leaky"] = "masked"
    """masked: padding never affects results. opentad (in blocks and neck) and leaky (everywhere) reproduce OpenTAD and
    the authors' code, whose results depend on the padded length."""
    pad_to_steps: int = Field(0, ge=0, le=65_536)
    """Zero-pad shorter tracks to this many steps, longer ones to a multiple that the windows require; 0: none."""
    norm_eps: float = Field(1e-5, ge=1e-12, le=1)
    """Epsilon of the layer norms of embedding, neck, classifier and regressor."""
    first_range_steps: float = Field(4.0, ge=0.01, le=1_000_000)
    """Longest distance, in feature steps, that level 0 regresses; grows with the stride, the last is unbounded."""
    ranges_steps: tuple[tuple[_Reach, _Reach], ...] = ()
    """Shortest and longest distance, in feature steps, of each predicted level, instead of first_range_steps."""
    closed_ranges: bool = False
    """Assign a distance at the boundary of two ranges to both levels, as the authors' code and OpenTAD do."""
    centre_radius: float = Field(1.5, ge=0, le=1000)
    """Centre sampling: positives lie within this many strides of the action's centre; 0: in the whole action."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of each class target that is spread over all classes and background."""
    regression_weight: float = Field(1.0, ge=0, le=1000)
    """Weight of the regression loss; 0 balances it with the classification loss at every step."""
    normaliser: Literal["batch", "running"] = "batch"
    """Divide losses by the batch's positives, or by a running mean of them with momentum 0.9."""
    normaliser_start: float = Field(100.0, gt=0, le=1_000_000)
    """Initial value of the running mean."""
    layer_scale: bool = False
    """Learned scale for each channel of the residual paths, initially 1e-4 (Touvron et al., ICCV 2021)."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Stochastic depth: probability of dropping a residual path for a sample in training."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout in the layers of stem and pyramid, if the head has any."""
    prior_probability: float = Field(0.01, gt=0, lt=1)
    """Initial foreground probability of the classifier."""

    @model_validator(mode="after")
    def _fits_the_pyramid(self) -> Self:
        if self.start_level >= self.levels:
            raise ValueError(f"start_level {self.start_level} must be less than levels {self.levels}")
        if self.ranges_steps and len(self.ranges_steps) != self.pyramid_levels:
            raise ValueError(f"ranges_steps has {len(self.ranges_steps)} entries for {self.pyramid_levels} levels")
        if self.level_ratio % 2 and self.pools_levels:
            raise ValueError(f"level_ratio must be even, got {self.level_ratio}")
        if any(shortest >= longest for shortest, longest in self.ranges_steps):
            raise ValueError("each entry of ranges_steps must be a shorter distance followed by a longer one")
        if self.streams and sum(width for _, width in self.streams) != self.dim:
            raise ValueError(f"dim {self.dim} must be the sum of the output channels of the streams")
        if self.embedding_kernel % 2 == 0 or self.head_kernel % 2 == 0:
            raise ValueError("embedding_kernel and head_kernel must be odd")
        return self

    @property
    def strides(self) -> tuple[int, ...]:
        """Feature steps from one step to the next, for each level of the predictions."""
        return tuple(self.level_ratio**level for level in range(self.start_level, self.levels))

    @property
    def pyramid_levels(self) -> int:
        """Levels of the predictions, which can be split and stored step by step."""
        return self.levels - self.start_level

    @property
    def pools_levels(self) -> bool:
        """Whether levels are pooled from finer ones, by windows centred on a step, rather than convolved."""
        return True

    @property
    def fixed_window_steps(self) -> int | None:
        """Feature steps of the windows that the head processes as a whole; None: any length."""
        return None

    @property
    def class_agnostic(self) -> bool:
        """Whether the head has no classifier, so that all its detections have the same class."""
        return False


class ActionFormerSettings(AnchorFreeSettings):
    """Anchor-free head after ActionFormer (Zhang, Wu, Li, ECCV 2022)."""

    kind: Literal["actionformer"] = "actionformer"
    """Transformer pyramid with local attention; the default if a head section has no kind."""
    blocks: Literal["transformer", "conv"] = "transformer"
    """Layers of stem and pyramid; conv is the paper's convolutional baseline."""
    attention_heads: int = Field(4, ge=1, le=256)
    """Attention heads."""
    attention_window: int = Field(9, ge=3, le=4095)
    """Width of local attention in steps, including the step itself; odd."""
    attention_windows: tuple[_Window, ...] = ()
    """attention_window for each level, starting with the stem; 0 attends to all steps."""
    relative_positions: bool = False
    """Learned bias for each distance in local attention."""

    @model_validator(mode="after")
    def _odd_window(self) -> ActionFormerSettings:
        if self.attention_window % 2 == 0:
            raise ValueError(f"attention_window must be odd, got {self.attention_window}")
        if any(window != 0 and (window < 3 or window % 2 == 0) for window in self.attention_windows):
            raise ValueError("attention_windows must be 0 or odd and at least 3")
        if self.attention_windows and len(self.attention_windows) != self.levels:
            raise ValueError(f"attention_windows has {len(self.attention_windows)} entries for {self.levels} levels")
        if self.dim % self.attention_heads:
            raise ValueError(f"dim {self.dim} must be a multiple of attention_heads {self.attention_heads}")
        return self

    @property
    def pools_levels(self) -> bool:
        """Whether levels are pooled from finer ones, by windows centred on a step, rather than convolved."""
        return self.blocks != "conv"

    @property
    def windows(self) -> tuple[int, ...]:
        """Attention width of each level in steps; 0 is all."""
        return self.attention_windows or (self.attention_window,) * self.levels


class TriDetSettings(AnchorFreeSettings):
    """Anchor-free head after TriDet (Shi et al., CVPR 2023)."""

    kind: Literal["tridet"] = "tridet"
    """Pyramid of scalable-granularity perception; boundaries from relative probabilities around each step."""
    blocks: Literal["granularity", "conv"] = added_later("granularity")
    """Layers of stem and pyramid; conv is the authors' convolutional baseline."""
    granularity_windows: tuple[Annotated[int, Field(ge=1, le=4095)], ...] = (1,)
    """Kernel size of the short branch of a pyramid layer: one for all levels, or one per level; odd."""
    granularity_ratio: float = Field(5.0, gt=0, le=100)
    """Ratio of the kernel sizes of the long and the short branch (k in the paper)."""
    mlp_dim: int = Field(0, ge=0, le=16_384)
    """Hidden channels of a layer's MLP; 0 means four times dim."""
    pooling: Literal["max", "avg"] = "max"
    """How a level is downsampled from the finer one."""
    bins: int = Field(16, ge=0, le=64)
    """Steps on either side searched for a boundary (B in the paper); 0 regresses distances as in ActionFormer."""
    boundary_kernel: int = Field(3, ge=1, le=15)
    """Kernel size of the boundary heads; odd."""
    iou_power: float = Field(0.2, ge=0, le=100)
    """The loss of a positive class is weighted by its segment's IoU to this power."""
    branch_deviation: float = Field(0.1, ge=0, le=10)
    """Initial standard deviation of the depthwise weights; with the authors' 0 they are never trained."""
    input_noise: float = Field(0.0, ge=0, le=100)
    """Standard deviation of noise added to the features in training."""

    @model_validator(mode="after")
    def _fits_tridet(self) -> TriDetSettings:
        if any(window < 1 or window % 2 == 0 for window in self.granularity_windows):
            raise ValueError("granularity_windows must be odd")
        if len(self.granularity_windows) not in (1, self.levels):
            raise ValueError(
                f"granularity_windows has {len(self.granularity_windows)} entries for {self.levels} levels"
            )
        if self.dim % 16 and self.blocks != "conv":
            raise ValueError(f"dim {self.dim} must be a multiple of 16, the groups of its norm")
        return self

    @property
    def pools_levels(self) -> bool:
        """Whether levels are pooled from finer ones, by windows centred on a step, rather than convolved."""
        return self.blocks != "conv"

    @property
    def windows(self) -> tuple[int, ...]:
        """Kernel size of the short branch of each level, starting with the stem."""
        return self.granularity_windows * (self.levels if len(self.granularity_windows) == 1 else 1)


class TemporalMaxerSettings(AnchorFreeSettings):
    """Anchor-free head after TemporalMaxer (Tang, Kim, Sohn, arXiv 2303.09055): a pyramid of max-pools."""

    kind: Literal["temporal-maxer"] = "temporal-maxer"
    """The cheapest pyramid; strong if the features are."""
    neck_groups: int = Field(0, ge=0, le=4096)
    """Groups of an unweighted group norm that replaces the neck's layer norm; 0: none."""
    regress_to: Literal["shortest", "cheapest"] = "shortest"
    """If actions overlap, a step regresses the shortest, or the one with the lowest prediction cost."""

    @model_validator(mode="after")
    def _groups_divide(self) -> TemporalMaxerSettings:
        if self.neck_groups and self.dim % self.neck_groups:
            raise ValueError(f"dim {self.dim} must be a multiple of neck_groups {self.neck_groups}")
        if self.neck_groups and self.neck != "identity":
            raise ValueError("neck_groups requires neck identity, whose norm it replaces")
        return self


class WholeWindowSettings(Settings):
    """Settings shared by the heads that process whole windows."""

    window_steps: int = Field(128, ge=2, le=65_536)
    """Feature steps of a window, in training and inference, instead of window_s; longer tracks are cut into windows."""
    prior_probability: float = Field(0.01, gt=0, lt=1)
    """Initial probability of each class."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Feature steps from one step to the next, for each level of the predictions; here there are no levels."""
        return ()

    @property
    def pyramid_levels(self) -> int:
        """Levels of the predictions: none, because they describe a window as a whole."""
        return 0

    @property
    def fixed_window_steps(self) -> int | None:
        """Feature steps of the windows that the head processes as a whole."""
        return self.window_steps

    @property
    def class_agnostic(self) -> bool:
        """Whether the head has no classifier, so that all its detections have the same class."""
        return False


class TadtrSettings(WholeWindowSettings):
    """Query head after TadTR (Liu et al., IEEE TIP 2022); its detections need no suppression."""

    kind: Literal["tadtr"] = "tadtr"
    """Deformable transformer; each of its queries finds at most one action."""
    dim: int = Field(128, ge=8, le=4096)
    """Channels inside the head."""
    queries: int = Field(40, ge=1, le=10_000)
    """Queries per window; must exceed the number of actions in a window."""
    encoder_layers: int = Field(2, ge=0, le=12)
    """Deformable layers over the track."""
    decoder_layers: int = Field(4, ge=1, le=12)
    """Decoder layers; each refines the segments of the previous one."""
    attention_heads: int = Field(8, ge=1, le=256)
    """Attention heads."""
    points: int = Field(4, ge=1, le=64)
    """Positions of the track that each attention head of a query samples."""
    mlp_dim: int = Field(512, ge=8, le=16_384)
    """Hidden channels of the perceptrons in the layers."""
    norm_groups: int = Field(8, ge=1, le=4096)
    """Channel groups of the embedding's norm."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout in the layers."""
    padding: Literal["masked", "counted"] = "masked"
    """counted treats padding as real steps, as OpenTAD does."""
    pad_to_steps: int = Field(0, ge=0, le=65_536)
    """Pad shorter tracks to this many steps; affects results only with counted padding."""
    variant: Literal["opentad", "authors"] = "opentad"
    """authors: as in TadTR's own code, the embedding has a bias and steps are encoded by their ends, not centres."""
    actionness: bool = False
    """Predict the IoU of each segment with an action and multiply its scores by it, as in the TadTR paper."""
    actionness_bins: int = Field(16, ge=1, le=256)
    """Parts of a segment whose mean features predict its actionness."""
    actionness_context: float = Field(0.25, ge=0, le=10)
    """Surroundings on either side used to predict actionness, as a fraction of the segment's length."""
    class_cost: float = Field(6.0, ge=0, le=1000)
    """Weight of the classes in the matching."""
    segment_cost: float = Field(5.0, ge=0, le=1000)
    """Weight of the distance of normalised centre and width in the matching."""
    iou_cost: float = Field(2.0, ge=0, le=1000)
    """Weight of the IoU in the matching."""
    class_weight: float = Field(2.0, ge=0, le=1000)
    """Weight of the classification loss."""
    segment_weight: float = Field(5.0, ge=0, le=1000)
    """Weight of the L1 distance in the regression loss."""
    iou_weight: float = Field(2.0, ge=0, le=1000)
    """Weight of the IoU in the regression loss."""
    actionness_weight: float = Field(4.0, ge=0, le=1000)
    """Weight of the actionness in the regression loss."""

    @model_validator(mode="after")
    def _divides(self) -> TadtrSettings:
        for name in ("attention_heads", "norm_groups"):
            if self.dim % getattr(self, name):
                raise ValueError(f"dim {self.dim} must be a multiple of {name} {getattr(self, name)}")
        return self


class BmnSettings(WholeWindowSettings):
    """Boundary-matching head after BMN (Lin et al., ICCV 2019), with a classifier for its proposals."""

    kind: Literal["bmn"] = "bmn"
    """Scores starts, ends and a map of every (start, duration), and classifies the proposals."""
    dim: int = Field(128, ge=4, le=4096)
    """Channels of the track inside the head."""
    map_dim: int = Field(64, ge=1, le=4096)
    """Channels of the map of proposals."""
    roi_dim: int = Field(256, ge=1, le=4096)
    """Channels to which the samples of a proposal are projected."""
    groups: int = Field(4, ge=1, le=4096)
    """Groups of the convolutions over time."""
    graph_layers: int = Field(0, ge=0, le=6)
    """G-TAD's graph layers (Xu et al., CVPR 2020) after the first convolutions; BMN itself has none."""
    neighbours: int = Field(3, ge=1, le=1000)
    """Most similar steps that a step aggregates in a graph layer, itself included."""
    durations: int = Field(64, ge=1, le=4096)
    """Longest proposal in feature steps; the map has one row per length."""
    samples: int = Field(16, ge=1, le=256)
    """Features sampled from each proposal and its surroundings."""
    samples_per_bin: int = Field(3, ge=1, le=64)
    """Points averaged into each of these features."""
    context: float = Field(0.5, ge=0, le=10)
    """Surroundings on either side, as a fraction of the proposal's length."""
    map_layers: int = Field(2, ge=1, le=6)
    """3 x 3 convolutions over the map."""
    edge_steps: float = Field(3.0, ge=0.01, le=1000)
    """Length of the region around a start or end, in feature steps, that is labelled as boundary."""
    classifier: bool = True
    """Classify the proposals (not in the paper); if false, all are labelled "action", or with the only label."""
    score: Literal["iou", "iou*s*e"] = "iou*s*e"
    """Score of a proposal: its confidence, or that times the scores of its start and end."""
    regression_weight: float = Field(5.0, ge=0, le=1000)
    """Weight of the confidence map's squared error."""
    classifier_weight: float = Field(1.0, ge=0, le=1000)
    """Weight of the proposals' classification loss."""

    @model_validator(mode="after")
    def _divides(self) -> BmnSettings:
        if self.dim % self.groups:
            raise ValueError(f"dim {self.dim} must be a multiple of groups {self.groups}")
        return self

    @property
    def class_agnostic(self) -> bool:
        """Whether the head has no classifier, so that all its detections have the same class."""
        return not self.classifier


class TagsSettings(WholeWindowSettings):
    """Proposal-free mask head after TAGS (Nag et al., ECCV 2022)."""

    kind: Literal["tags"] = "tags"
    """Every step predicts its classes and a mask over its whole action."""
    dim: int = Field(128, ge=8, le=4096)
    """Channels inside the head."""
    layers: int = Field(2, ge=1, le=12)
    """Global self-attention layers."""
    attention_heads: int = Field(4, ge=1, le=256)
    """Attention heads."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout in the layers."""
    reach_steps: int = Field(64, ge=1, le=65_536)
    """Distance in steps beyond which the positional term of a mask is constant."""
    thresholds: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)
    """Thresholds applied to a mask; each gives a candidate."""
    mask_weight: float = Field(1.0, ge=0, le=1000)
    """Weight of the mask loss."""

    @model_validator(mode="after")
    def _fits(self) -> TagsSettings:
        if self.dim % self.attention_heads:
            raise ValueError(f"dim {self.dim} must be a multiple of attention_heads {self.attention_heads}")
        if not self.thresholds or not all(0 < level < 1 for level in self.thresholds):
            raise ValueError(f"thresholds must lie between 0 and 1, got {self.thresholds}")
        return self


class PluginHeadSettings(WholeWindowSettings):
    """A head of another package, which announces it as an entry point (docs/plugins.md)."""

    kind: Literal["entry-point"] = "entry-point"
    """Head of another package, which processes windows as a whole."""
    entry_point: str = Field(min_length=1)
    """Name in the package's entry points of the group tadkit.heads; tadkit doctor lists them."""


def _head_kind(section: object) -> object:
    """Tag of a head section; the oldest files, which had only one head, have none."""
    return section.get("kind", "actionformer") if isinstance(section, Mapping) else getattr(section, "kind", None)


HeadSettings = Annotated[
    Annotated[ActionFormerSettings, Tag("actionformer")]
    | Annotated[TriDetSettings, Tag("tridet")]
    | Annotated[TemporalMaxerSettings, Tag("temporal-maxer")]
    | Annotated[TadtrSettings, Tag("tadtr")]
    | Annotated[BmnSettings, Tag("bmn")]
    | Annotated[TagsSettings, Tag("tags")]
    | Annotated[PluginHeadSettings, Tag("entry-point")],
    Discriminator(_head_kind),
]
