"""Take the pictures of the page for README.md, in a headless Chromium, of a service that it starts.

    python scripts/screenshots.py [FOLDER] [--all]

Without a folder they go to docs/images. With --all also those that are for looking at: dark, error, A/B, many clips.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
WIDE, NARROW = {"width": 1100, "height": 900}, {"width": 360, "height": 740}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The system's browser; None if there is none."""


@contextmanager
def service() -> Iterator[str]:
    """The address of `mmmos serve` in a process of its own."""
    words = [sys.executable, "-m", "mmmos", "serve", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            yield next(found[1] for line in process.stderr if (found := re.search(r"(http://\S+:\d+);", line)))
        finally:
            process.terminate()
            process.communicate()


@contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium, whose microphone is a tone."""
    from playwright.sync_api import sync_playwright

    words = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    words += ["--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=words)
        yield opened
        opened.close()


def scored(page: Any, address: str, files: list[Path]) -> None:
    """Open the page, give it files, and wait for their scores."""
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    if files:
        page.set_input_files("#files", files)
        page.wait_for_selector("#status[data-left='0']", timeout=180_000)


def compare(page: Any) -> None:
    """Choose the second clip for the comparison, and a position in the middle."""
    page.select_option("#compare", index=1)
    page.locator(".wave").first.click(position={"x": 300, "y": 60})
    page.click("#play")
    page.click("#use-b")


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    clips = sorted(path for path in (ROOT / "samples").iterdir() if path.suffix != ".md")
    broken = options.folder / "broken.wav"
    pair = [ROOT / "samples" / "speech_clean.flac", ROOT / "samples" / "speech_noisy.wav"]
    with service() as address, browser() as chromium:

        def shoot(name: str, files: list[Path], size: Any, *, dark: bool = False, change: Any = None) -> None:
            page = chromium.new_page(viewport=size, color_scheme="dark" if dark else "light")
            scored(page, address, files)
            if change:
                change(page)
            picture = Image.open(BytesIO(page.screenshot(full_page=True)))
            picture.save(options.folder / f"{name}.webp", quality=70, method=6)
            page.close()

        shoot("page_wide", pair, WIDE, change=compare)
        shoot("page_narrow", pair[:1], NARROW)
        if options.all:
            broken.write_bytes(b"RIFF, and nothing that is audio")
            shoot("empty", [], WIDE)
            shoot("dark", pair, WIDE, dark=True, change=compare)
            shoot("narrow_dark_many", clips, NARROW, dark=True)
            shoot("error", [broken, *pair[:1]], WIDE)
            shoot("many", clips, WIDE, change=lambda page: page.click("th[data-column=PQ] button"))
            broken.unlink()


if __name__ == "__main__":
    main()
