"""Whatever a file contains, readers return annotations or raise an error with one message."""

from __future__ import annotations

import copy
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.annotations.formats import Format, Known, SourceVideo, guess, read_annotations, write_annotations
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

JSON_FORMS = [form for form in get_args(Format) if form not in ("thumos14", "elan", "cvat", "epic-kitchens")]
NOTHING = (None, 3, -1.5, "x", [], {}, True, [[]], {"a": None})
plain = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def one_error_or_annotations(call: Callable[[], Any]) -> None:
    messages = ("none",)
    try:
        call()
    except AnnotationError as error:
        messages = error.args
    (message,) = messages
    assert message.strip()


@pytest.mark.parametrize("form", JSON_FORMS)
@settings(max_examples=15)
@given(plain)
def test_any_json(form, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        path.write_text(json.dumps(content))
        one_error_or_annotations(lambda: read_annotations(path, form, Known(fps=25.0)))
        one_error_or_annotations(lambda: guess(path))


def changed(content: Any, rng: random.Random) -> Any:
    """The same with one value, anywhere in it, replaced or left out."""
    content = copy.deepcopy(content)
    place, parent, key = content, None, None
    while isinstance(place, dict | list) and place and (parent is None or rng.random() < 0.85):
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        parent, place = place, place[key]
    if parent is not None:
        if rng.random() < 0.3:
            del parent[key]
        else:
            parent[key] = rng.choice(NOTHING)
    return content


VIDEO = SourceVideo("v", (Annotation(1, 2, "walk"), Annotation(1.5, 3, "sit")), "training", 9.0, 25.0)


@pytest.mark.parametrize("tool", ["boris", "label-studio", "via"])
def test_a_tool_s_file_with_any_value_changed(tool, tmp_path):
    path, rng = tmp_path / "a.json", random.Random(0)
    write_annotations(path, tool, [VIDEO], Known())
    content = json.loads(path.read_text())
    for _ in range(200):
        path.write_text(json.dumps(changed(content, rng)))
        one_error_or_annotations(lambda: read_annotations(path, tool, Known(fps=25.0)))
        one_error_or_annotations(lambda: guess(path))


@pytest.mark.parametrize("tool", ["elan", "cvat"])
def test_a_tool_s_xml_with_any_piece_cut_out(tool, tmp_path):
    write_annotations(tmp_path, tool, [VIDEO], Known())
    (path,) = tmp_path.iterdir()
    text, rng = path.read_text(), random.Random(0)
    words = text.replace(">", ">\0").replace('" ', '"\0 ').split("\0")
    for _ in range(200):
        at = rng.randrange(len(words))
        path.write_text("".join(words[:at] + words[at + 1 :]))
        one_error_or_annotations(lambda: read_annotations(path, tool, Known(fps=25.0)))
        one_error_or_annotations(lambda: guess(path))


@pytest.mark.parametrize("form", ["boris", "charades", "csv", "epic-kitchens", "thumos14-afsd"])
@settings(max_examples=15)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_table(form, text):
    heads = {
        "boris": "Time,Media file path,Behavior,Status\n",
        "charades": "id,actions,length\n",
        "csv": "video,label,start,end,duration\n",
        "epic-kitchens": "video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n",
        "thumos14-afsd": "video,type,type_idx,start,end\n",
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test_Annotation.csv"
        path.write_text(heads[form] + text, encoding="utf-8")
        one_error_or_annotations(lambda: read_annotations(path, form, Known()))
        one_error_or_annotations(lambda: guess(path))
