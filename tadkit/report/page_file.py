"""The page as one file: template, style, scripts and data in one text that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

from tadkit.version import __version__


def page_text(data: Mapping[str, Any], *, title: str) -> str:
    """The HTML of the page for ``data``, which is embedded as JSON.

    No text from files can become markup: ``<`` is escaped in the JSON, and the scripts set text, never HTML. The
    page's policy allows its own script and style, by their digests, and videos beside it; no network, no other script.
    """
    folder = files("tadkit.report") / "page"
    scripts = sorted((one for one in (folder / "js").iterdir() if one.name.endswith(".js")), key=lambda one: one.name)
    script = "".join(one.read_text(encoding="utf-8") for one in scripts)
    style = (folder / "page.css").read_text(encoding="utf-8")
    parts = {
        "policy": _policy(script, style),
        "generator": f"tadkit {__version__}",
        "title": escape(title),
        "style": style,
        "script": script,
        "data": json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    template = (folder / "index.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _policy(script: str, style: str) -> str:
    """The content security policy. A page that is opened as a file has its videos at ``file:``."""
    allowed = {
        "default-src": "'none'",
        "script-src": _digest(script),
        "style-src": _digest(style),
        "img-src": "data:",
        "media-src": "'self' file: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in allowed.items())


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
