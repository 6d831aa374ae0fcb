"""Weights that a backbone starts from: torchvision's downloads, and files of other projects.

Filters for RGB are averaged over the colours where a net reads other input, as in TSN's cross-modality initialisation
(Wang et al., ECCV 2016, section 3.2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tadkit.checkpoint import read_foreign
from tadkit.errors import WeightsError
from tadkit.models.backbones.backbone import Backbone, WeightsReport, listed

_WRAPPERS = ("state_dict", "model_state", "model", "module", "net")
"""Entries under which training scripts store the state dict."""
_OUTER = re.compile(r"^(?:module|model|student|backbone)\.")
"""Names of what holds the backbone, in files of tadkit and of other projects."""
_COUNTERS = ("num_batches_tracked", "n_averaged")
_HEADS = re.compile(
    r"^[^.]*(?<![a-z])(?:fc|heads?|classifier|logits|projector|projection|predictor|decoder|mask_token)(?![a-z])"
)
"""Names of a file, below those of what holds the net, of parts that only its own training needed."""
_LARGEST_UNUSED = 0.25
"""Largest fraction of a file's parameters, heads apart, that may be of no use; ResNet-152 for a ResNet-101 has 0.27."""


def load_weights_file(net: Backbone, path: Path) -> WeightsReport:
    """Start a backbone from a file: one of tadkit, of torchvision, or of the project that published the net.

    Args:
        net: the backbone, which says by ``own_name`` how the project names its tensors.
        path: safetensors, or a state dict saved by ``torch.save``, alone or with other values beside it.

    Raises:
        WeightsError: the file cannot be read, shapes differ, less than half of the backbone's tensors are in it, they
            are not finite, or more than a quarter of the file's parameters has no place in the backbone.
    """
    own = {name: value for name, value in net.state_dict().items() if not name.endswith(_COUNTERS)}
    state = _state_of(path)
    found, averaged, left_over = dict[str, Tensor](), list[str](), list[str]()
    wrong: list[str] = []
    for published, value in state.items():
        name = _own_name(net, own, published)
        if name is None or name in found:
            left_over += [published] if not published.endswith(_COUNTERS) else []
            continue
        fitted = _fitted(value, own[name])
        if fitted is None:
            wrong.append(f"{published} {tuple(value.shape)}, expected {tuple(own[name].shape)}")
            continue
        found[name] = fitted
        averaged += [name] if fitted.shape != value.shape else []
    missing = tuple(name for name in own if name not in found)
    if wrong:
        have = "tensor has" if len(wrong) == 1 else "tensors have"
        raise WeightsError(f"weights file {path}: {len(wrong)} {have} another shape ({listed(wrong)})")
    if 2 * len(found) < len(own):
        raise WeightsError(
            f"weights file {path}: only {len(found)} of the backbone's {len(own)} tensors are in it; "
            "name a file of this net"
        )
    _check_finite(found, path)
    _check_used(net, own, state, path)
    net.load_state_dict({**net.state_dict(), **found})
    return WeightsReport(path, tuple(found), tuple(averaged), missing, tuple(left_over))


def _check_finite(found: Mapping[str, Tensor], path: Path) -> None:
    """Refuse NaN and infinity, which training would only report as a loss."""
    if broken := [name for name, value in found.items() if not value.isfinite().all()]:
        raise WeightsError(
            f"weights file {path}: NaN or infinity in {listed(broken)}; "
            "the file is damaged, or the training that wrote it diverged; name another file"
        )


def _check_used(net: Backbone, own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse the file of a larger net, in which all tensors of a smaller one may be found.

    What lies beside the net in the file, such as the head of a detector beside ``student.backbone.``, does not count.
    """
    names = {published: _own_name(net, own, published) for published in state if not published.endswith(_COUNTERS)}
    holders = {_holder(published) for published, name in names.items() if name is not None}
    unused = [
        published
        for published, name in names.items()
        if name is None and (holder := _holder(published)) in holders and not _HEADS.match(published[len(holder) :])
    ]
    used = sum(state[published].numel() for published, name in names.items() if name is not None)
    rest = sum(state[published].numel() for published in unused)
    if rest > _LARGEST_UNUSED * (used + rest):
        raise WeightsError(
            f"weights file {path}: the backbone has no place for {rest / (used + rest):.0%} of its parameters "
            f"({listed(unused)}), so it is of a larger net; name a file of this net"
        )


def _holder(published: str) -> str:
    """What holds the net, in a name of the file: ``student.backbone.`` of ``student.backbone.conv1.weight``."""
    inner = published
    while _OUTER.match(inner):
        inner = _OUTER.sub("", inner)
    return published[: len(published) - len(inner)]


def _state_of(path: Path) -> dict[str, Tensor]:
    """The tensors in a file by name."""
    try:
        content = read_foreign(path)
    except WeightsError as error:
        raise WeightsError(f"weights file {error}") from error
    while isinstance(content, Mapping) and (inner := next((key for key in _WRAPPERS if _holds(content, key)), None)):
        content = content[inner]
    entries = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name): value for name, value in entries if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"weights file {path}: no tensors in it; expected a state dict saved by torch.save")
    return tensors


def _holds(content: Mapping[Any, Any], key: str) -> bool:
    return isinstance(content.get(key), Mapping)


def _own_name(net: Backbone, own: Mapping[str, Tensor], published: str) -> str | None:
    """The backbone's name of a tensor of the file; None if it has none."""
    while True:
        for name in (published, net.own_name(published)):
            if name in own:
                return name
        inner = _OUTER.sub("", published)
        if inner == published:
            return None
        published = inner


def _fitted(value: Tensor, own: Tensor) -> Tensor | None:
    """The tensor as the backbone needs it; None if its shape is another one."""
    if value.shape == own.shape:
        return value.to(own.dtype)
    stem = value.ndim == own.ndim >= 4 and value.shape[1] == 3
    if stem and value.shape[:1] + value.shape[2:] == own.shape[:1] + own.shape[2:]:
        return averaged_over_colours(value, channels=own.shape[1]).to(own.dtype)
    return None


def averaged_over_colours(
    filters: Float[Tensor, "outputs 3 *kernel"], *, channels: int
) -> Float[Tensor, "outputs channels *kernel"]:
    """Filters for ``channels`` of input that respond to it as strongly as those for RGB to grey."""
    repeats = [1, channels, *[1] * (filters.ndim - 2)]
    return filters.mean(dim=1, keepdim=True).repeat(repeats) * (3 / channels)


def torchvision_weights(weights: Any, *, name: str) -> dict[str, Tensor]:
    """Weights that torchvision publishes, from its cache or the network.

    Args:
        weights: a member of one of torchvision's enums of weights.
        name: the backbone that they are for, as in the settings.

    Raises:
        WeightsError: they cannot be downloaded.
    """
    try:
        with redirect_stdout(StringIO()):  # torch.hub writes there; stdout is for results
            state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"weights of {name} could not be downloaded ({' '.join(str(error).split())}); download {weights.url} on "
            "another machine and set backbone.weights to the file, or set backbone.pretrained = false"
        ) from error
    return state
