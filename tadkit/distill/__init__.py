"""Decomposed cross-modal distillation: the objectives of teacher, student and joint head, and their batches."""

from tadkit.distill.batch import Batch, TeacherTargets, Truth
from tadkit.distill.objectives import (
    BranchHeadsObjective,
    JointHeadObjective,
    StudentObjective,
    TeacherObjective,
    WindowsObjective,
)

__all__ = [
    "Batch",
    "BranchHeadsObjective",
    "JointHeadObjective",
    "StudentObjective",
    "TeacherObjective",
    "TeacherTargets",
    "Truth",
    "WindowsObjective",
]
