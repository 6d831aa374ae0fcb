"""Evaluation of detections: mean average precision, recall, error analysis and confidence intervals."""

from tadkit.config import Protocol
from tadkit.evaluation.average_precision import Counts, MeanAveragePrecision, mean_average_precision
from tadkit.evaluation.bootstrap import Difference, Interval, bootstrap_map, paired_difference
from tadkit.evaluation.diagnosis import ERRORS, Diagnosis, Errors, diagnose
from tadkit.evaluation.recall import ProposalRecall, proposal_recall, recall_at_multiples
from tadkit.evaluation.sensitivity import Group, Sensitivity

__all__ = [
    "ERRORS",
    "Counts",
    "Diagnosis",
    "Difference",
    "Errors",
    "Group",
    "Interval",
    "MeanAveragePrecision",
    "ProposalRecall",
    "Protocol",
    "Sensitivity",
    "bootstrap_map",
    "diagnose",
    "mean_average_precision",
    "paired_difference",
    "proposal_recall",
    "recall_at_multiples",
]
