"""The batch of a training step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tadkit.models.heads import Predictions


@dataclass(frozen=True)
class Truth:
    """Annotations of a batch of windows; those of unlabelled videos have none, and come last in the batch.

    Attributes:
        segments: for each labelled window (n, 2), start and end as fractional positions on the window's feature steps.
        labels: for each labelled window (n,), int64.
    """

    segments: list[Tensor]
    labels: list[Tensor]

    def __len__(self) -> int:
        """Number of labelled windows."""
        return len(self.segments)

    def to(self, device: torch.device) -> Truth:
        """Copy to another device."""
        return Truth([s.to(device) for s in self.segments], [n.to(device) for n in self.labels])


@dataclass(frozen=True)
class TeacherTargets:
    """Cached outputs of the frozen teacher for the same windows: f_T (batch, channels, steps) and y_T.

    Of several teachers, f_T has the channels of all, and y_T is their average (``models/ensemble.py``).
    """

    feature: Tensor
    predictions: Predictions

    def to(self, device: torch.device) -> TeacherTargets:
        """Copy to another device."""
        moved = type(self.predictions)(*(_moved(field, device) for field in self.predictions))
        return TeacherTargets(self.feature.to(device), moved)


def _moved(field: Any, device: torch.device) -> Any:
    """Copy a field of predictions to another device: a tensor, tuples of tensors, or None."""
    if isinstance(field, tuple):
        return tuple(_moved(part, device) for part in field)
    return field if field is None else field.to(device)


@dataclass(frozen=True)
class Batch:
    """A batch of windows.

    Attributes:
        inputs: tensors by name; ``frames``, ``activations`` (see ``Backbone.prefix``) or ``flow`` at frame rate, or
            steps of stored features in their place; ``motion`` and ``appearance`` at feature steps.
        mask: (batch, frames or steps), false at padding.
        truth: annotations.
        teacher: outputs that the student is trained on; None without distillation.
        rows: of which windows this process has the inputs, where several train together; of all else it has all.
    """

    inputs: dict[str, Tensor]
    mask: Tensor
    truth: Truth
    teacher: TeacherTargets | None = field(default=None)
    rows: slice = field(default_factory=lambda: slice(None))

    def to(self, device: torch.device) -> Batch:
        """Copy to another device."""
        return Batch(
            {name: tensor.to(device) for name, tensor in self.inputs.items()},
            self.mask.to(device),
            self.truth.to(device),
            None if self.teacher is None else self.teacher.to(device),
            self.rows,
        )
