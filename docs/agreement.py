"""Does the motion branch predict the teacher on videos that it has not seen? From a run folder, or one of an ablation.

python docs/agreement.py RUN_FOLDER ROW prints, for the held-out videos: the share of the variance of
the teacher's layer-normalised feature that the branch explains, over all steps and over those of each class's actions
(100 is perfect, 0 is no better than the mean); and the AP at tIoU 0.5 of the branch's detections if the teacher's
detections of 0.3 or more were the truth.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tadkit.evaluation import mean_average_precision
from tadkit.records import Annotation, read_dataset, read_detections
from tadkit.store import read_store

_SURE = 0.3


def normalised(feature: np.ndarray) -> np.ndarray:
    """Each step without its mean, and of length one a channel, as ``mse-normalised`` compares them."""
    centred = feature.astype(np.float64) - feature.mean(axis=1, keepdims=True, dtype=np.float64)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)


def main(folder: Path, row: str) -> None:
    """Print one line for all steps and one for each class."""
    dataset = read_dataset(folder / "detections" / "annotations.json")
    branch, target, classes = [], [], {}
    done = 0
    with (
        read_store(folder / f"features-{row}.h5", kind="features") as own,
        read_store(folder / "teacher.h5", kind="features") as taught,
    ):
        for name, record in dataset.videos.items():
            stamps_s = own.stamps_s(name)
            branch.append(normalised(own.read(name, "original/motion")))
            target.append(normalised(taught.read(name, "original/feature")))
            for action in record.annotations:
                inside = np.flatnonzero((stamps_s >= action.start_s) & (stamps_s < action.end_s)) + done
                classes.setdefault(action.label, []).append(inside)
            done += len(stamps_s)
    f_m, f_t = np.concatenate(branch), np.concatenate(target)
    error, spread = ((f_m - f_t) ** 2).sum(1), ((f_t - f_t.mean(0)) ** 2).sum(1)
    sure = {
        name: [Annotation(one.start_s, one.end_s, one.label) for one in found if one.score >= _SURE]
        for name, found in read_detections(folder / "detections" / "teacher.json").items()
    }
    found = read_detections(folder / "detections" / f"{row}+motion.json")
    agreed = mean_average_precision(sure, found, labels=None, tiou=(0.5,)).per_class
    print(f"all steps: explained {100 * (1 - error.sum() / spread.sum()):.1f} %")
    for label, parts in sorted(classes.items()):
        at = np.concatenate(parts)
        explained = 100 * (1 - error[at].sum() / spread[at].sum())
        ap = 100 * float(np.mean(agreed[label])) if label in agreed else float("nan")
        print(f"{label}: explained {explained:.1f} %, AP of the branch against the teacher {ap:.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
