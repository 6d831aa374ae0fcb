"""Settings of decoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from tadkit.config.base import Settings


class DecodeSettings(Settings):
    """From predictions to detections."""

    min_score: float = Field(0.01, ge=0, lt=1)
    """Candidates and detections below this score are dropped."""
    top_candidates: int = Field(2000, ge=1, le=1_000_000)
    """A candidate enters suppression unless this many better ones are within stretch_s of it."""
    min_steps: float = Field(0.0, ge=0, le=1_000_000)
    """Candidates shorter than this many feature steps are dropped (ActionFormer: 0.05)."""
    method: Literal["soft-gaussian", "soft-linear", "hard", "none"] = "soft-gaussian"
    """Suppression: Gaussian or linear soft-NMS (Bodla et al., ICCV 2017), hard NMS, or none."""
    sigma: float = Field(0.5, ge=0.001, le=1000)
    """Width of Gaussian soft-NMS; larger values suppress less."""
    iou: float = Field(0.5, gt=0, le=1)
    """IoU from which hard NMS removes detections and linear soft-NMS lowers their scores."""
    class_agnostic: bool = False
    """Let detections of different classes suppress each other."""
    voting: Literal["none", "score-iou", "score"] = "none"
    """Move detections to the mean of the candidates around them, weighted as in ActionFormer or as in TriDet."""
    voting_iou: float = Field(0.7, gt=0, le=1)
    """IoU from which a candidate votes; only within its class, unless class_agnostic."""
    clip_first: bool = True
    """Clip segments to the video before suppression; ActionFormer, TriDet and OpenTAD clip after it."""
    video_rule: Literal["product", "geometric-mean"] = "product"
    """How a candidate's score is combined with that of its video."""
    video_labels: int = Field(0, ge=0, le=1000)
    """Give every candidate this many best labels of its video (for class-agnostic heads); 0 keeps its own label."""
    keep: int = Field(200, ge=1, le=1_000_000)
    """A detection is kept unless this many better ones are within stretch_s of it."""
    stretch_s: float = Field(60.0, ge=0, le=1_000_000)
    """Seconds from centre to centre within which top_candidates and keep count: no stretch of this length has more than
    keep detections, in a video of any length. 0: they count in the whole file, as in other projects."""

    @property
    def unused(self) -> Mapping[str, str]:
        """Settings of the suppression and of the voting that are not chosen."""
        unused: dict[str, str] = {}
        if self.method != "soft-gaussian":
            unused["sigma"] = "method = 'soft-gaussian'"
        if self.method not in ("soft-linear", "hard"):
            unused["iou"] = "method = 'hard' or 'soft-linear'"
        if self.voting == "none":
            unused["voting_iou"] = "voting = 'score-iou' or 'score'"
        return unused
