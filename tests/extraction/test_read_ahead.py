from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tadkit.extraction.read_ahead import read_ahead


def numbers(taken: list[int], count: int = 10**9) -> Iterator[int]:
    for number in range(count):
        taken.append(number)
        yield number


def test_items_come_in_order_and_all_of_them() -> None:
    with read_ahead(numbers([], 100), depth=3) as items:
        assert list(items) == list(range(100))


def test_the_thread_waits_when_items_are_not_used_and_ends_with_the_block() -> None:
    taken: list[int] = []
    before = threading.active_count()
    with read_ahead(numbers(taken), depth=3) as items:
        assert next(items) == 0
        time.sleep(0.05)
        assert len(taken) <= 1 + 3
    assert threading.active_count() == before


def test_an_error_comes_where_its_item_would() -> None:
    def fails() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    with read_ahead(fails(), depth=2) as items:
        assert next(items) == 1
        with pytest.raises(OSError, match="gone"):
            next(items)


def test_an_error_of_the_user_ends_the_thread() -> None:
    before = threading.active_count()

    def stopped() -> None:
        with read_ahead(numbers([]), depth=2) as items:
            next(items)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert threading.active_count() == before
