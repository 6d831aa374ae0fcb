"""What a student is trained on, by method: decomposed distillation and its baselines, one function each.

Every function returns named losses, made of the few that :class:`Comparison` has. What a method needs (branches, a
teacher, weights) is in ``config/distill.py``. The streams share backbone, mappings, heads and schedule with decomposed
distillation, so that each is one setting away. A paper's cross entropy is the head's detection loss here.

In the docstrings, "stream" is backbone and mapping, and H is the student's head. With ``distill.shared_head = false``
the motion branch has its own head in place of H. A student of several teachers is compared with f_T through its
adapter, which the same losses train. With ``distill.joint`` the ground truth, and with
``distill.joint_prediction_weight`` y_T, also trains fusion and joint head J, and through them the streams in
``DistillSettings.joint_trains``. No loss has a gradient for the teacher.

Losses against the ground truth read the labelled windows of a batch alone, and are what they are without unlabelled
ones. The terms that compare with the teacher are means over the windows of both kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import assert_never

import torch
from torch import Tensor

from tadkit.config import Branch, DistillSettings
from tadkit.distill.batch import Batch, TeacherTargets
from tadkit.distill.feature_losses import boundary_distance, feature_distance, relation_distance, time_contrast
from tadkit.models.heads import Head, Predictions, windows_of
from tadkit.models.student import Student, StudentFeatures

Losses = dict[str, Tensor]


def detection_loss(head: Head, predictions: Predictions, batch: Batch) -> Tensor:
    """The head's own loss against the batch's annotations."""
    return head.loss(predictions, batch.truth.segments, batch.truth.labels).total


class Comparison:
    """A student's features for one batch, and the losses that methods are made of; those with weight 0 are absent."""

    def __init__(
        self, student: Student, features: StudentFeatures, mask: Tensor, batch: Batch, *, distill: DistillSettings
    ) -> None:
        """Compare ``features`` (batch, channels, steps), of which the steps under ``mask`` are real."""
        self._student, self._features, self._mask, self._batch = student, features, mask, batch
        self.distill = distill
        self._made: dict[Branch, Predictions] = {}

    def _predictions(self, branch: Branch) -> Predictions:
        """Predictions for the windows that are compared; one call of a head predicts all that it is asked for."""
        if branch not in self._made:
            asked = self.distill.predicted
            head = self._student.head
            together = len(asked) > 1 and self._student.motion_head is None and head.windows_apart
            self._made |= self._predicted_together(asked) if together else {branch: self._predicted(branch)}
        return self._made[branch]

    def _windows(self, branch: Branch) -> int:
        """Windows of a batch whose predictions are compared: without a teacher's, those that have ground truth."""
        imitates = branch == self.distill.compared and self.distill.terms.prediction_weight > 0
        return len(self._mask) if imitates and self._batch.teacher is not None else len(self._batch.truth)

    def _predicted(self, branch: Branch) -> Predictions:
        count = self._windows(branch)
        return self._student.branch_predictions(branch, self._features.of(branch)[:count], self._mask[:count])

    def _predicted_together(self, branches: Sequence[Branch]) -> dict[Branch, Predictions]:
        """As one call for each branch, to rounding and dropout."""
        counts = [self._windows(branch) for branch in branches]
        steps = [self._features.of(of)[:count].transpose(1, 2) for of, count in zip(branches, counts, strict=True)]
        feature, mask = torch.cat(steps).transpose(1, 2), torch.cat([self._mask[:count] for count in counts])
        predictions, ends = self._student.head(feature, mask), list(accumulate(counts))
        return {
            branch: windows_of(predictions, end - count, end)
            for branch, count, end in zip(branches, counts, ends, strict=True)
        }

    def _with_truth(self, branch: Branch) -> Predictions:
        """Predictions for the windows that have ground truth, which come before the unlabelled ones."""
        count, head = len(self._batch.truth), self._student.branch_head(branch)
        if self._windows(branch) == count or head.windows_apart:
            return windows_of(self._predictions(branch), 0, count) if head.windows_apart else self._predictions(branch)
        return self._student.branch_predictions(branch, self._features.of(branch)[:count], self._mask[:count])

    @property
    def _teacher(self) -> TeacherTargets:
        assert self._batch.teacher is not None, "distillation needs the teacher's outputs"
        return self._batch.teacher

    def truth(self, branch: Branch) -> Losses:
        """Detection loss of a branch's predictions: trains its head and its stream."""
        return {branch: detection_loss(self._student.branch_head(branch), self._with_truth(branch), self._batch)}

    def truth_for_head(self, branch: Branch) -> Losses:
        """Detection loss of a branch's predictions that stops at its feature: trains its head alone."""
        count = len(self._batch.truth)
        feature = self._features.of(branch)[:count].detach()
        predictions = self._student.branch_predictions(branch, feature, self._mask[:count])
        return {branch: detection_loss(self._student.branch_head(branch), predictions, self._batch)}

    def feature(self) -> Losses:
        """Distance of the compared branch's feature from f_T: trains its stream."""
        kind, weight, _ = self.distill.terms
        if weight == 0:
            return {}
        return {"feature": weight * feature_distance(*self._pair, self._mask, kind=kind)}

    def prediction(self) -> Losses:
        """Distance of the compared branch's predictions from y_T: trains its head and its stream."""
        weight, branch = self.distill.terms.prediction_weight, self.distill.compared
        if weight == 0:
            return {}
        head = self._student.branch_head(branch)
        imitation = head.distil(self._predictions(branch), self._teacher.predictions)
        return {"prediction": weight * (imitation.classification + imitation.regression)}

    def added(self) -> Losses:
        """The terms between time steps, which any method may add: they train the compared branch's stream."""
        chosen, losses = self.distill, Losses()
        if chosen.time_contrast_weight > 0:
            contrast = time_contrast(*self._pair, self._mask, temperature=chosen.time_contrast_temperature)
            losses["time_contrast"] = chosen.time_contrast_weight * contrast
        if chosen.relation_weight > 0:
            losses["relation"] = chosen.relation_weight * relation_distance(*self._pair, self._mask)
        if chosen.boundary_weight > 0:
            losses["boundary"] = chosen.boundary_weight * boundary_distance(*self._pair, self._mask)
        return losses

    @property
    def _pair(self) -> tuple[Tensor, Tensor]:
        """Feature of the compared branch, as wide as f_T, and f_T."""
        feature = self._student.adapted(self._features.of(self.distill.compared))
        return feature, self._teacher.feature.detach()


