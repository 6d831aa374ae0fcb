"""The bundled model is a whole detector with a card and finds what the example shows."""

from __future__ import annotations

from pathlib import Path

import pytest

import tadkit.zoo
from tadkit.checkpoint import load_checkpoint
from tadkit.detection.detect import load_detector
from tadkit.errors import WeightsError
from tadkit.models.detector import build_detector
from tadkit.records import HIGH_CONFIDENCE, Annotation, Detection, read_dataset
from tadkit.zoo import bundled_model

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_bundled_model_loads_and_has_a_card() -> None:
    path = bundled_model()
    detector = build_detector(load_checkpoint(path, kind="detector"))
    assert set(detector.labels) == {"walk", "sitdown", "standup", "lying", "falling"}
    assert path.stat().st_size <= 20_000_000
    assert path.with_suffix(".md").read_text(encoding="utf-8").strip()


def test_every_page_that_offers_the_model_names_the_terms_of_its_weights() -> None:
    path = bundled_model()
    assert (path.parent / "LICENSE-people-motion").read_text(encoding="utf-8").count("research") >= 2
    for page in (path.with_suffix(".md"), EXAMPLES.parent / "README.md"):
        text = page.read_text(encoding="utf-8")
        assert "research use" in text.replace("*", ""), page
        assert "LICENSE-people-motion" in text, page


def test_it_finds_at_least_four_of_five_actions_of_the_example() -> None:
    truth = read_dataset(EXAMPLES / "room.json").videos["room"].annotations
    shown = load_detector(device="cpu").detect(EXAMPLES / "room.mp4").above(HIGH_CONFIDENCE)
    met = [action for action in truth if any(_overlap(action, found) >= 0.5 for found in shown)]
    assert len(met) >= 0.8 * len(truth), [action for action in truth if action not in met]
    assert len(shown) <= 3 * len(truth), "few high-confidence detections, not many weak ones"


def _overlap(action: Annotation, found: Detection) -> float:
    """Temporal intersection over union; zero where the labels differ."""
    both = min(action.end_s, found.end_s) - max(action.start_s, found.start_s)
    either = max(action.end_s, found.end_s) - min(action.start_s, found.start_s)
    return max(0.0, both) / either if action.label == found.label else 0.0


def test_without_a_bundled_model_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tadkit.zoo, "_FOLDER", tmp_path)
    with pytest.raises(WeightsError, match="no bundled model; give one with --model, or install tadkit again"):
        bundled_model()
