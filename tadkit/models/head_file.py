"""Save and load a single head: a checkpoint of kind ``head``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tadkit.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from tadkit.config import HeadSettings, Settings
from tadkit.config.loading import check_settings
from tadkit.errors import SettingsError, WeightsError
from tadkit.models.heads.build import build_head
from tadkit.models.heads.head import Head


class _Header(Settings):
    head: HeadSettings


def save_head(path: Path, head: Head, *, labels: tuple[str, ...], provenance: Mapping[str, Any] | None = None) -> None:
    """Write a head atomically.

    Args:
        path: ``.safetensors`` file.
        head: any detection head.
        labels: class labels in the order of its outputs.
        provenance: where it comes from; free form.
    """
    assert len(labels) == head.num_classes, (labels, head.num_classes)
    settings = {"head": head.settings.model_dump(mode="json"), "in_channels": head.in_channels}
    save_checkpoint(
        path,
        Checkpoint("head", settings, labels, head.state_dict(), provenance or {}, trained_steps=head.trained_steps),
    )


def load_head(path: Path) -> tuple[Head, tuple[str, ...]]:
    """A head in evaluation mode, and its labels.

    Raises:
        WeightsError: the file is missing, damaged, from a newer tadkit, or not a head.
    """
    checkpoint = load_checkpoint(path, kind="head")
    return build_head_of(checkpoint), checkpoint.labels


def build_head_of(checkpoint: Checkpoint) -> Head:
    """The head of a checkpoint, in evaluation mode."""
    settings = head_settings(checkpoint.settings.get("head", {}), where=str(checkpoint.path))
    channels = int(checkpoint.settings["in_channels"])
    head = build_head(
        settings,
        in_channels=channels,
        num_classes=len(checkpoint.labels),
        trained_steps=checkpoint.trained_steps,
    )
    load_weights(head, checkpoint)
    return head.eval()


def head_settings(section: Mapping[str, Any], *, where: str) -> HeadSettings:
    """Head settings from plain values.

    Raises:
        WeightsError: this version of tadkit does not support them, or they are inconsistent.
    """
    try:
        return check_settings(_Header, {"head": dict(section)}, name=where).head
    except SettingsError as error:
        first = str(error).splitlines()[0].removeprefix(f"{where}: ")
        raise WeightsError(f"{where}: head settings that this version of tadkit does not support ({first})") from None