def method_losses(compared: Comparison) -> Losses:
    """Losses of the method, without the joint head's."""
    match compared.distill.method:
        case "decomposed":
            own = decomposed(compared)
        case "direct":
            own = direct(compared)
        case "rgb":
            own = rgb(compared)
        case "rgb-matched":
            own = rgb_matched(compared)
        case "mars":
            own = mars(compared)
        case "mers":
            own = mers(compared)
        case "hallucination":
            own = hallucination(compared)
        case "logits":
            own = logits(compared)
        case method:
            assert_never(method)
    return own | compared.added()


def decomposed(compared: Comparison) -> Losses:
    """Decomposed distillation (Lee et al., CVPR 2023).

    The ground truth trains the appearance stream and H; f_T trains the motion stream; y_T the motion stream and H.
    """
    return compared.truth("appearance") | compared.prediction() | compared.feature()


def direct(compared: Comparison) -> Losses:
    """Conventional distillation into the one RGB stream (the baseline of Lee et al., CVPR 2023).

    The ground truth and y_T train the stream and H; f_T trains the stream.
    """
    return compared.truth("appearance") | compared.prediction() | compared.feature()


def rgb(compared: Comparison) -> Losses:
    """No teacher: the ground truth trains the one stream and H."""
    return compared.truth("appearance")


def rgb_matched(compared: Comparison) -> Losses:
    """No teacher, but the parameters of decomposed distillation: the ground truth trains both streams and H."""
    return compared.truth("appearance") | compared.truth("motion")


def mars(compared: Comparison) -> Losses:
    """MARS (Crasto et al., CVPR 2019): cross entropy plus 50 times the mean squared error of features.

    The ground truth trains the one stream and H; f_T trains the stream. Predictions are not distilled.
    """
    return compared.truth("appearance") | compared.feature()


def mers(compared: Comparison) -> Losses:
    """MERS (Crasto et al., CVPR 2019): the stream mimics the teacher's features, the classifier reads them.

    f_T alone trains the stream; the ground truth trains H alone, and the joint loss J alone. The paper trains the
    classifier after the stream; here both are trained at once, the gradient stopped between them.
    """
    return compared.truth_for_head("appearance") | compared.feature()


def hallucination(compared: Comparison) -> Losses:
    """Modality hallucination (Hoffman, Gupta, Darrell, CVPR 2016): a second RGB branch mimics the teacher's feature.

    The loss is ||sigmoid(f_m) - sigmoid(f_T)||^2 and trains the motion (hallucination) stream. The ground truth trains
    both streams and H: to our knowledge the paper's hallucination net has detection losses of its own, too. Its nets
    are separate; our two branches share the backbone, like those of every method here, and H unless
    ``distill.shared_head = false``. The weight is 1 and ours: we could not read the paper's rule.
    """
    return compared.truth("appearance") | compared.truth("motion") | compared.feature()


def logits(compared: Comparison) -> Losses:
    """D3D (Stroud et al., WACV 2020): the one stream imitates the teacher's predictions, not its features.

    The ground truth and y_T train the stream and H. The paper's distance is between the class scores of a clip; a
    detector predicts classes and boundaries at many places, so ours is the head's ``distil``, as in ``direct``.
    """
    return compared.truth("appearance") | compared.prediction()
