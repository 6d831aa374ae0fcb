"""What compares a student's feature with the teacher's: the feature term D_feat, and three terms between time steps.

Source of D_feat: docs/method.md, section "What the text leaves open". The three others are named in the abstract of
AugRGB (Dai, Das, Bremond, ICCV 2021, arXiv 2108.03619): a contrastive loss, contextual relations and boundary
saliency. Its formulas could not be read; those here are our reading, as docs/method.md describes it. All of them ignore
padded steps, and none reads the ground truth. One teacher's feature has as many channels as the student's
(``distill.dim``); to those of several teachers the student's adapter widens its own (``models/student.py``).
"""

from __future__ import annotations

from typing import TypeAlias, assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from tadkit.config import FeatureLoss

Feature: TypeAlias = Float[Tensor, "batch channels time"]
Steps: TypeAlias = Bool[Tensor, "batch time"]
_SMALL = 1e-6
"""Added to the squared size of a change, so that its root has a gradient where nothing changes."""


def feature_distance(student: Feature, teacher: Feature, mask: Steps, *, kind: FeatureLoss) -> Float[Tensor, ""]:
    """D_feat: mean over the real steps of a distance between the student's feature and f_T.

    ``mse-normalised`` compares layer-normalised features, so that the loss does not depend on the teacher's scale.
    ``sigmoid-l2`` is the hallucination loss, a squared norm, thus a sum over channels (Hoffman et al., CVPR 2016); the
    others are means over channels.
    """
    student, teacher = _real(student, mask), _real(teacher, mask)
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
        case "sigmoid-l2":
            distance = (student.sigmoid() - teacher.sigmoid()).square().sum(dim=1)
        case other:
            assert_never(other)
    return _mean(distance, mask)


def time_contrast(student: Feature, teacher: Feature, mask: Steps, *, temperature: float) -> Float[Tensor, ""]:
    """Contrast between time steps: InfoNCE with the teacher's same step as positive (our reading of AugRGB).

    For each real step of the student: the negative log of the softmax, over the window's real steps of the teacher, of
    cosine similarity divided by ``temperature``, at the same step. Mean over the real steps.
    """
    similarity = _cosines(_real(student, mask), _real(teacher, mask)) / temperature
    among = similarity.masked_fill(~mask[:, None], torch.finfo(similarity.dtype).min)
    return _mean(-among.log_softmax(dim=2).diagonal(dim1=1, dim2=2), mask)


def relation_distance(student: Feature, teacher: Feature, mask: Steps) -> Float[Tensor, ""]:
    """Relations between time steps: mean squared difference of the two cosine similarities of each pair of steps.

    The pairs are those of different real steps of one window; the mean is over the pairs of the batch (our reading of
    AugRGB's contextual relations).
    """
    student, teacher = _real(student, mask), _real(teacher, mask)
    different = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    pairs = mask[:, :, None] & mask[:, None] & different
    return _mean((_cosines(student, student) - _cosines(teacher, teacher)).square(), pairs)


def boundary_distance(student: Feature, teacher: Feature, mask: Steps) -> Float[Tensor, ""]:
    """Where features change: KL divergence of the student's changes over time from the teacher's.

    The change between two neighbouring real steps is the norm of their difference; divided by the sum over the window,
    changes are a distribution over time, large at boundaries. The divergence weights each place by the teacher's
    change there. Mean over the windows with a change, that is with two real steps or more (our reading of AugRGB's
    boundary saliency; ours reads the teacher alone, no annotated boundaries).
    """
    between = mask[:, 1:] & mask[:, :-1]
    ours, theirs = (_changes(_real(x, mask), between) for x in (student, teacher))
    divergence = torch.where(between, theirs * (theirs.log() - ours.log()), 0.0).sum(dim=1)
    return _mean(divergence, between.any(dim=1))


def _real(feature: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask[:, None], feature, 0.0)


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity (batch, time of a, time of b)."""
    return functional.normalize(a, dim=1).transpose(1, 2) @ functional.normalize(b, dim=1)


def _changes(feature: Tensor, between: Tensor) -> Tensor:
    """Share of each neighbouring pair (batch, time - 1) in the window's changes; 1 where there is no real pair."""
    size = (feature.diff(dim=2).square().sum(dim=1) + _SMALL).sqrt()
    total = torch.where(between, size, 0.0).sum(dim=1, keepdim=True)
    return torch.where(between, size / total.clamp(min=_SMALL), 1.0)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values under the mask; zero if there are none."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)
