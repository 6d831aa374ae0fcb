"""Heads in which every step of a pyramid regresses its action."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

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
