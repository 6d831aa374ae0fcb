"""Heads other than the default go through all stages, as teacher, shared branch head and joint head alike."""

from pathlib import Path

import numpy as np
import pytest

from tadkit.checkpoint import load_checkpoint
from tadkit.config.loading import load_recipe
from tadkit.errors import SettingsError
from tadkit.models.detector import build_detector
from tadkit.models.heads.actionformer import ActionFormerHead
from tadkit.models.heads.bmn import BmnHead
from tadkit.progress import Quiet
from tadkit.recipe.run import run
from tadkit.store import read_store

HEADS = {
    "actionformer": "levels = 4\nstart_level = 1\nlevel_ratio = 4\nattention_window = 3\nhead_layers = 1",
    "tridet": "levels = 3\nstem_layers = 0\nhead_layers = 1\nbins = 4\nmlp_dim = 32",
    "temporal-maxer": "levels = 3\nhead_layers = 1",
    "tadtr": "queries = 6\nattention_heads = 4\ndecoder_layers = 2\nmlp_dim = 32\nwindow_steps = 16",
    "bmn": "map_dim = 8\nroi_dim = 8\ndurations = 8\nsamples = 4\nwindow_steps = 16",
    "tags": "layers = 1\nreach_steps = 8\nwindow_steps = 16",
}
PYRAMIDS = ("actionformer", "tridet", "temporal-maxer")
"""Those of which the teacher's predictions, too, are cached, for each of 3 levels."""


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_a_recipe_with_another_head_goes_through_all_stages(toy: Path, kind: str) -> None:
    text = toy.read_text()
    before, after = text.index("[head]"), text.index("[distill]")
    head = f'[head]\nkind = "{kind}"\ndim = 16\n{HEADS[kind]}\n'
    decoding = "[decode]\nmin_score = 0.0\n"
    recipe = text[:before] + head + decoding + text[after:].replace("epochs = 2", "epochs = 1")
    toy.write_text(recipe.replace('"teacher", "rgb", "decomposed"', '"teacher", "decomposed"'))
    result = run(load_recipe(toy), base=toy.parent, device="cpu", progress=Quiet())
    assert [row.name for row in result.rows] == [
        "teacher",
        "decomposed",
        "decomposed: motion",
        "decomposed: appearance",
    ]
    assert all(np.isfinite(row.average_map) for row in result.rows)
    with read_store(toy.parent / "runs" / "toy" / "teacher.h5", kind="features") as tracks:
        cached = [f"{what}_{level}" for what in ("logits", "offsets") for level in range(3)] if kind in PYRAMIDS else []
        wanted = {f"{view}/{what}" for view in ("mirror", "original") for what in ("feature", *cached)}
        assert set(tracks.tracks(tracks.videos()[0])) == wanted


def test_the_detector_may_have_a_head_that_teacher_and_student_have_not(toy: Path) -> None:
    text = toy.read_text().replace('"teacher", "rgb", "decomposed"', '"decomposed"').replace("epochs = 2", "epochs = 1")
    toy.write_text(f'{text}\n[joint_head]\nkind = "bmn"\ndim = 16\n{HEADS["bmn"]}\n')
    recipe = load_recipe(toy)
    run(recipe, base=toy.parent, device="cpu", progress=Quiet())
    made = load_checkpoint(toy.parent / "runs" / "toy" / "detector-decomposed.safetensors", kind="detector")
    detector = build_detector(made)
    assert isinstance(detector.joint.head, BmnHead)
    assert isinstance(detector.student.head, ActionFormerHead)
    with pytest.raises(SettingsError, match=r"joint_head needs distill\.joint = false"):
        load_recipe(toy, overrides=("distill.joint=true",))
