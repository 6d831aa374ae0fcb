"""Student and teacher: the same in windows as in one pass, and deaf to padding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tadkit.models.student import Student
from tadkit.models.teacher import Teacher
from tadkit.video import windows

NewStudent = Callable[..., Student]
NewTeacher = Callable[..., Teacher]


def frames_of(length: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (1, length, 32, 32, 3), dtype=torch.uint8, generator=generator)


def flow_of(length: int) -> Tensor:
    return 3 * torch.randn(1, length, 2, 32, 32, generator=torch.Generator().manual_seed(1))


def student_features(student: Student, frames: Tensor) -> Tensor:
    motion, appearance = student(frames, torch.ones(frames.shape[:2], dtype=torch.bool))
    assert motion is not None
    return torch.cat([motion, appearance], dim=1)


def teacher_features(teacher: Teacher, flow: Tensor) -> Tensor:
    return teacher.features(flow, torch.ones(flow.shape[:2], dtype=torch.bool))


def in_windows(run: Callable[[Tensor], Tensor], clip: Tensor, *, core: int, halo: int, stride: int) -> Tensor:
    """Features window by window, keeping the steps of each core."""
    parts = []
    for window in windows(clip.shape[1], core=core, halo=halo):
        features = run(clip[:, window.start : window.stop])
        first = (window.core_start - window.start) // stride
        parts.append(features[:, :, first : first - (window.core_start - window.core_stop) // stride])
    return torch.cat(parts, dim=2)


@given(length=st.integers(1, 40), stride=st.integers(1, 4), core_steps=st.integers(1, 6))
@settings(max_examples=15)
@torch.no_grad()
def test_windows_with_halo_equal_one_pass(
    new_student: NewStudent, new_teacher: NewTeacher, length: int, stride: int, core_steps: int
) -> None:
    student, teacher = new_student(stride=stride), new_teacher(stride=stride)
    for model, features, clip in (
        (student, student_features, frames_of(length)),
        (teacher, teacher_features, flow_of(length)),
    ):
        assert model.halo_frames % stride == 0
        chunked = in_windows(
            lambda part, model=model, features=features: features(model, part),
            clip,
            core=core_steps * stride,
            halo=model.halo_frames,
            stride=stride,
        )
        torch.testing.assert_close(chunked, features(model, clip), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("length", "stride", "core"), [(31, 2, 8), (26, 1, 7), (29, 4, 4)])
@torch.no_grad()
def test_windows_with_halo_equal_one_pass_for_efficientnet(
    new_student: NewStudent, new_teacher: NewTeacher, length: int, stride: int, core: int
) -> None:
    student = new_student(name="efficientnet-lite0", stride=stride)
    frames = frames_of(length)
    chunked = in_windows(
        lambda part: student_features(student, part), frames, core=core, halo=student.halo_frames, stride=stride
    )
    torch.testing.assert_close(chunked, student_features(student, frames), atol=1e-4, rtol=0)
    teacher = new_teacher(name="efficientnet-lite0", stride=stride)
    flow = flow_of(length)
    chunked = in_windows(
        lambda part: teacher_features(teacher, part), flow, core=core, halo=teacher.halo_frames, stride=stride
    )
    torch.testing.assert_close(chunked, teacher_features(teacher, flow), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "stride"), [("tiny", 1), ("tiny", 2), ("tiny", 3), ("efficientnet-lite0", 1)])
@torch.no_grad()
def test_one_step_less_of_halo_shows(new_student: NewStudent, name: str, stride: int) -> None:
    student = new_student(name=name, stride=stride)
    frames = frames_of(36)
    whole = student_features(student, frames)
    less = in_windows(
        lambda part: student_features(student, part),
        frames,
        core=12,
        halo=student.halo_frames - stride,
        stride=stride,
    )
    assert less.shape == whole.shape
    assert not torch.equal(less, whole)
    if name == "tiny":  # so that the tolerance of the tests above means something
        assert (less - whole).abs().max() > 1e-4


@given(length=st.integers(1, 12), padding=st.integers(1, 6))
@settings(max_examples=10)
@torch.no_grad()
def test_padding_never_changes_real_steps(
    new_student: NewStudent, new_teacher: NewTeacher, length: int, padding: int
) -> None:
    student, teacher = new_student(), new_teacher()
    mask = torch.arange(length + padding)[None] < length
    frames = frames_of(length + padding)
    alone = student_features(student, frames[:, :length])
    steps = alone.shape[2]
    for branch, expected in zip(student(frames, mask), alone.split(alone.shape[1] // 2, dim=1), strict=True):
        torch.testing.assert_close(branch[:, :, :steps], expected, atol=1e-5, rtol=1e-5)
        assert not branch[:, :, steps:].any()
    flow = flow_of(length + padding)
    padded, single = teacher(flow, mask), teacher(flow[:, :length], mask[:, :length])
    torch.testing.assert_close(padded.feature[:, :, :steps], single.feature, atol=1e-5, rtol=1e-5)
    for field in range(2):
        for level, values in enumerate(single.predictions[field]):
            seen = padded.predictions[field][level][:, : values.shape[1]]
            torch.testing.assert_close(seen, values, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("branches", "method"),
    [(2, method) for method in ("decomposed", "rgb-matched", "hallucination")]
    + [(1, method) for method in ("direct", "rgb", "mars", "mers", "logits")],
)
def test_the_method_sets_the_number_of_branches(new_student: NewStudent, method: str, branches: int) -> None:
    student = new_student(method=method)
    features = student(frames_of(4), torch.ones(1, 4, dtype=torch.bool))
    assert sum(feature is not None for feature in features) == branches


def test_the_matched_baseline_has_as_many_parameters_as_the_decomposed_student(new_student: NewStudent) -> None:
    count, matched = (
        sum(p.numel() for p in new_student(method=method).parameters()) for method in ("decomposed", "rgb-matched")
    )
    assert count == matched


@torch.no_grad()
def test_a_teacher_on_stacks_states_the_flows_around_a_frame_in_its_halo(new_teacher: NewTeacher) -> None:
    single, ten = new_teacher(stride=1), new_teacher(stride=1, stack=10)
    assert ten.halo_frames == single.halo_frames + 5
    assert new_teacher(stride=4, stack=10).halo_frames % 4 == 0
    out = ten(torch.randn(1, 4, 20, 32, 32), torch.ones(1, 4, dtype=torch.bool))
    assert out.feature.shape == (1, single.mapping.norm.normalized_shape[0], 4)


def test_teacher_on_temporal_gradient_reads_three_channels(new_teacher: NewTeacher) -> None:
    teacher = new_teacher(channels=3)
    out = teacher(torch.randn(1, 4, 3, 32, 32), torch.ones(1, 4, dtype=torch.bool))
    assert out.feature.shape == (1, 8, 2)
    assert [level.shape for level in out.predictions.logits] == [(1, 2, 3), (1, 1, 3)]
