from pathlib import Path

import numpy as np
import pytest
import torch

from tadkit.config import DecodeSettings, TadtrSettings
from tadkit.errors import WeightsError
from tadkit.interop.heads.opentad import name_from_opentad, state_from_opentad
from tadkit.models.decode.decode import decode
from tadkit.models.heads.tadtr import TadtrHead, query_candidates, query_loss, sine_positions
from tadkit.timeline import Timeline

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "opentad_tadtr.npz"))
PADDED = 256
OPENTAD = TadtrSettings(
    dim=32,
    queries=20,
    encoder_layers=2,
    decoder_layers=2,
    attention_heads=4,
    mlp_dim=64,
    norm_groups=8,
    dropout=0.0,
    padding="counted",
)
SMALL = OPENTAD.model_copy(update={"padding": "masked", "queries": 6})
JUDGED = SMALL.model_copy(update={"actionness": True, "actionness_bins": 4})
VARIANTS = [SMALL, JUDGED, JUDGED.model_copy(update={"variant": "authors"})]


@pytest.fixture(scope="module")
def opentad() -> TadtrHead:
    """OpenTAD's weights in our head."""
    head = TadtrHead(OPENTAD, in_channels=48, num_classes=5).eval()
    prefix = "weight/"
    state = {name[len(prefix) :]: torch.from_numpy(x) for name, x in GOLDEN.items() if name.startswith(prefix)}
    head.load_state_dict(state_from_opentad(state, "tadtr"))
    return head


def padded(time: int) -> tuple[torch.Tensor, torch.Tensor]:
    features = torch.zeros(1, 48, PADDED)
    features[0, :, :time] = torch.from_numpy(GOLDEN[f"feats_T{time}"])
    return features, torch.arange(PADDED)[None] < time


