"""Decomposed cross-modal distillation: teacher, student, joint head and what they are trained on."""

from tadkit.distill.batch import Batch, TeacherTargets, Truth
from tadkit.distill.objectives import JointHeadObjective, StudentObjective, TeacherObjective

__all__ = [
    "Batch",
    "JointHeadObjective",
    "StudentObjective",
    "TeacherObjective",
    "TeacherTargets",
    "Truth",
]
