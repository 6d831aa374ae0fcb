"""Learning rate, parameter groups and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, assert_never

import torch
from torch import Tensor, nn

from tadkit.config import TrainSettings

_LOWEST = 1e-8
"""Last rate of ActionFormer's cosine after a warm-up."""


def rate_factor(step: int, *, total_steps: int, warmup: float) -> float:
    """Share of the peak rate at ``step``: linear warm-up, then a cosine that ends at zero after the last step."""
    warmup_steps = round(total_steps * warmup)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def learning_rate(step: int, *, peak: float, total_steps: int, settings: TrainSettings) -> float:
    """Learning rate at ``step`` of ``total_steps`` under ``settings.schedule``.

    ActionFormer's schedules (Zhang et al., ECCV 2022; ``make_scheduler`` in its code) rise from zero at the first step
    to the peak at the last warm-up step. Their cosine ends at 1e-8 for any peak, or at zero without warm-up.
    """
    warmup_steps = round(total_steps * settings.warmup)
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    match settings.schedule:
        case "cosine":
            return peak * rate_factor(step, total_steps=total_steps, warmup=settings.warmup)
        case _ if done < 0:
            return peak * step / max(1, warmup_steps - 1)
        case "actionformer-cosine":
            lowest = _LOWEST if warmup_steps else 0.0
            return lowest + (peak - lowest) * 0.5 * (1 + math.cos(math.pi * done))
        case "actionformer-multistep":
            return float(peak * 0.1 ** sum(done >= milestone for milestone in settings.milestones))
        case _:
            assert_never(settings.schedule)


def parameter_groups(objective: nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
    """Parameter groups for AdamW: the backbone has its own rate; vectors (biases, norms) have no weight decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            in_backbone = "backbone." in name
            groups.setdefault((in_backbone, parameter.ndim >= 2), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": settings.backbone_lr if in_backbone else settings.lr,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (in_backbone, decays), parameters in groups.items()
    ]


# Not torch.optim.swa_utils.AveragedModel: it copies the weights after the first step where we average them with the
# initial ones, and it counts steps in a tensor, so that a decay that depends on the step would wait for the device.
class AveragedWeights:
    """Exponential moving average of every floating-point entry of a state dict."""

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        """Start from the module's current weights."""
        self.decay = decay
        self.tensors = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, *, step: int) -> None:
        """Move towards the module's weights; at step n the decay is at most (1 + n) / (10 + n)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged: tuple[list[Tensor], list[Tensor]] = ([], [])
        for name, value in module.state_dict().items():
            own = self.tensors[name]
            if own.dtype.is_floating_point:
                averaged[0].append(own)
                averaged[1].append(value)
            else:
                own.copy_(value)
        torch._foreach_lerp_(*averaged, 1 - decay)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Names and averaged tensors."""
        return iter(self.tensors.items())
