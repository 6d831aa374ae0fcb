"""Models that come with the package, each with a card beside it."""

from __future__ import annotations

from pathlib import Path

from tadkit.errors import WeightsError

_FOLDER = Path(__file__).parent
BUNDLED = "people-motion"
"""The model that ``tadkit detect`` runs without ``--model``."""


def bundled_model() -> Path:
    """Path of the detector that ``tadkit detect`` runs without ``--model``; its card is the ``.md`` beside it.

    Raises:
        WeightsError: the package was built without it.
    """
    path = _FOLDER / f"{BUNDLED}.safetensors"
    if not path.is_file():
        raise WeightsError(
            f"{path}: this installation has no bundled model; give one with --model, or install tadkit again"
        )
    return path


def model_path(name_or_path: str | Path | None) -> Path:
    """The file of a detector: of a bundled model by its name, else the path itself; None is the bundled one.

    Raises:
        WeightsError: the package was built without the bundled model.
    """
    return bundled_model() if name_or_path is None or str(name_or_path) == BUNDLED else Path(name_or_path)
