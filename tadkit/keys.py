"""What each stored result depends on, as digests: one that differs is made anew."""

from __future__ import annotations

CODE = 1
"""Raised when a change of the code makes stored results differ."""
