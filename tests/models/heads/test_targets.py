from pathlib import Path

import numpy as np
import torch

from tadkit.config import ActionFormerSettings
from tadkit.models.heads import Targets, assign_targets, regression_ranges

SETTINGS = ActionFormerSettings(levels=3, first_range_steps=4.0, centre_radius=1.5)
STRIDES = (1, 2, 4)


def targets(*segments: tuple[float, float], labels: tuple[int, ...], time: int = 40) -> Targets:
    lengths = [-(-time // stride) for stride in STRIDES]
    ends = torch.tensor(segments, dtype=torch.float32).reshape(-1, 2)
    return assign_targets(lengths, STRIDES, [ends], [torch.tensor(labels, dtype=torch.int64)], SETTINGS, 3)


def test_ranges_double_and_the_last_has_no_bound() -> None:
    assert regression_ranges(SETTINGS) == ((0.0, 4.0), (4.0, 8.0), (8.0, float("inf")))
    coarse = SETTINGS.model_copy(update={"level_ratio": 4, "start_level": 1})
    assert regression_ranges(coarse) == ((0.0, 16.0), (16.0, float("inf")))


def test_targets_are_those_of_actionformer_but_for_the_closed_end_of_its_ranges() -> None:
    golden = np.load(Path(__file__).parent / "golden" / "targets.npz")
    position, _, longest, stride = golden["points"].T
    strides = [1, 2, 4, 8]
    ours = assign_targets(
        [int((stride == s).sum()) for s in strides],
        strides,
        [torch.from_numpy(golden["segments"])],
        [torch.from_numpy(golden["labels"])],
        ActionFormerSettings(levels=4, first_range_steps=4.0, centre_radius=1.5),
        5,
    )
    theirs = golden["classes"].any(axis=1)
    closed_end = golden["offsets"].max(axis=1) * stride == longest
    differ = (ours.classes[0].numpy() != golden["classes"]).any(axis=1)
    assert theirs.sum() == 36
    assert position[differ].tolist() == position[theirs & closed_end].tolist()
    assert differ.sum() == 2
    same = theirs & ~differ
    assert ours.positive[0].numpy().tolist() == same.tolist()
    np.testing.assert_allclose(ours.offsets[0].numpy()[same], golden["offsets"][same], atol=1e-5)


def test_the_shortest_of_overlapping_actions_wins() -> None:
    found = targets((4.0, 11.0), (6.0, 9.0), labels=(0, 1))
    assert found.classes[0, 7].tolist() == [0, 1, 0]
    assert found.offsets[0, 7].tolist() == [1, 2]


def test_equally_short_actions_are_all_named() -> None:
    found = targets((6.0, 9.0), (6.0, 9.0005), labels=(2, 0))
    assert found.classes[0, 7].tolist() == [1, 0, 1]


def test_offsets_are_in_strides_of_the_level() -> None:
    found = targets((11.0, 21.0), labels=(1,))
    level_1, level_2 = 40, 40 + 20
    # Positions 14, 16, 18 are 5 to 7 from the farther end; 12 and 20 are 9 from it, which is for the last level.
    positive = [level_1 + 7, level_1 + 8, level_1 + 9, level_2 + 3, level_2 + 5]
    assert found.positive[0].nonzero().flatten().tolist() == positive
    assert found.offsets[0, level_1 + 8].tolist() == [2.5, 2.5]
    assert found.offsets[0, level_2 + 3].tolist() == [0.25, 2.25]


def test_no_action_means_no_positive() -> None:
    found = targets(labels=())
    assert not found.positive.any()
    assert found.classes.shape == (1, 70, 3)
    assert (found.classes == 0).all()
    assert (found.offsets == 0).all()
