import numpy as np
import pytest
import torch

from tadkit.config import ActionFormerSettings, DecodeSettings
from tadkit.models.decode.decode import decode
from tadkit.models.heads import ActionFormerHead, anchor_free_loss
from tadkit.timeline import Timeline

SMALL = ActionFormerSettings(dim=16, levels=4, attention_heads=2, attention_window=3, dropout=0.0)


@pytest.mark.parametrize("time", [1, 2, 7, 8, 33])
def test_any_length_gives_each_level_its_share_of_steps(time: int) -> None:
    head = ActionFormerHead(SMALL, in_channels=5, num_classes=3)
    predictions = head(torch.randn(2, 5, time), torch.ones(2, time, dtype=torch.bool))
    assert head.strides == (1, 2, 4, 8)
    for level, (logits, offsets, mask) in enumerate(zip(*predictions, strict=True)):
        steps = -(-time // 2**level)
        assert logits.shape == (2, steps, 3)
        assert offsets.shape == (2, steps, 2)
        assert mask.shape == (2, steps)
        assert (offsets >= 0).all()


@pytest.mark.parametrize("padding", ["masked", "leaky", "opentad"])
def test_levels_in_one_pass_are_predicted_as_one_by_one(padding: str) -> None:
    torch.manual_seed(0)
    head = ActionFormerHead(SMALL.model_copy(update={"padding": padding}), in_channels=5, num_classes=3).double()
    features, mask = torch.randn(2, 5, 33, dtype=torch.float64), torch.arange(33) < torch.tensor([[33], [20]])
    together, apart = head.train()(features, mask), head.eval()(features, mask)
    for one, other in zip((*together.logits, *together.offsets), (*apart.logits, *apart.offsets), strict=True):
        torch.testing.assert_close(one, other)


def test_halo_is_exactly_what_the_coarsest_prediction_reads() -> None:
    torch.manual_seed(0)
    head = ActionFormerHead(SMALL, in_channels=5, num_classes=3).double().eval()
    middle = 16 * 8
    features = torch.randn(1, 5, 2 * middle + 1, dtype=torch.float64, requires_grad=True)
    logits = head(features, torch.ones(1, 2 * middle + 1, dtype=torch.bool)).logits[-1]
    (gradient,) = torch.autograd.grad(logits[0, 16].square().sum(), features)
    seen = gradient.abs().amax(dim=(0, 1)).nonzero().flatten()
    assert (seen.min(), seen.max()) == (middle - head.halo_steps, middle + head.halo_steps)


def test_classifier_starts_from_the_prior() -> None:
    torch.manual_seed(0)
    settings = ActionFormerSettings(dim=16, attention_heads=2, prior_probability=0.05)
    head = ActionFormerHead(settings, in_channels=5, num_classes=3).eval()
    torch.nn.init.zeros_(head.classifier.out.conv.weight)
    logits = head(torch.randn(1, 5, 20), torch.ones(1, 20, dtype=torch.bool)).logits[0]
    torch.testing.assert_close(logits.sigmoid(), torch.full_like(logits, 0.05))


def bumps(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A (6, 64) track on whose first three channels the three classes show, and its two actions."""
    random = np.random.default_rng(seed)
    track = random.normal(0, 0.1, (6, 64)).astype(np.float32)
    segments, labels = [], []
    for earliest in (2, 34):
        start, length, label = earliest + random.integers(0, 8), random.integers(5, 20), random.integers(0, 3)
        track[label, start : start + length] += 1
        segments.append((start - 0.5, start + length - 0.5))
        labels.append(label)
    return torch.from_numpy(track), torch.tensor(segments, dtype=torch.float32), torch.tensor(labels)


def test_head_learns_a_tiny_problem_to_the_last_action() -> None:
    torch.manual_seed(0)
    head = ActionFormerHead(SMALL.model_copy(update={"dim": 32}), in_channels=6, num_classes=3)
    tracks, segments, labels = zip(*(bumps(seed) for seed in range(6)), strict=True)
    batch, mask = torch.stack(tracks), torch.ones(6, 64, dtype=torch.bool)
    optimiser = torch.optim.AdamW(head.parameters(), lr=3e-3)
    for _ in range(120):
        loss = anchor_free_loss(head(batch, mask), segments, labels, settings=head.settings, strides=head.strides)
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
    head.eval()
    timeline = Timeline(np.arange(64) * 0.2 + 0.1)  # step k shows second 0.2 k to 0.2 (k + 1)
    for track, truth, classes in zip(tracks, segments, labels, strict=True):
        with torch.no_grad():
            predictions = head(track[None], mask[:1])
        best = head.candidates(predictions, min_score=0.4, limit=100)
        found = decode(best, timeline, 12.8, DecodeSettings(min_score=0.4))
        order = np.argsort(found.segments_s[:, 0])
        assert found.labels[order].tolist() == classes.tolist()
        np.testing.assert_allclose(found.segments_s[order], timeline.seconds(truth.double().numpy()), atol=0.15)
