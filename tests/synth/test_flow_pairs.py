"""Synthetic pairs have the flow that they state, in the bands that they cover."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from tadkit.flow.truth import BANDS_PX, TruthPair
from tadkit.synth.flow_pairs import CHOICE_SEED, HELD_OUT_SEED, made_up_pair, made_up_pairs


def pair_of(
    band_px: tuple[float, float], *, texture: str = "rich", condition: str = "clean", still: bool = False, seed: int = 0
) -> TruthPair:
    choices = {"band_px": band_px, "texture": texture, "condition": condition, "size_hw": (48, 64), "still": still}
    return made_up_pair("p", np.random.default_rng(seed), **choices)


@pytest.mark.parametrize("texture", ["rich", "poor"])
@pytest.mark.parametrize("band_px", BANDS_PX)
def test_the_second_picture_read_along_the_flow_is_the_first(band_px: tuple[float, float], texture: str) -> None:
    pair = pair_of(band_px, texture=texture)
    rows, columns = np.mgrid[:48, :64]
    places = [rows + pair.flow[1], columns + pair.flow[0]]
    read = map_coordinates(pair.frames[1, ..., 0].astype(float), places, order=3, mode="nearest", cval=np.nan)
    inside = (places[0] >= 0) & (places[0] <= 47) & (places[1] >= 0) & (places[1] <= 63)
    away = np.abs(read - pair.frames[0, ..., 0])[inside]
    still = np.abs(pair.frames[1, ..., 0].astype(float) - pair.frames[0, ..., 0])[inside]
    assert np.median(away) < 1.5
    assert np.median(away) < 0.5 * np.median(still)


@pytest.mark.parametrize("band_px", BANDS_PX)
def test_most_displacements_are_in_the_band(band_px: tuple[float, float]) -> None:
    lengths_px = np.linalg.norm(pair_of(band_px).flow, axis=0)
    assert np.mean((lengths_px >= 0.6 * band_px[0]) & (lengths_px < 1.5 * min(band_px[1], 30))) > 0.9


def test_a_background_may_stand_still() -> None:
    lengths_px = np.linalg.norm(pair_of((3, 10), still=True).flow, axis=0)
    assert 0.2 < np.mean(lengths_px == 0) < 1
    assert lengths_px.max() > 2


def test_conditions_change_the_pictures_but_not_the_flow() -> None:
    clean, noise, light = (pair_of((1, 3), condition=condition) for condition in ("clean", "noise", "light"))
    for other in (noise, light):
        np.testing.assert_array_equal(other.flow, clean.flow)
    first, second = (noise.frames.astype(float) - clean.frames)[..., 0]
    assert 3 < first.std() < 5
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1
    np.testing.assert_array_equal(light.frames[0], clean.frames[0])
    assert np.abs(light.frames[1].astype(float) - clean.frames[1]).mean() > 2


def test_seeds_repeat_pairs_and_no_pair_of_the_choice_is_held_out() -> None:
    def first_pairs(seed: int) -> list[TruthPair]:
        return list(made_up_pairs(seed, sizes_hw=((24, 32),), bands_px=BANDS_PX[:1]))

    chosen, again, held_out = first_pairs(CHOICE_SEED), first_pairs(CHOICE_SEED), first_pairs(HELD_OUT_SEED)
    assert [pair.name for pair in chosen] == [pair.name for pair in held_out]
    assert len({pair.name for pair in chosen}) == len(chosen) == 6
    for one, same, other in zip(chosen, again, held_out, strict=True):
        np.testing.assert_array_equal(one.frames, same.frames)
        assert not np.array_equal(one.frames, other.frames)
