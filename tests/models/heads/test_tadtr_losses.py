import pytest
import torch

from tadkit.config import TadtrSettings
from tadkit.models.heads.tadtr import QueryPredictions, overlaps, query_distillation, query_loss

SETTINGS = TadtrSettings()
LENGTH = 40


def predictions(*queries: tuple[float, float, int, float], classes: int = 3) -> QueryPredictions:
    """One video's queries, each (start, end, class, logit); other classes are at -20."""
    logits = torch.full((1, len(queries), classes), -20.0)
    for query, (_, _, label, logit) in enumerate(queries):
        logits[0, query, label] = logit
    segments = torch.tensor([[query[:2] for query in queries]])
    real = torch.ones(1, LENGTH, dtype=torch.bool)
    return QueryPredictions(logits.requires_grad_(), segments.requires_grad_(), real)


def loss(given: QueryPredictions, segments: list[list[float]], labels: list[int]) -> torch.Tensor:
    truth = torch.tensor(segments).reshape(-1, 2), torch.tensor(labels, dtype=torch.int64)
    return query_loss(given, [truth[0]], [truth[1]], settings=SETTINGS).total


def test_confident_and_exact_queries_cost_nothing_in_any_order() -> None:
    exact = predictions((30.0, 35.0, 1, 20.0), (0.0, 4.0, 0, -20.0), (3.0, 9.0, 2, 20.0))
    assert loss(exact, [[3.0, 9.0], [30.0, 35.0]], [2, 1]) < 1e-6


def test_only_the_matched_query_is_pulled_to_the_action() -> None:
    given = predictions((3.0, 9.0, 0, 2.0), (3.5, 9.5, 0, 1.0))
    loss(given, [[2.0, 8.0]], [0]).backward()
    pulled = given.segments.grad[0].abs().sum(dim=1)
    assert pulled[0] > 0
    assert pulled[1] == 0
    assert given.logits.grad[0, 0, 0] < 0 < given.logits.grad[0, 1, 0]


def test_a_video_without_actions_costs_classification_alone() -> None:
    given = predictions((3.0, 9.0, 0, 2.0))
    nothing = query_loss(given, [torch.zeros(0, 2)], [torch.zeros(0, dtype=torch.int64)], settings=SETTINGS)
    assert nothing.positives == 0
    assert nothing.regression == 0
    assert nothing.classification > 0
    nothing.total.backward()


def test_more_actions_than_queries_leave_some_unmatched() -> None:
    segments = [[1.0, 5.0], [10.0, 15.0], [20.0, 30.0]]
    assert loss(predictions((10.0, 15.0, 1, 20.0)), segments, [0, 1, 2]) < 1e-6


def test_earlier_layers_learn_too() -> None:
    given = predictions((3.0, 9.0, 0, 2.0))
    deep = given._replace(earlier=((given.logits, given.segments),))
    torch.testing.assert_close(loss(deep, [[2.0, 8.0]], [0]), 2 * loss(given, [[2.0, 8.0]], [0]))


def test_loss_is_unchanged_where_track_and_truth_grow_together() -> None:
    given = predictions((3.0, 9.0, 0, 2.0))
    longer = QueryPredictions(given.logits, given.segments * 2, torch.ones(1, 2 * LENGTH, dtype=torch.bool))
    torch.testing.assert_close(loss(longer, [[4.0, 16.0]], [0]), loss(given, [[2.0, 8.0]], [0]))


def test_a_student_that_agrees_in_another_order_is_left_alone() -> None:
    one, two, three = (3.0, 9.0, 2, 3.0), (20.0, 30.0, 1, 0.5), (1.0, 2.0, 0, -4.0)
    student, teacher = predictions(one, two, three), predictions(three, one, two)
    apart = query_distillation(student, teacher, settings=SETTINGS)
    assert apart.classification.item() == pytest.approx(0.0, abs=1e-6)
    assert apart.regression.item() == pytest.approx(0.0, abs=1e-5)
    (apart.classification + apart.regression).backward()
    assert teacher.logits.grad is None
    assert teacher.segments.grad is None


def test_a_student_learns_the_teachers_confident_queries_and_suppresses_its_own() -> None:
    student = predictions((4.0, 10.0, 2, 0.0), (20.0, 30.0, 1, 2.0))
    apart = query_distillation(student, predictions((3.0, 9.0, 2, 4.0)), settings=SETTINGS)
    (apart.classification + apart.regression).backward()
    assert student.logits.grad[0, 0, 2] < 0 < student.logits.grad[0, 1, 1]
    assert (student.segments.grad[0, 0] > 0).all()
    assert (student.segments.grad[0, 1] == 0).all()


