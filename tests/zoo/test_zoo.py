"""The bundled model is a whole detector with a card, or its absence is told with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

import tadkit.zoo
from tadkit.checkpoint import load_checkpoint
from tadkit.detector import build_detector
from tadkit.errors import WeightsError
from tadkit.zoo import bundled_model


def test_the_bundled_model_loads_and_has_a_card() -> None:
    try:
        path = bundled_model()
    except WeightsError:
        pytest.skip("this checkout has no bundled model")
    detector = build_detector(load_checkpoint(path, kind="detector"), where=str(path))
    assert detector.labels
    assert path.with_suffix(".md").read_text(encoding="utf-8").strip()


def test_without_a_bundled_model_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tadkit.zoo, "_FOLDER", tmp_path)
    with pytest.raises(WeightsError, match="no bundled model; give one with --model, or install tadkit again"):
        bundled_model()
