"""The teacher's input: one class per flow method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tadkit.config.base import Settings


class FlowMethodSettings(Settings):
    """What all flow methods share."""

    bound_px: float = Field(20.0, ge=0.1, le=4096)
    """Largest displacement that the int8 code can store; larger ones are clipped and counted."""
    code: Literal["int8", "float16"] = "int8"
    """How flow is stored: int8, in 127 steps up to the bound; or float16, in twice the space and without a bound."""
    stack: int = Field(1, ge=1, le=64)
    """Consecutive flows that the teacher reads at each frame, centred on it (two-stream nets read 10); they are stacked
    when read, so that stored flow stays as it is."""


class Tvl1Settings(FlowMethodSettings):
    """TV-L1 in torch (Zach, Pock, Bischof 2007; Sanchez, Meinhardt-Llopis, Facciolo, IPOL 2013; Chambolle, Pock 2011).

    The defaults below are those of the preset ``fast``; ``faster`` replaces some of them, and ``reference`` replaces
    them with OpenCV's. Settings given next to the preset override it.
    """

    method: Literal["tvl1"] = "tvl1"
    preset: Literal["fast", "faster", "reference"] = "fast"
    """fast was at least as accurate as OpenCV's DualTVL1 in every band of displacement that we measured (docs/flow.md);
    faster takes fewer steps and is less accurate; reference behaves like OpenCV's."""
    solver: Literal["chambolle-pock", "zach"] = "chambolle-pock"
    """chambolle-pock is the faster primal-dual scheme of 2011; zach is the scheme of 2007, which OpenCV uses."""
    start: Literal["checked-dis", "dis", "zero"] = "checked-dis"
    """Initial flow: dis is OpenCV's DIS, which finds large motion but runs on the CPU; zero keeps all work on a GPU.
    checked-dis is DIS except where no motion fits as well; it also estimates from DIS how the brightness changed, and
    keeps the result for a pair only if its energy is not above that of DIS."""
    smoothing_px: float = Field(0.6, ge=0, le=5)
    """Sigma of the Gaussian blur applied to the frames."""
    sampling: Literal["bilinear", "bicubic"] = "bicubic"
    """How warps interpolate between pixels."""
    gradient: Literal["mean", "second"] = "mean"
    """Gradient in the data term: of the mean of the first and the warped second frame, or of the second frame."""
    tau: float = Field(0.125, ge=0.001, le=1)
    """Step size: zach's dual step, stable up to 0.25; chambolle-pock's primal step, whose dual step is 1 / (8 tau)."""
    lam: float = Field(0.15, ge=0.001, le=10)
    """Weight of the data term (lambda in the papers)."""
    theta: float = Field(0.3, ge=0.001, le=10)
    """Coupling of the two halves of zach's energy; chambolle-pock does not use it."""
    scales: int = Field(3, ge=1, le=12)
    """Maximum number of pyramid levels; levels under 16 px are left out."""
    scale_step: float = Field(0.65, ge=0.3, le=0.95)
    """Size of a pyramid level relative to the level below it."""
    warps: int = Field(2, ge=1, le=50)
    """Linearisations at full size."""
    coarse_warps: int = Field(3, ge=1, le=50)
    """Linearisations at each smaller level."""
    medians: int = Field(1, ge=1, le=50)
    """Median filters after each warp, each followed by the inner steps."""
    inner_steps: int = Field(16, ge=1, le=1000)
    """Steps of the solver after each median filter at full size."""
    coarse_inner_steps: int = Field(32, ge=1, le=1000)
    """Steps of the solver after each median filter at each smaller level."""
    median_px: Literal[1, 3, 5] = 5
    """Side of the median filter; 1 turns it off."""
    last_median: bool = True
    """Apply the median filter once more at the end of each level."""
    compile: Literal["auto", "never"] = "auto"
    """auto fuses the solver's steps with torch.compile if a compiler is installed; never does not."""
    batch_pairs: int = Field(32, ge=1, le=4096)
    """Frame pairs solved at once."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.keys() >= _TVL1_OF_0_1_0 and "gradient" not in given:
            # All that a store or a model of that version states: its flow had no other settings.
            given = {**given, **_as_in_0_1_0(given["warps"], given["inner_steps"])}
        match given.get("preset"):
            case "reference":
                return {**_TVL1_REFERENCE, **given}
            case "faster":
                return {**_TVL1_FASTER, **given}
            case _:
                return given

    @property
    def unused(self) -> Mapping[str, str]:
        """The coupling of the other solver's energy."""
        return {} if self.solver == "zach" else {"theta": "solver = 'zach'"}

    @property
    def as_in_0_1_0(self) -> Mapping[str, Any]:
        """Values of the newer settings with which the flow is that of files which do not state them."""
        return _as_in_0_1_0(self.warps, self.inner_steps)

    @model_validator(mode="after")
    def _stable(self) -> Tvl1Settings:
        if self.solver == "zach" and self.tau > 0.25:
            raise ValueError(f"tau must be at most 0.25 with solver zach, got {self.tau}")
        return self


