"""From predictions to detections."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tadkit.config.base import Settings


class DecodeSettings(Settings):
    """From predictions to detections."""

    min_score: float = Field(0.01, ge=0, lt=1)
    """Candidates and detections below this score are dropped."""
    top_candidates: int = Field(2000, ge=1, le=1_000_000)
    """Candidates a video that enter suppression."""
    min_steps: float = Field(0.0, ge=0, le=1_000_000)
    """Candidates shorter than this many feature steps are dropped (ActionFormer: 0.05)."""
    method: Literal["soft-gaussian", "soft-linear", "hard", "none"] = "soft-gaussian"
    """Suppression: soft-NMS by a Gaussian or a line (Bodla et al., ICCV 2017), hard NMS, or none at all."""
    sigma: float = Field(0.5, ge=0.001, le=1000)
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
    video_rule: Literal["product", "geometric-mean"] = "product"
    """How a candidate's score and that of its video are combined."""
    video_labels: int = Field(0, ge=0, le=1000)
    """Give every candidate this many best labels of its video (a head without classifier); 0 leaves it its own."""
    keep: int = Field(200, ge=1, le=1_000_000)
    """Detections kept a video."""
