"""What a preview's pictures say in letters."""

from __future__ import annotations

import numpy as np

from tadkit.flow.panels import INK, PAPER, write_text


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
