"""Learning rate, parameter groups and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tadkit.config import TrainSettings


def rate_factor(step: int, *, total_steps: int, warmup: float) -> float:
    """Share of the peak rate at ``step``: linear warm-up, then a cosine that ends at zero after the last step."""
    warmup_steps = round(total_steps * warmup)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def parameter_groups(objective: nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
    """Groups for AdamW: the backbone at its own rate; vectors (biases, norms) without decay."""
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


class AveragedWeights:
    """Exponential moving average of every floating-point entry of a state dict."""

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        """Start from the module's weights as they are."""
        self.decay = decay
        self.tensors = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, *, step: int) -> None:
        """Take one step towards the module's weights; early steps count for more, as (1 + n) / (10 + n)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            own = self.tensors[name]
            if own.dtype.is_floating_point:
                own.lerp_(value.detach(), 1 - decay)
            else:
                own.copy_(value)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Names and averaged tensors."""
        return iter(self.tensors.items())
