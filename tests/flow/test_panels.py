"""A preview's pictures hold frame, motion and readable text."""

from __future__ import annotations

import numpy as np
import pytest

from tadkit.flow.panels import INK, PAPER, Panels, write_text


@pytest.mark.parametrize(
    ("size_hw", "panel_hw"), [((112, 112), (448, 448)), ((32, 64), (224, 448)), ((720, 1280),) * 2]
)
def test_small_motion_is_enlarged_by_a_whole_number_and_pictures_have_even_sides(size_hw, panel_hw):
    panels = Panels(size_hw, 2.0, ("tvl1",), with_frame=True)
    assert panels.panel_hw == panel_hw
    motion = np.zeros((2, *size_hw), np.float32)
    picture = panels.picture(motion, frame=np.zeros((*panel_hw, 3), np.uint8), caption="a")
    assert picture.dtype == np.uint8
    assert [side % 2 for side in picture.shape[:2]] == [0, 0]


def test_panels_hold_the_frame_on_the_left_and_the_colours_of_the_motion_on_the_right():
    panels = Panels((64, 64), 2.0, ("tvl1",), with_frame=True)
    motion = np.zeros((2, 64, 64), np.float32)
    motion[0] = 2.0
    picture = panels.picture(motion, frame=np.full((*panels.panel_hw, 3), 7, np.uint8), caption="a")
    side = panels.panel_hw[1]
    assert picture[200, 16 + side // 2].tolist() == [7, 7, 7]
    assert picture[200, 32 + side + side // 2].tolist() == [255, 0, 0]


def written(text: str, *, left_px: int = 4, width_px: int = 200) -> np.ndarray:
    """A line of text on paper."""
    canvas = np.full((30, width_px, 3), PAPER, dtype=np.uint8)
    write_text(canvas, text, left_px=left_px, base_px=20, colour=INK)
    return canvas


def inked(canvas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns that are not paper."""
    changed = (canvas != PAPER).any(axis=-1)
    return np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))


def test_text_stands_on_its_line_and_right_of_its_left_edge() -> None:
    canvas = written("HI")
    rows, columns = inked(canvas)
    assert rows[-1] == 19
    assert 9 <= rows[0] <= 11
    assert 4 <= columns[0] <= 7
    assert canvas.min() <= 60, "letters are as dark as the ink"


def test_a_longer_text_is_wider_and_what_does_not_fit_is_cut_off() -> None:
    _, short = inked(written("room"))
    _, long = inked(written("room room"))
    assert long[-1] > short[-1] + 25
    np.testing.assert_array_equal(written("room room", width_px=40), written("room room")[:, :40])


def test_accents_are_dropped_and_letters_that_the_font_lacks_are_question_marks() -> None:
    np.testing.assert_array_equal(written("Zo\u00eb"), written("Zoe"))
    np.testing.assert_array_equal(written("\u65e5\u672c.mp4"), written("??.mp4"))
    assert (written("Zoe") != written("Zoo")).any()
