"""Makes docs/report.jpg: the page of tadkit report for the example video, in Chromium.

Run from the repository root: python docs/report_picture.py
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import tadkit
from tadkit.progress import Quiet
from tadkit.report.report import write_report


def main() -> None:
    """Detect, write the page, open it, select a bar, take a picture."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        tadkit.detect("examples/room.mp4").write(folder / "dets.json")
        page_path, truth = folder / "report.html", Path("examples/room.json")
        shutil.copy("examples/room.mp4", folder)
        write_report(page_path, detections=folder / "dets.json", truth=truth, videos=folder, progress=Quiet())
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": 1240, "height": 920})
        page.goto(page_path.as_uri())
        page.wait_for_selector("#play:enabled")
        for _ in range(7):
            page.keyboard.press("]")
        page.wait_for_timeout(1000)
        page.screenshot(path="docs/report.jpg", type="jpeg", quality=68)
        browser.close()


if __name__ == "__main__":
    main()
