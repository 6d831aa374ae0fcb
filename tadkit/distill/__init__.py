"""Decomposed cross-modal distillation: teacher, student, joint head and what they are trained on."""

from tadkit.distill.batch import Batch, TeacherTargets, Truth
from tadkit.distill.joint import JointHead
from tadkit.distill.objectives import JointHeadObjective, StudentObjective, TeacherObjective
from tadkit.distill.student import TWO_BRANCHES, Student, StudentFeatures
from tadkit.distill.teacher import Teacher, TeacherOutput

__all__ = [
    "TWO_BRANCHES",
    "Batch",
    "JointHead",
    "JointHeadObjective",
    "Student",
    "StudentFeatures",
    "StudentObjective",
    "Teacher",
    "TeacherObjective",
    "TeacherOutput",
    "TeacherTargets",
    "Truth",
]
