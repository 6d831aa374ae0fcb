import cv2
import torch

from tadkit.flow.opencv import same_threads


def test_threads_are_the_same_inside_and_as_before_outside() -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    with same_threads(before[0] + 1):
        assert torch.get_num_threads() == cv2.getNumThreads() == before[0] + 1
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def test_threads_are_as_before_after_an_error() -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        with same_threads(before[0] + 1):
            raise KeyError
    except KeyError:
        assert (torch.get_num_threads(), cv2.getNumThreads()) == before
