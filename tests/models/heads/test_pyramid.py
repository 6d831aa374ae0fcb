import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.config import ActionFormerSettings
from tadkit.errors import SettingsError
from tadkit.models.heads.actionformer import ActionFormerPyramid, sliding_attention
from tadkit.models.heads.layers import max_pooled, strided_mask

SMALL = ActionFormerSettings(dim=16, levels=3, attention_heads=2, attention_window=5)


def pyramid() -> ActionFormerPyramid:
    torch.manual_seed(0)
    net = ActionFormerPyramid(SMALL, in_channels=6).eval()
    for parameter in net.parameters():  # no bias or gain at its trivial value
        torch.nn.init.normal_(parameter, std=0.4)
    return net


@settings(max_examples=25, deadline=None)
@given(time=st.integers(1, 40), padding=st.integers(1, 21), fill=st.sampled_from([0.0, 7.0, float("nan")]))
def test_real_steps_do_not_depend_on_the_padding(time: int, padding: int, fill: float) -> None:
    net = pyramid()
    features = torch.randn(1, 6, time)
    padded = torch.cat((features, torch.full((1, 6, padding), fill)), dim=2)
    mask = torch.arange(time + padding)[None] < time
    with torch.no_grad():
        alone, within = net(features, torch.ones(1, time, dtype=torch.bool)), net(padded, mask)
    for level, ((x, real), (y, level_mask)) in enumerate(zip(alone, within, strict=True)):
        assert x.shape[-1] == real.sum() == level_mask.sum() == -(-time // 2**level)
        torch.testing.assert_close(y[..., : x.shape[-1]], x, atol=1e-5, rtol=0)
        assert (y[..., x.shape[-1] :] == 0).all()


def test_attention_is_dense_attention_restricted_to_real_neighbours() -> None:
    torch.manual_seed(1)
    query, key, value = torch.randn(3, 2, 2, 4, 13)
    mask = torch.ones(2, 13, dtype=torch.bool)
    mask[1, [4, 9, 10, 11, 12]] = False
    value = value * mask[:, None, None]
    near = (torch.arange(13)[:, None] - torch.arange(13)).abs() <= 2
    dense = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(2, 3) for x in (query, key, value)), attn_mask=(near & mask[:, None, :])[:, None]
    ).transpose(2, 3)
    sliding = sliding_attention(query, key, value, mask, window=5)
    everywhere = mask[:, None, None].expand_as(dense)
    torch.testing.assert_close(sliding[everywhere], dense[everywhere])


def test_coarse_step_j_is_centred_on_position_j_times_the_stride() -> None:
    net = pyramid().double()
    features = torch.randn(1, 6, 65, dtype=torch.float64, requires_grad=True)
    coarsest, _ = net(features, torch.ones(1, 65, dtype=torch.bool))[-1]
    (gradient,) = torch.autograd.grad(coarsest[0, :, 8].square().sum(), features)
    seen = gradient.abs().amax(dim=(0, 1)).nonzero().flatten()
    assert (seen.min() + seen.max()) / 2 == 8 * 4
    assert seen.max() - 8 * 4 == net.reach_steps


def test_max_pool_takes_no_padding_for_a_value() -> None:
    x = torch.tensor([[[-3.0, -2.0, -1.0, 0.0, 0.0]]])
    mask = torch.tensor([[True, True, True, False, False]])
    assert max_pooled(x, mask).tolist() == [[[-2.0, -1.0, 0.0]]]
    assert strided_mask(mask, 2).tolist() == [[True, True, False]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"embedding_layers": 0}, "head.dim is 16, but without embedding layers it must equal the 6 channels"),
        ({"streams": ((4, 8), (4, 8))}, "head.streams take 8 channels in total, but the features have 6"),
    ],
)
def test_a_head_whose_first_layer_does_not_take_the_features_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        ActionFormerPyramid(ActionFormerSettings(**{**SMALL.model_dump(), **changes}), in_channels=6)
    ActionFormerPyramid(
        ActionFormerSettings(**{**SMALL.model_dump(), **changes}), in_channels=8 if "streams" in changes else 16
    )
