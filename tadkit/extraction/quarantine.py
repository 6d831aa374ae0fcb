"""Videos that failed, listed with the reason beside the store, so that they are not retried in vain."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tadkit import errors
from tadkit.errors import StoreError, TadkitError
from tadkit.files import write_text
from tadkit.version import __version__

FORMAT = "tadkit-failed"
VERSION = 1


class Quarantine:
    """The list ``<store>.failed.json``; it exists while it lists a video.

    A video stays listed until it succeeds; it is :meth:`known` while its bytes and the settings stay the same.

    Raises:
        StoreError: the list is damaged or of a newer version.
    """

    def __init__(self, store: Path) -> None:
        self.path = store.with_name(f"{store.name}.failed.json")
        self._videos = _read(self.path)

    @property
    def reasons(self) -> dict[str, str]:
        """Why each listed video failed."""
        return {name: str(entry["reason"]) for name, entry in self._videos.items()}

    def known(self, name: str, *, source_sha256: str, settings: str) -> TadkitError | None:
        """The error that ``name`` failed with before, if its bytes and the settings are the same."""
        entry = self._videos.get(name)
        if entry is None or (entry["source_sha256"], entry["settings"]) != (source_sha256, settings):
            return None
        kind = getattr(errors, str(entry["error"]), TadkitError)
        known = kind if isinstance(kind, type) and issubclass(kind, TadkitError) else TadkitError
        return known(f"{entry['reason']} (it failed {entry['when']}; add --retry-failed to try again)")

    def add(self, name: str, error: TadkitError, *, source_sha256: str, settings: str) -> None:
        """List ``name``.

        Args:
            name: the video.
            error: what it failed with.
            source_sha256: digest of its bytes; empty where they could not be read, and then it is tried again.
            settings: digest of all settings, of those that only change speed too.
        """
        self._videos[name] = {
            "source_sha256": source_sha256,
            "settings": settings,
            "error": type(error).__name__,
            "reason": str(error),
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "tadkit": __version__,
        }
        self._write()

    def remove(self, name: str) -> None:
        """Remove ``name`` from the list."""
        if self._videos.pop(name, None) is not None:
            self._write()

    def _write(self) -> None:
        if self._videos:
            listed = {"format": FORMAT, "version": VERSION, "videos": dict(sorted(self._videos.items()))}
            write_text(self.path, json.dumps(listed, indent=1, ensure_ascii=False) + "\n")
        else:
            self.path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: the list of failed videos cannot be read ({error}); delete it") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise StoreError(f"{path}: not a list of failed videos; move it elsewhere")
    if found.get("version") != VERSION:
        raise StoreError(f"{path}: version {found.get('version')}, but this tadkit reads {VERSION}: upgrade tadkit")
    fields = {"source_sha256", "settings", "error", "reason", "when", "tadkit"}
    videos = found.get("videos")
    if not isinstance(videos, dict) or not all(isinstance(v, dict) and fields <= v.keys() for v in videos.values()):
        raise StoreError(f"{path}: the list of failed videos lacks some of {', '.join(sorted(fields))}; delete it")
    return videos
