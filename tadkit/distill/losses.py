"""What the student is trained on: decomposed distillation and its rivals, one function each.

Source: Lee et al., CVPR 2023 (re-implementation; docs/method.md lists what the text leaves open).
"""

from __future__ import annotations

from typing import Literal, assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

FeatureLoss = Literal["mse", "mse-normalised", "cosine", "smooth-l1"]


def feature_distance(
    student: Float[Tensor, "batch channels time"],
    teacher: Float[Tensor, "batch channels time"],
    mask: Bool[Tensor, "batch time"],
    *,
    kind: FeatureLoss,
) -> Float[Tensor, ""]:
    """D_feat: mean over the real steps of a distance between f_m and f_T.

    ``mse-normalised`` compares layer-normalised features, so that the teacher's scale does not set the weight.
    """
    match kind:
        case "mse":
            distance = (student - teacher).square().mean(dim=1)
        case "mse-normalised":
            channels = (student.shape[1],)
            a, b = (functional.layer_norm(x.transpose(1, 2), channels) for x in (student, teacher))
            distance = (a - b).square().mean(dim=2)
        case "cosine":
            distance = 1 - functional.cosine_similarity(student, teacher, dim=1)
        case "smooth-l1":
            distance = functional.smooth_l1_loss(student, teacher, reduction="none").mean(dim=1)
        case other:
            assert_never(other)
    return torch.where(mask, distance, 0.0).sum() / mask.sum().clamp(min=1)