@pytest.mark.parametrize("time", [37, 200, 256])
def test_predictions_are_those_of_opentad(opentad: TadtrHead, time: int) -> None:
    with torch.no_grad():
        predictions = opentad(*padded(time))
    start, end = predictions.segments[0].unbind(dim=1)
    boxes = torch.stack(((start + end) / 2, end - start), dim=1) / PADDED
    expected = [torch.from_numpy(GOLDEN[f"T{time}/pred_{name}"]) for name in ("logits", "boxes")]
    torch.testing.assert_close([predictions.logits[0], boxes], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("time", [37, 200, 256])
@pytest.mark.parametrize("setting", ["soft_mc", "soft_ag_vote"])
def test_detections_are_those_of_opentad(opentad: TadtrHead, time: int, setting: str) -> None:
    fps, stride, offset, duration_s = GOLDEN[f"T{time}/meta"]
    timeline = Timeline((np.arange(PADDED) * stride + offset) / fps)
    agnostic = setting == "soft_ag_vote"
    settings = DecodeSettings(
        min_score=0.001, class_agnostic=agnostic, voting="score" if agnostic else "none", clip_first=False
    )
    with torch.no_grad():
        best = query_candidates(opentad(*padded(time)), min_score=0.0, limit=200)
    found = decode(best, timeline, duration_s, settings)
    segments, scores, labels = (GOLDEN[f"T{time}/det_{setting}_{part}"] for part in ("segments", "scores", "labels"))
    assert found.labels.tolist() == labels.tolist()
    np.testing.assert_allclose(found.scores, scores, atol=0.5e-4 + 1e-6)  # OpenTAD rounds to 4 decimals, and
    np.testing.assert_allclose(found.segments_s, segments, atol=0.5e-2 + 1e-4)  # seconds to 2


def test_losses_and_gradients_are_those_of_opentad(opentad: TadtrHead) -> None:
    features, masks = (torch.cat(field) for field in zip(*(padded(time) for time in (37, 200, 256)), strict=True))
    segments, labels = (
        [torch.from_numpy(GOLDEN[f"gt_{name}_{video}"]) for video in range(3)] for name in ("segments", "labels")
    )
    opentad.zero_grad()
    loss = query_loss(opentad(features, masks), segments, labels, settings=OPENTAD)
    loss.total.backward()
    of_class = sum(GOLDEN[f"loss/loss_class{layer}"] for layer in ("", "_0"))
    assert loss.positives == 43
    assert loss.classification.item() == pytest.approx(of_class, rel=1e-4)
    assert loss.total.item() == pytest.approx(GOLDEN["loss/cost"], rel=1e-4)
    ours = dict(opentad.named_parameters())
    checked = {name: expected for name, expected in GOLDEN.items() if name.startswith("grad/")}
    assert len(checked) == len(ours)
    for name, (norm, total, largest) in checked.items():
        gradient = ours[name_from_opentad(name[len("grad/") :], "tadtr")].grad
        # OpenTAD's sampler halves what it reads; our weights hold that half.
        gradient = gradient / 2 if name.endswith("output_proj.weight") else gradient
        found = [gradient.norm().item(), gradient.sum().item(), gradient.abs().max().item()]
        np.testing.assert_allclose(found, [norm, total, largest], rtol=1e-4, atol=1e-4 * norm, err_msg=name)


@pytest.mark.parametrize("settings", VARIANTS, ids=["plain", "actionness", "authors"])
def test_padding_changes_nothing_whatever_its_values(settings: TadtrSettings) -> None:
    torch.manual_seed(0)
    head = TadtrHead(settings, in_channels=5, num_classes=3).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    features = torch.randn(1, 5, 20)
    junk = torch.cat((features, torch.full((1, 5, 13), torch.nan)), dim=2)
    alone = head(features, torch.ones(1, 20, dtype=torch.bool))
    beside = head(junk, torch.arange(33)[None] < 20)
    torch.testing.assert_close(beside.logits, alone.logits)
    torch.testing.assert_close(beside.segments, alone.segments)
    torch.testing.assert_close(beside.actionness, alone.actionness)


def test_scores_are_probabilities_times_actionness() -> None:
    torch.manual_seed(0)
    head = TadtrHead(JUDGED, in_channels=5, num_classes=3).eval()
    predictions = head(torch.randn(1, 5, 20), torch.ones(1, 20, dtype=torch.bool))
    assert predictions.actionness.shape == (1, 6)
    assert ((predictions.actionness > 0) & (predictions.actionness < 1)).all()
    fit = torch.tensor([[1.0, 0.5, 0.25, 0.125, 0.0, 0.9]])
    found = query_candidates(predictions._replace(actionness=fit), min_score=0.0, limit=18)
    scores = (predictions.logits[0].sigmoid() * fit[0][:, None]).flatten().sort(descending=True).values
    np.testing.assert_allclose(found.scores, scores.detach().numpy(), rtol=1e-6)
    with pytest.raises(WeightsError, match="not finite"):
        query_candidates(predictions._replace(actionness=fit * torch.nan), min_score=0.0, limit=9)


def test_actionness_learns_from_the_loss_and_so_does_what_it_reads() -> None:
    torch.manual_seed(0)
    head = TadtrHead(JUDGED.model_copy(update={"class_weight": 0.0}), in_channels=5, num_classes=3)
    predictions = head(torch.randn(2, 5, 20), torch.ones(2, 20, dtype=torch.bool))
    nothing = [torch.zeros(0, 2)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2
    query_loss(predictions, *nothing, settings=head.settings).total.backward()
    learning = {name.split(".")[0] for name, x in head.named_parameters() if x.grad is not None and x.grad.any()}
    assert {"actionness", "encoder", "embedding"} <= learning
    assert learning.isdisjoint({"regressors", "classifiers", "decoder", "queries"})


def test_without_actionness_the_head_is_as_it_was() -> None:
    torch.manual_seed(0)
    plain = TadtrHead(SMALL, in_channels=5, num_classes=3)
    torch.manual_seed(0)
    judged = TadtrHead(JUDGED, in_channels=5, num_classes=3)
    added = judged.state_dict().keys() - plain.state_dict().keys()
    assert added == {f"actionness.mlp.{layer}.{part}" for layer in (0, 2, 4) for part in ("weight", "bias")}
    assert plain(torch.randn(1, 5, 20), torch.ones(1, 20, dtype=torch.bool)).actionness is None


def test_the_authors_variant_encodes_steps_by_their_ends() -> None:
    real = torch.ones(1, 8, dtype=torch.bool)
    positions = sine_positions(real, 4, at=1.0)[0]
    torch.testing.assert_close(positions[3, :2], torch.tensor([0.0, -1.0]), rtol=0, atol=1e-5)  # half a turn
    torch.testing.assert_close(positions[7, :2], torch.tensor([0.0, 1.0]), rtol=0, atol=1e-5)  # a whole one
    twice = sine_positions(torch.ones(1, 16, dtype=torch.bool), 4, at=1.0)[0]
    torch.testing.assert_close(twice[::2], sine_positions(real, 4)[0], rtol=0, atol=1e-5)


def test_untrained_queries_start_from_the_prior_and_short_segments() -> None:
    torch.manual_seed(0)
    head = TadtrHead(SMALL, in_channels=5, num_classes=3).eval()
    predictions = head(torch.randn(2, 5, 50), torch.ones(2, 50, dtype=torch.bool))
    assert predictions.logits.sigmoid().mean().item() == pytest.approx(0.01, abs=0.02)
    width = (predictions.earlier[0][1][..., 1] - predictions.earlier[0][1][..., 0]) / 50
    torch.testing.assert_close(width, torch.full_like(width, torch.tensor(-2.0).sigmoid().item()))
    assert head.halo_steps is None


def test_candidates_that_are_not_finite_are_refused() -> None:
    head = TadtrHead(SMALL, in_channels=5, num_classes=3).eval()
    predictions = head(torch.randn(1, 5, 20), torch.ones(1, 20, dtype=torch.bool))
    with pytest.raises(WeightsError, match="not finite"):
        query_candidates(predictions._replace(logits=predictions.logits * torch.nan), min_score=0.0, limit=9)


def test_settings_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of norm_groups"):
        TadtrSettings(dim=32, attention_heads=4, norm_groups=5)
