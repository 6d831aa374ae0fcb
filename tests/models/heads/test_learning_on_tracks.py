"""Every head is trained alone on synthetic tracks and evaluated by tadkit's own evaluator."""

import math
from typing import Any

import pytest
import torch

from tadkit.config import (
    ActionFormerSettings,
    BmnSettings,
    DecodeSettings,
    HeadSettings,
    TadtrSettings,
    TagsSettings,
    TemporalMaxerSettings,
    TriDetSettings,
)
from tadkit.evaluation import mean_average_precision
from tadkit.models.decode.decode import decode
from tadkit.models.heads import Head, build_head
from tadkit.records import Annotation, Detection
from tadkit.synth.tracks import make_track
from tadkit.timeline import Timeline

STEPS, CHANNELS, CLASSES = 64, 16, 3
QUERIES = TadtrSettings(
    dim=32, queries=12, encoder_layers=1, decoder_layers=2, attention_heads=4, mlp_dim=64, norm_groups=4, dropout=0.0
)
JUDGED_QUERIES = QUERIES.model_copy(update={"actionness": True, "actionness_bins": 8})
PROPOSALS = BmnSettings(dim=32, map_dim=16, roi_dim=32, durations=32, samples=8)
MASKS = TagsSettings(dim=32, attention_heads=4, dropout=0.0, reach_steps=32)
TRANSFORMER = ActionFormerSettings(dim=32, levels=4, attention_heads=4, dropout=0.0)
GRANULARITIES = TriDetSettings(dim=32, levels=4, bins=8, mlp_dim=64)
POOLS = TemporalMaxerSettings(dim=32, levels=4)


def track(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    made = make_track(seed, STEPS, CHANNELS, CLASSES)
    return torch.from_numpy(made.features.T), torch.from_numpy(made.segments).float(), torch.from_numpy(made.labels)


def train(head: Head, *, steps: int, lr: float, batch: int, teacher: Head | None = None) -> None:
    """AdamW with a short warm-up and a cosine, over 256 tracks; on a teacher's predictions only if one is given."""
    tracks = [track(seed) for seed in range(256)]
    optimiser = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1, (step + 1) / 30) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    real = torch.ones(batch, STEPS, dtype=torch.bool)
    for _ in range(steps):
        chosen = [tracks[index] for index in torch.randint(len(tracks), (batch,)).tolist()]
        features, segments, labels = (list(field) for field in zip(*chosen, strict=True))
        predictions = head(torch.stack(features), real)
        if teacher is None:
            loss = head.loss(predictions, segments, labels).total
        else:
            with torch.no_grad():
                target = teacher(torch.stack(features), real)
            loss = torch.stack(list(head.distil(predictions, target))).sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        rate.step()


@torch.no_grad()
def map_at_half(head: Head, settings: DecodeSettings) -> float:
    """mAP at tIoU 0.5 on 24 unseen tracks; a step is a second."""
    truth, found, timeline = {}, {}, Timeline(torch.arange(STEPS).double().numpy())
    for seed in range(10_000, 10_024):
        features, segments, labels = track(seed)
        predictions = head(features[None], torch.ones(1, STEPS, dtype=torch.bool))
        best = head.candidates(predictions, min_score=settings.min_score, limit=settings.top_candidates)
        spans_s, scores, kinds = decode(best, timeline, STEPS, settings)
        truth[str(seed)] = [
            Annotation(*span, str(kind)) for span, kind in zip(segments.tolist(), labels.tolist(), strict=True)
        ]
        found[str(seed)] = [
            Detection(start_s=start, end_s=end, label=str(kind), score=score)
            for (start, end), kind, score in zip(spans_s.tolist(), kinds.tolist(), scores.tolist(), strict=True)
        ]
    return float(mean_average_precision(truth, found, labels=None, tiou=(0.5,)).map[0])


WAYS: list[Any] = [
    pytest.param(TRANSFORMER, DecodeSettings(), 200, 3e-3, 8, id="actionformer"),
    pytest.param(GRANULARITIES, DecodeSettings(), 250, 3e-3, 8, id="tridet"),
    pytest.param(POOLS, DecodeSettings(), 200, 3e-3, 8, id="temporal-maxer"),
    pytest.param(QUERIES, DecodeSettings(method="none"), 200, 2e-3, 16, id="tadtr"),
    pytest.param(JUDGED_QUERIES, DecodeSettings(method="none"), 200, 2e-3, 16, id="tadtr-actionness"),
    pytest.param(PROPOSALS, DecodeSettings(), 300, 3e-3, 8, id="bmn"),
    pytest.param(MASKS, DecodeSettings(), 200, 3e-3, 8, id="tags"),
]


@pytest.mark.parametrize(
    ("settings", "decoding", "steps", "lr", "batch"),
    [  # the quickest in every run, the others in the slow one
        pytest.param(*way.values, id=way.id, marks=() if way.id == "temporal-maxer" else pytest.mark.slow)
        for way in WAYS
    ],
)
def test_a_head_alone_generalises_to_unseen_tracks_and_so_does_its_student(
    settings: HeadSettings, decoding: DecodeSettings, steps: int, lr: float, batch: int
) -> None:
    torch.manual_seed(0)
    teacher, student = (build_head(settings, in_channels=CHANNELS, num_classes=CLASSES) for _ in range(2))
    assert map_at_half(teacher.eval(), decoding) < 0.3
    train(teacher.train(), steps=steps, lr=lr, batch=batch)
    assert map_at_half(teacher.eval(), decoding) >= 0.9
    train(student.train(), steps=steps, lr=lr, batch=batch, teacher=teacher)
    assert map_at_half(student.eval(), decoding) >= 0.9


@pytest.mark.slow
def test_proposals_are_named_early_and_not_long_after_they_are_found() -> None:
    torch.manual_seed(0)
    head = build_head(PROPOSALS, in_channels=CHANNELS, num_classes=CLASSES)
    train(head, steps=100, lr=5e-4, batch=8)
    assert map_at_half(head.eval(), DecodeSettings()) > 0.6


@pytest.mark.parametrize("settings", [way.values[0] for way in WAYS], ids=[way.id for way in WAYS])
def test_mixed_precision_gives_nearly_the_same_loss_and_finite_gradients(settings: HeadSettings) -> None:
    torch.manual_seed(0)
    head = build_head(settings, in_channels=CHANNELS, num_classes=CLASSES).eval()
    features, segments, labels = track(0)
    real = torch.ones(1, STEPS, dtype=torch.bool)
    exact = head.loss(head(features[None], real), [segments], [labels])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictions = head(features[None], real)
    loss = head.loss(predictions, [segments], [labels])
    loss.total.backward()
    torch.testing.assert_close(loss.classification, exact.classification, rtol=0.03, atol=0.03)
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters())
