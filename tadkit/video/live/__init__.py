"""Video that comes once and may have no end: cameras, pipes, growing files and URLs."""

from tadkit.video.live.parts import Begin, End, Item, Over, Sample, live_items, url_items
from tadkit.video.live.sources import LiveSource, live_source

__all__ = ["Begin", "End", "Item", "LiveSource", "Over", "Sample", "live_items", "live_source", "url_items"]
