"""A small teacher, a small student and a batch that both understand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tadkit.config import ActionFormerSettings, DistillSettings, FusionSettings, TemporalShiftSettings
from tadkit.distill import Batch, StudentObjective, TeacherTargets, Truth
from tadkit.models.fusion import JointHead
from tadkit.models.student import Student
from tadkit.models.teacher import Teacher

HEAD = ActionFormerSettings(
    dim=8,
    levels=2,
    attention_heads=1,
    attention_window=3,
    stem_layers=0,
    head_layers=1,
    dropout=0.0,
    first_range_steps=2,
)
CLASSES, DIM, FRAMES, STRIDE = 3, 8, 16, 2


def _lively(net: nn.Module, run: Callable[[], Any]) -> None:
    """Running statistics of batch norm as after training, so that the input still shows after many blocks."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    net.train()
    with torch.no_grad():
        run()
    net.eval()


@pytest.fixture(scope="session")
def new_student() -> Callable[..., Student]:
    """A student by method, net and stride; further words are settings of ``distill``."""

    def make(
        *,
        method: str = "decomposed",
        name: str = "tiny",
        stride: int = STRIDE,
        seed: int = 0,
        shared_head: bool = True,
        **chosen: Any,
    ) -> Student:
        torch.manual_seed(seed)
        backbone = TemporalShiftSettings.model_validate({"name": name, "stride": stride, "pretrained": False})
        distill = DistillSettings.model_validate({"method": method, "dim": DIM, "shared_head": shared_head, **chosen})
        student = Student(backbone=backbone, head=HEAD, distill=distill, num_classes=CLASSES, pretrained=False)
        clip = torch.randint(0, 256, (1, 8, 32, 32, 3), dtype=torch.uint8)
        _lively(student, lambda: student(clip, torch.ones(1, 8, dtype=torch.bool)))
        return student

    return make


@pytest.fixture(scope="session")
def new_teacher() -> Callable[..., Teacher]:
    """A teacher by net, stride, channels of its motion and flows that it reads at a frame."""

    def make(*, name: str = "tiny", stride: int = STRIDE, channels: int = 2, stack: int = 1) -> Teacher:
        torch.manual_seed(3)
        backbone = TemporalShiftSettings.model_validate({"name": name, "stride": stride, "pretrained": False})
        teacher = Teacher(
            backbone=backbone,
            head=HEAD,
            dim=DIM,
            motion_channels=channels,
            num_classes=CLASSES,
            pretrained=False,
            stack=stack,
        )
        clip = torch.randn(1, 8, stack * channels, 32, 32)
        _lively(teacher, lambda: teacher.features(clip, torch.ones(1, 8, dtype=torch.bool)))
        return teacher

    return make


@pytest.fixture(scope="session")
def batch(new_teacher: Callable[..., Teacher]) -> Batch:
    """Two windows, one of them padded from frame 11 on, with the teacher's outputs."""
    generator = torch.Generator().manual_seed(5)
    frames = torch.randint(0, 256, (2, FRAMES, 32, 32, 3), dtype=torch.uint8, generator=generator)
    flow = torch.randn(2, FRAMES, 2, 32, 32, generator=generator)
    mask = torch.stack([torch.arange(FRAMES) < real for real in (FRAMES, 11)])
    with torch.no_grad():
        output = new_teacher()(flow, mask)
    truth = Truth(
        segments=[torch.tensor([[0.5, 2.5], [3.0, 7.2]]), torch.tensor([[1.0, 4.0]])],
        labels=[torch.tensor([0, 2]), torch.tensor([1])],
    )
    steps = FRAMES // STRIDE
    motion, appearance = (torch.randn(2, DIM, steps, generator=generator) for _ in range(2))
    inputs = {"frames": frames, "flow": flow, "motion": motion, "appearance": appearance}
    return Batch(inputs, mask, truth, TeacherTargets(output.feature, output.predictions))


@pytest.fixture(scope="session")
def new_objective(new_student: Callable[..., Student]) -> Callable[..., StudentObjective]:
    """The student's objective; words are settings of ``distill``."""

    def make(*, colour_jitter: float = 0.0, teacher_beside: bool = False, **chosen: Any) -> StudentObjective:
        distill = DistillSettings.model_validate({"dim": DIM, **chosen})
        student = new_student(**{"method": distill.method, **chosen})
        torch.manual_seed(8)
        joint = JointHead(
            fusion=FusionSettings(),
            head=HEAD,
            dim=DIM,
            num_classes=CLASSES,
            two_branches=teacher_beside or student.motion is not None,
        )
        objective = StudentObjective(
            student,
            distill=distill,
            joint=joint if distill.joint else None,
            colour_jitter=colour_jitter,
            teacher_beside=teacher_beside,
        )
        return objective.eval()

    return make


@pytest.fixture(scope="session")
def reached() -> Callable[[Tensor, nn.Module], set[str]]:
    """Names of the parts of a module that a loss has a gradient for."""

    def parts(loss: Tensor, module: nn.Module) -> set[str]:
        names, parameters = zip(*module.named_parameters(), strict=True)
        if not loss.requires_grad:
            return set()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
        alive = [n for n, g in zip(names, gradients, strict=True) if g is not None and bool(g.abs().sum() > 0)]
        return {name.split(".")[0] for name in alive}

    return parts
