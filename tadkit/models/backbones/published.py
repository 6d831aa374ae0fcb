"""Published weights of other projects, from a file or from torchvision, loaded into a net of the same names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tadkit.checkpoint import read_foreign
from tadkit.errors import WeightsError

_WRAPPERS = ("model_state", "state_dict", "model", "module")
"""Keys under which projects put the weights in a file."""


def read_published(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint of another project; no code in it is run.

    Raises:
        WeightsError: missing, damaged or not a checkpoint.
    """
    content = read_foreign(path)
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path}: holds no weights; expected a state dict of names and tensors")
    tensors = {str(name).removeprefix("module."): value for name, value in content.items()}
    return {name: value for name, value in tensors.items() if isinstance(value, Tensor)}


def torchvision_weights(weights: Any, name: str) -> dict[str, Tensor]:
    """Torchvision's published weights of a net, from its cache or the network.

    Raises:
        WeightsError: they cannot be downloaded.
    """
    try:
        with redirect_stdout(StringIO()):  # torch.hub writes there; stdout is for results
            state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
            return state
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"published weights of {name} could not be downloaded ({' '.join(str(error).split())}); "
            "set backbone.pretrained = false, or try again with a network"
        ) from error


def load_published(
    net: nn.Module,
    published: Mapping[str, Tensor],
    *,
    where: str,
    stems: tuple[str, ...],
    own_name: Callable[[str], str | None] = str,
    optional: tuple[str, ...] = (),
) -> None:
    """Load weights; every name and shape must fit.

    Filters over other channels than the net reads are averaged over them, as in TSN's cross-modality initialisation
    (Wang et al., ECCV 2016, section 3.2).

    Args:
        net: the net to fill.
        published: tensors under the names of another project.
        where: what to call them in messages.
        stems: names of the weights that read the input.
        own_name: the net's name of a published tensor; None for what the net leaves out, such as the classifier.
        optional: starts of names that may be missing and keep their initial values.

    Raises:
        WeightsError: names or shapes differ; the message lists the first few.
    """
    own = net.state_dict()
    found = {name: value for theirs, value in published.items() if (name := own_name(theirs)) is not None}
    for stem in stems:
        if stem in found and found[stem].shape[1] != own[stem].shape[1]:
            mean, channels = found[stem].float().mean(dim=1, keepdim=True), own[stem].shape[1]
            found[stem] = mean.expand_as(own[stem]) * (found[stem].shape[1] / channels)
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # old files lack them
    missing = {name for name in own.keys() - found.keys() - counters if not name.startswith(optional or ("\0",))}
    strange = found.keys() - own.keys()
    shapes = {name for name in own.keys() & found.keys() if own[name].shape != found[name].shape}
    for words, names in (("missing", missing), ("unknown", strange), ("of another shape", shapes)):
        if names:
            raise WeightsError(f"{where}: weights do not fit the backbone; {words}: {', '.join(sorted(names)[:4])}")
    net.load_state_dict(own | found)
