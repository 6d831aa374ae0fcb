"""Properties of all anchor-free heads and of their layers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tadkit.config import ActionFormerSettings, AnchorFreeSettings, HeadSettings, TemporalMaxerSettings, TriDetSettings
from tadkit.models.decode.tracks import predict_in_chunks
from tadkit.models.heads import AnchorFreeHead, HeadPredictions, build_head
from tadkit.models.heads.actionformer import global_attention, sliding_attention
from tadkit.models.heads.layers import StepConv1d, TimeGroupNorm
from tadkit.models.heads.tridet import boundary_offsets

SMALL = {"dim": 16, "levels": 3, "dropout": 0.0}
BARE = {"embedding_norm": False, "neck_norm": False, "head_norm": False}
HEADS: dict[str, HeadSettings] = {
    "local": ActionFormerSettings(attention_heads=2, attention_window=5, relative_positions=True, **SMALL),
    "mixed": ActionFormerSettings(attention_heads=2, attention_windows=(5, 3, 0), layer_scale=True, **SMALL),
    "places": ActionFormerSettings(attention_heads=2, attention_window=3, absolute_positions=True, **SMALL),
    "fpn": ActionFormerSettings(attention_heads=2, attention_window=3, neck="fpn", neck_dim=12, head_dim=20, **SMALL),
    "conv": ActionFormerSettings(blocks="conv", streams=((3, 10), (2, 6)), **SMALL),
    "tridet": TriDetSettings(bins=4, granularity_windows=(1, 3, 3), **SMALL),
    "tridet-avg": TriDetSettings(bins=0, pooling="avg", granularity_ratio=1.5, neck="fpn", **SMALL),
    "maxer": TemporalMaxerSettings(**SMALL),
    "maxer-grouped": TemporalMaxerSettings(neck_groups=4, regress_to="cheapest", **SMALL),
    "bare": ActionFormerSettings(attention_heads=2, attention_window=3, neck="fpn", start_level=1, **BARE, **SMALL),
    "by-four": ActionFormerSettings(attention_heads=2, attention_window=5, level_ratio=4, neck="fpn", **SMALL),
    "conv-by-three": ActionFormerSettings(blocks="conv", level_ratio=3, **SMALL),
    "tridet-conv": TriDetSettings(blocks="conv", start_level=1, bins=4, **SMALL),
    "tridet-avg-by-four": TriDetSettings(bins=0, pooling="avg", level_ratio=4, **SMALL),
    "maxer-by-four": TemporalMaxerSettings(level_ratio=4, start_level=1, **BARE, **SMALL),
}
CHANNELS, CLASSES = 5, 3
each_head = pytest.mark.parametrize("name", HEADS)


def built(name: str) -> AnchorFreeHead:
    torch.manual_seed(0)
    head = build_head(HEADS[name], in_channels=CHANNELS, num_classes=CLASSES).double().eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    assert isinstance(head, AnchorFreeHead)
    return head


def assert_same(one: HeadPredictions, other: HeadPredictions, *, steps: tuple[int, ...]) -> None:
    """The same at the first ``steps`` of each level."""
    for a, b in zip(one[:2], other[:2], strict=True):
        for x, y, n in zip(a, b, steps, strict=True):
            torch.testing.assert_close(x[:, :n], y[:, :n], rtol=0, atol=1e-9)


@each_head
@torch.no_grad()
def test_levels_shrink_and_nothing_depends_on_padding_or_company(name: str) -> None:
    head, features = built(name), torch.randn(2, CHANNELS, 21, dtype=torch.float64)
    mask = torch.ones(2, 21, dtype=torch.bool)
    alone = head(features[:1], mask[:1])
    steps = tuple(-(-21 // stride) for stride in head.strides)
    assert tuple(x.shape[1] for x in alone.logits) == steps
    junk = torch.full((2, CHANNELS, 16), float("nan"), dtype=torch.float64)
    wide = torch.cat((features, junk), dim=2)
    longer = head(wide, torch.arange(37).expand(2, -1) < torch.tensor([[21], [9]]))
    assert_same(alone, HeadPredictions(*(tuple(x[:1] for x in field) for field in longer)), steps=steps)
    assert [int(m[0].sum()) for m in longer.masks] == list(steps)


@each_head
@torch.no_grad()
def test_chunks_are_exact_where_a_head_has_a_halo(name: str) -> None:
    head = built(name)
    if name in ("mixed", "places", "maxer-grouped") or name.startswith("tridet"):
        assert head.halo_steps is None
    features = torch.randn(1, CHANNELS, 203, dtype=torch.float64)
    mask = torch.ones(1, 203, dtype=torch.bool)
    whole, parts = head(features, mask), predict_in_chunks(head, features, mask, core_steps=32)
    assert isinstance(parts, HeadPredictions)
    assert_same(whole, parts, steps=tuple(-(-203 // stride) for stride in head.strides))


@each_head
def test_every_parameter_learns(name: str) -> None:
    head = built(name).train()
    features, mask = torch.randn(2, CHANNELS, 40, dtype=torch.float64), torch.ones(2, 40, dtype=torch.bool)
    segments = [torch.tensor([[3.0, 9.5], [12.0, 35.0]]), torch.zeros(0, 2)]
    loss = head.loss(head(features, mask), segments, [torch.tensor([0, 2]), torch.zeros(0, dtype=torch.long)])
    loss.total.backward()
    still = [n for n, p in head.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert still == []


@pytest.mark.parametrize("padding", ["opentad", "leaky"])
@torch.no_grad()
def test_unmasked_padding_leaks_and_fixed_lengths_are_cropped(padding: str) -> None:
    chosen = HEADS["local"].model_copy(update={"padding": padding, "pad_to_steps": 32})
    assert isinstance(chosen, AnchorFreeSettings)
    torch.manual_seed(0)
    head = build_head(chosen, in_channels=CHANNELS, num_classes=CLASSES).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    features, mask = torch.randn(1, CHANNELS, 21), torch.ones(1, 21, dtype=torch.bool)
    padded = head(features, mask)
    assert [x.shape[1] for x in padded.logits] == [21, 11, 6]
    assert head.halo_steps is None
    head.anchor_free = chosen.model_copy(update={"pad_to_steps": 0})  # type: ignore[assignment]
    assert (head(features, mask).logits[0] - padded.logits[0]).abs().max() > 1e-3


def test_running_positives_move_in_training_alone() -> None:
    chosen = HEADS["maxer"].model_copy(update={"normaliser": "running"})
    head = build_head(chosen, in_channels=CHANNELS, num_classes=CLASSES)
    assert isinstance(head, AnchorFreeHead)
    assert head.running is not None
    features, mask = torch.randn(1, CHANNELS, 16), torch.ones(1, 16, dtype=torch.bool)
    for training, mean in ((False, 100.0), (True, 90.1)):
        head.train(training)
        head.loss(head(features, mask), [torch.zeros(0, 2)], [torch.zeros(0, dtype=torch.long)])
        assert head.running.mean.item() == pytest.approx(mean)


@torch.no_grad()
def test_a_boundary_is_expected_where_its_logit_stands_out() -> None:
    starts, ends = torch.zeros(1, 9, 2), torch.zeros(1, 9, 2)
    starts[0, 3, 0], starts[0, 2, 1], ends[0, 6, 0] = 50.0, 50.0, 50.0
    reach = boundary_offsets(starts, ends, torch.zeros(1, 9, 8))[0, 4].reshape(2, 2)
    torch.testing.assert_close(reach, torch.tensor([[1.0, 2.0], [2.0, 1.5]]))
    farther = torch.zeros(1, 9, 8)
    farther[..., 7] = 100.0  # the regressor of each step is sure that the end is 3 steps on
    assert boundary_offsets(starts, ends, farther)[0, 4, 1].item() == pytest.approx(3.0)


@torch.no_grad()
def test_each_class_has_its_own_ends_among_the_candidates() -> None:
    head = built("tridet").float()
    predictions = head(torch.randn(1, CHANNELS, 16), torch.ones(1, 16, dtype=torch.bool))
    best = head.candidates(predictions, min_score=0.0, limit=10_000)
    logits, offsets = predictions.logits[0][0], predictions.offsets[0][0]
    step, label = 5, 2
    row = int(abs(best.scores - float(logits[step, label].double().sigmoid())).argmin())
    wanted = [step - offsets[step, 2 * label].item(), step + offsets[step, 2 * label + 1].item()]
    assert best.labels[row] == label
    assert best.positions[row].tolist() == pytest.approx(wanted)


@settings(max_examples=40)
@given(
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2]),
    groups=st.sampled_from([1, 8]),
    time=st.integers(1, 12),
)
@torch.no_grad()
def test_a_convolution_is_the_same_whichever_way_its_input_lies(
    kernel: int, stride: int, groups: int, time: int
) -> None:
    conv = StepConv1d(8, 8, kernel, stride, kernel // 2, groups=groups)
    x = torch.randn(2, 8, time)
    wanted = functional.conv1d(x, conv.weight, conv.bias, stride, kernel // 2, groups=groups)
    torch.testing.assert_close(conv(x), wanted)
    torch.testing.assert_close(conv(x.transpose(1, 2).contiguous().transpose(1, 2)), wanted)


@settings(max_examples=40)
@given(time=st.integers(1, 150), window=st.sampled_from([3, 9, 71]), seed=st.integers(0, 1000))
@torch.no_grad()
def test_sliding_attention_is_attention_within_a_band(time: int, window: int, seed: int) -> None:
    torch.manual_seed(seed)
    query, key, value = (torch.randn(2, 2, 4, time, dtype=torch.float64) for _ in range(3))
    distances = torch.randn(2, window, dtype=torch.float64)
    mask = torch.arange(time).expand(2, -1) < torch.tensor([[time], [max(1, time // 2)]])
    shift = torch.arange(time) - torch.arange(time)[:, None] + window // 2
    near = (shift >= 0) & (shift < window)
    logits = torch.einsum("bhct,bhcs->bhts", query, key) / 2 + distances[:, shift.clamp(0, window - 1)]
    logits = logits.masked_fill(~(near & mask[:, None, None]), -1e30)
    wanted = torch.einsum("bhts,bhcs->bhct", logits.softmax(dim=-1), value)
    found = sliding_attention(query, key, value, mask, window=window, distances=distances)
    real = mask[:, None, None].expand_as(found)
    torch.testing.assert_close(found[real], wanted[real])
    everywhere = sliding_attention(query, key, value * mask[:, None, None], mask, window=2 * time + 1)
    torch.testing.assert_close(global_attention(query, key, value * mask[:, None, None], mask)[real], everywhere[real])


@torch.no_grad()
def test_group_norm_is_torchs_over_the_real_steps() -> None:
    norm, x = TimeGroupNorm(4, 16), torch.randn(2, 16, 10) + 3
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    mask = torch.arange(10).expand(2, -1) < torch.tensor([[10], [6]])
    found = norm(x, mask)
    for row, real in ((0, 10), (1, 6)):
        wanted = functional.group_norm(x[row : row + 1, :, :real], 4, norm.weight, norm.bias)
        torch.testing.assert_close(found[row : row + 1, :, :real], wanted, rtol=1e-4, atol=1e-5)
    assert not found[1, :, 6:].any()
