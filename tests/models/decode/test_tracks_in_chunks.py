import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.config import ActionFormerSettings, AnchorFreeSettings, TemporalMaxerSettings, TriDetSettings
from tadkit.models.decode.tracks import predict_in_chunks
from tadkit.models.heads import ActionFormerHead, build_head


def small_head() -> ActionFormerHead:
    torch.manual_seed(0)
    chosen = ActionFormerSettings(dim=16, levels=3, attention_heads=2, attention_window=3)
    head = ActionFormerHead(chosen, in_channels=4, num_classes=2).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head


HEAD = small_head()


@settings(max_examples=30, deadline=None)
@given(time=st.integers(1, 260), padding=st.integers(0, 9), core_steps=st.integers(1, 90))
def test_chunks_give_what_one_pass_gives(time: int, padding: int, core_steps: int) -> None:
    features = torch.randn(1, 4, time + padding)
    mask = torch.arange(time + padding)[None] < time
    with torch.no_grad():
        whole = HEAD(features, mask)
    chunked = predict_in_chunks(HEAD, features, mask, core_steps=core_steps)
    for field, expected in zip(chunked, whole, strict=True):
        for level, expected_level in zip(field, expected, strict=True):
            torch.testing.assert_close(level, expected_level, atol=1e-4, rtol=1e-5)


def test_no_pass_is_longer_than_core_and_halo() -> None:
    lengths: list[int] = []
    handle = HEAD.register_forward_pre_hook(lambda _, given: lengths.append(given[0].shape[-1]))
    predict_in_chunks(HEAD, torch.randn(1, 4, 900), torch.ones(1, 900, dtype=torch.bool), core_steps=64)
    handle.remove()
    assert len(lengths) == 15
    assert max(lengths) <= 64 + 2 * (HEAD.halo_steps + HEAD.strides[-1] - 1)


@pytest.mark.parametrize("kind", [ActionFormerSettings, TriDetSettings, TemporalMaxerSettings])
def test_a_head_with_absolute_positions_has_no_halo(kind: type[AnchorFreeSettings]) -> None:
    chosen = kind(dim=16, levels=2, absolute_positions=True)
    torch.manual_seed(0)
    head = build_head(chosen, in_channels=4, num_classes=2).eval()
    assert head.halo_steps is None
    still = head(torch.ones(1, 4, 40), torch.ones(1, 40, dtype=torch.bool)).logits[0][0, 15:25]
    assert still.std(dim=0).min() > 1e-4  # the same at every place but for the place