def test_weak_queries_of_the_teacher_hardly_count() -> None:
    student = predictions((4.0, 10.0, 2, -3.0))
    sure, unsure = (query_distillation(student, predictions((8.0, 14.0, 2, s)), settings=SETTINGS) for s in (4.0, -4.0))
    assert unsure.regression < 0.05 * sure.regression


def test_earlier_layers_are_compared_with_the_teachers_own() -> None:
    one, other = predictions((3.0, 9.0, 2, 3.0)), predictions((20.0, 30.0, 1, 2.0))
    teacher = one._replace(earlier=((other.logits, other.segments),))
    same = query_distillation(teacher, teacher, settings=SETTINGS)
    assert (same.classification + same.regression).item() == pytest.approx(0.0, abs=1e-5)
    shallow, deep = (
        query_distillation(other._replace(earlier=layers), teacher, settings=SETTINGS)
        for layers in ((), teacher.earlier)
    )
    torch.testing.assert_close(deep.regression, shallow.regression)
    wrong = other._replace(earlier=((one.logits, one.segments),))
    assert query_distillation(wrong, teacher, settings=SETTINGS).regression > 1.5 * shallow.regression


def test_overlap_is_that_with_the_best_action_of_the_own_track() -> None:
    located = torch.tensor([[[2.0, 8.0], [4.0, 10.0], [20.0, 21.0]], [[2.0, 8.0], [0.0, 40.0], [-1.0, 1.0]]])
    first = torch.tensor([[2.0, 8.0], [4.0, 13.0]])
    found = overlaps(located, [first, torch.zeros(0, 2)])
    torch.testing.assert_close(found, torch.tensor([[1.0, 2 / 3, 0.0], [0.0, 0.0, 0.0]]))


def test_actionness_that_is_the_overlap_costs_nothing_and_any_other_its_distance() -> None:
    given = predictions((2.0, 8.0, 0, 2.0), (5.0, 8.0, 1, 1.0))
    truth = [[2.0, 8.0]], [0]
    without = loss(given, *truth)
    torch.testing.assert_close(loss(given._replace(actionness=torch.tensor([[1.0, 0.5]])), *truth), without)
    off = given._replace(actionness=torch.tensor([[0.9, 0.8]], requires_grad=True))
    torch.testing.assert_close(loss(off, *truth), without + SETTINGS.actionness_weight * (0.1 + 0.3) / 2)
    loss(off, *truth).backward()
    assert off.actionness.grad[0, 0] < 0 < off.actionness.grad[0, 1]


def test_actionness_does_not_pull_segments() -> None:
    pulls = []
    for actionness in (None, torch.tensor([[0.2, 0.7]])):
        given = predictions((3.0, 9.0, 0, 2.0), (5.0, 8.0, 1, 1.0))
        loss(given._replace(actionness=actionness), [[2.0, 8.0]], [0]).backward()
        pulls.append(given.segments.grad)
    torch.testing.assert_close(pulls[1], pulls[0])


def test_a_student_is_trained_on_its_partners_actionness() -> None:
    one, other = (3.0, 9.0, 2, 3.0), (20.0, 30.0, 1, 1.0)
    teacher = predictions(other, one)._replace(actionness=torch.tensor([[0.4, 0.9]], requires_grad=True))
    agreeing = predictions(one, other)._replace(actionness=torch.tensor([[0.9, 0.4]]))
    assert query_distillation(agreeing, teacher, settings=SETTINGS).regression.item() == pytest.approx(0.0, abs=1e-5)
    apart = predictions(one, other)._replace(actionness=torch.tensor([[0.5, 0.5]], requires_grad=True))
    found = query_distillation(apart, teacher, settings=SETTINGS).regression
    sure = torch.tensor([3.0, 1.0]).sigmoid()
    expected = SETTINGS.actionness_weight * (sure[0] * 0.4 + sure[1] * 0.1) / sure.sum()
    torch.testing.assert_close(found, expected)
    found.backward()
    assert teacher.actionness.grad is None
    assert apart.actionness.grad[0, 0] < 0 < apart.actionness.grad[0, 1]


def test_actionness_that_only_one_side_predicts_is_left_out() -> None:
    plain = predictions((3.0, 9.0, 2, 3.0))
    judged = plain._replace(actionness=torch.tensor([[0.3]]))
    for student, teacher in ((plain, judged), (judged, plain)):
        found = query_distillation(student, teacher, settings=SETTINGS)
        assert found.regression.item() == pytest.approx(0.0, abs=1e-5)
