"""Names of the weights of anchor-free heads in other projects.

Formats: happyharrycn/actionformer_release, dingfengshi/TriDet, TuanTNG/TemporalMaxer, sming256/OpenTAD (ActionFormer,
TriDet, TemporalMaxer). Their settings are in :mod:`tadkit.interop.heads.anchor_free`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

_NAMES: tuple[tuple[str, str], ...] = (
    (r"^(?:backbone|projection)\.proj\.", "pyramid.streams."),
    (r"^projection\.embed\.(\d+)\.norm\.", r"pyramid.embedding_norms.\1."),
    (r"^(?:backbone\.embd|projection\.embed)\.", "pyramid.embedding."),
    (r"^backbone\.embd_norm\.", "pyramid.embedding_norms."),
    (r"^(?:backbone|projection)\.stem\.", "pyramid.stem."),
    (r"^(?:backbone|projection)\.branch\.", "pyramid.branches."),
    (r"\.ln1\.", ".attention_norm."),
    (r"\.ln2\.", ".mlp_norm."),
    (r"\.attn\.(query|key|value)_conv\.conv\.", r".attention.\1.conv.conv."),
    (r"\.attn\.(query|key|value)_norm\.", r".attention.\1.norm."),
    (r"\.attn\.(query|key|value)\.", r".attention.\1.linear.conv."),
    (r"\.attn\.proj\.", ".attention.out.conv."),
    (r"\.attn\.rel_pe$", ".attention.distances"),
    (r"\.drop_path_attn\.", ".attention_path."),
    (r"\.drop_path_mlp\.", ".mlp_path."),
    (r"\.drop_path_out\.", ".branch_path."),
    (r"\.conv1\.conv\.", ".widen.conv."),
    (r"\.conv2\.conv\.", ".narrow.conv."),
    (r"\.downsample\.conv\.", ".skip.conv."),
    (r"\.downsample\.1\.", ".pooled."),
    (r"\.ln\.", ".norm."),
    (r"\.gn\.", ".group_norm."),
    (r"\.psi\.", ".gate."),
    (r"\.fc\.", ".instant."),
    (r"\.convw\.", ".short."),
    (r"\.convkw\.", ".long."),
    (r"\.global_fc\.", ".overall."),
    (r"^neck\.lateral_convs\.", "pyramid.fpn.laterals."),
    (r"^neck\.fpn_convs\.", "pyramid.fpn.convs."),
    (r"^neck\.fpn_norms\.", "pyramid.out_norms."),
    (r"^rpn_head\.cls_start_", "starts."),
    (r"^rpn_head\.cls_end_", "ends."),
    (r"^rpn_head\.cls_", "classifier."),
    (r"^rpn_head\.reg_", "regressor."),
    (r"^rpn_head\.(scale\.)", r"\1"),
    (r"^rpn_head\.loss_normalizer$", "running.mean"),
    (r"^cls_head\.", "classifier."),
    (r"^reg_head\.(scale\.)", r"\1"),
    (r"^reg_head\.", "regressor."),
    (r"^start_head\.", "starts."),
    (r"^end_head\.", "ends."),
    (r"^(classifier|regressor|starts|ends)\.convs\.(\d+)\.norm\.", r"\1.norms.\2."),
    (r"^(classifier|regressor|starts|ends)\.(?:convs|head)\.(\d+)\.", r"\1.hidden.\2."),
    (r"^(classifier|regressor|starts|ends)\.norm\.", r"\1.norms."),
    (r"^(classifier|regressor|starts|ends)\.(?:cls_head|offset_head)\.", r"\1.out."),
    (r"^(classifier|regressor|starts|ends)\.head\.", r"\1.out.conv."),
)


def translated(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An imported state dict under tadkit's names; the scales of the levels become one vector."""
    own = {renamed(name, _NAMES): value for name, value in state.items()}
    own = {_mlp(name, own): value for name, value in own.items()}
    if any(name.startswith("pyramid.fpn.") for name in own):
        own = {name.replace("pyramid.out_norms.", "pyramid.fpn.norms."): value for name, value in own.items()}
        own |= _biases_of_fpn(own)
    scales = [name for name in own if re.fullmatch(r"scale\.\d+\.scale", name)]
    if scales:
        in_order = sorted(scales, key=lambda name: int(name.split(".")[1]))
        own["scales"] = own[in_order[0]].new_tensor([float(own.pop(name)) for name in in_order])
    return own


def _biases_of_fpn(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zero biases for the convolutions of a neck without norms, which had none in ActionFormer's older code."""
    if any(name.startswith("pyramid.fpn.norms.") for name in own):
        return {}
    weights = {n.removesuffix("weight"): x for n, x in own.items() if re.match(r"pyramid\.fpn\..*\.weight$", n)}
    return {f"{name}bias": x.new_zeros(len(x)) for name, x in weights.items() if f"{name}bias" not in own}


def renamed(name: str, table: Sequence[tuple[str, str]]) -> str:
    """The name in tadkit of an imported parameter: every pattern of the table is replaced in turn."""
    own = name.removeprefix("module.")
    for pattern, ours in table:
        own = re.sub(pattern, ours, own)
    return own


def modules_of(names: Iterable[str], prefix: str) -> int:
    """Number of modules in a list of tadkit's, by the numbers in their names."""
    matches = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in names)
    return len({match[1] for match in matches if match})


def _mlp(name: str, names: Mapping[str, Tensor]) -> str:
    """Name in a layer's MLP: its convolutions are 0 and 3 in ActionFormer (masked here), 0 and 2 in TriDet."""
    layer, found, rest = name.partition(".mlp.")
    if not found:
        return name
    masked = f"{layer}.mlp.3.weight" in names
    number, _, kind = rest.partition(".")
    return f"{layer}.{'mlp_in' if number == '0' else 'mlp_out'}.{'conv.' if masked else ''}{kind}"
