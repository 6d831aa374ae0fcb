"""How good detections are: mean average precision, and how far it can be trusted."""

from tadkit.evaluation.average_precision import Counts, MeanAveragePrecision, mean_average_precision
from tadkit.evaluation.bootstrap import Difference, Interval, bootstrap_map, paired_difference
from tadkit.evaluation.matching import AMBIGUOUS, Protocol
from tadkit.evaluation.tables import temporal_iou

__all__ = [
    "AMBIGUOUS",
    "Counts",
    "Difference",
    "Interval",
    "MeanAveragePrecision",
    "Protocol",
    "bootstrap_map",
    "mean_average_precision",
    "paired_difference",
    "temporal_iou",
]