def _as_in_0_1_0(warps: Any, inner_steps: Any) -> dict[str, Any]:
    return {"gradient": "second", "coarse_warps": warps, "coarse_inner_steps": inner_steps}


_TVL1_OF_0_1_0 = {"start", "smoothing_px", "sampling", "scales", "warps", "inner_steps", "median_px", "last_median"}
"""Settings that every file made before the newer ones states."""
_TVL1_FASTER: Mapping[str, Any] = {"warps": 1, "coarse_warps": 2, "coarse_inner_steps": 16}
_TVL1_REFERENCE: Mapping[str, Any] = {
    "solver": "zach",
    "start": "zero",
    "smoothing_px": 0.0,
    "gradient": "second",
    "tau": 0.25,
    "scales": 5,
    "scale_step": 0.8,
    "warps": 5,
    "coarse_warps": 5,
    "medians": 2,
    "inner_steps": 30,
    "coarse_inner_steps": 30,
    "last_median": False,
}
"""OpenCV's defaults except ``medians``: OpenCV filters up to ten times, until the flow converges; two came as close."""


class OpencvTvl1Settings(FlowMethodSettings):
    """OpenCV's DualTVL1 with its own defaults: the reference, one pair at a time on the CPU."""

    method: Literal["opencv-tvl1"] = "opencv-tvl1"


class OpencvDisSettings(FlowMethodSettings):
    """DIS of OpenCV (Kroeger et al., ECCV 2016): fast and classical, one pair at a time on the CPU."""

    method: Literal["opencv-dis"] = "opencv-dis"
    preset: Literal["ultrafast", "fast", "medium"] = "medium"
    """OpenCV's presets: ultrafast and fast stop at a quarter of the resolution, medium at half of it."""


class TemporalGradientSettings(FlowMethodSettings):
    """Difference of adjacent frames: a cheap motion input."""

    method: Literal["temporal-gradient"] = "temporal-gradient"
    bound_px: float = Field(128.0, ge=0.1, le=4096)
    """Largest grey-level difference (of 255) that the int8 code can store; larger ones are clipped and counted."""


class RaftSettings(FlowMethodSettings):
    """RAFT through torchvision."""

    method: Literal["raft-small", "raft-large"]
    weights: Path | None = None
    """State-dict file, relative to the recipe's folder, also with --set, or without a recipe to the current folder; by
    default torchvision downloads its weights."""
    iterations: int = Field(12, ge=1, le=64)
    """Refinement steps."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision; a CPU has no fp16."""
    batch_pairs: int = Field(4, ge=1, le=4096)
    """Frame pairs solved at once."""


class PluginFlowSettings(FlowMethodSettings):
    """A flow method of another package, which announces it as an entry point (docs/plugins.md)."""

    method: Literal["entry-point"]
    entry_point: str = Field(min_length=1)
    """Name in the package's entry points of the group tadkit.flow; tadkit doctor lists them."""


FlowSettings = Annotated[
    Tvl1Settings
    | OpencvTvl1Settings
    | OpencvDisSettings
    | TemporalGradientSettings
    | RaftSettings
    | PluginFlowSettings,
    Field(discriminator="method"),
]
