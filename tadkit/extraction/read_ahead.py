"""Read ahead in another thread by a few items: frames are decoded while flow is computed, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")


class _End(NamedTuple):
    """The end of the items; ``error`` is what ended them early, if anything."""

    error: BaseException | None


@contextmanager
def read_ahead(items: Iterable[Item], *, depth: int) -> Iterator[Iterator[Item]]:
    """Fetch ``items`` in a thread of their own, at most ``depth`` ahead of their use.

    The thread has ended when the block does, whether or not all items were used. An error among the items is raised
    where the item would have come.
    """
    made: SimpleQueue[Item | _End] = SimpleQueue()
    free, stopped = Semaphore(depth), Event()

    def make() -> None:
        end = _End(None)
        try:
            source = iter(items)
            while free.acquire() and not stopped.is_set():
                made.put(next(source))
        except StopIteration:
            pass
        except BaseException as error:
            end = _End(error)
        made.put(end)

    def used() -> Iterator[Item]:
        while not isinstance(item := made.get(), _End):
            free.release()
            yield item
        if item.error is not None:
            raise item.error

    thread = Thread(target=make, name="read-ahead", daemon=True)
    thread.start()
    try:
        yield used()
    finally:
        stopped.set()
        free.release()
        thread.join()
