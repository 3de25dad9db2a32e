"""Pages opened in headless Chromium, without a network, as a reader would open them from disk."""

import html
import re
import shutil
import subprocess
from dataclasses import dataclass

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@dataclass(frozen=True)
class Opened:
    """The page after its scripts ran: its HTML, and what the console said."""

    dom: str
    console: list[str]

    @property
    def text(self):
        """What a reader sees, roughly."""
        shown = re.sub(r"<(script|style)\b.*?</\1>", "", self.dom, flags=re.DOTALL)
        return html.unescape(re.sub(r"<[^>]*>", " ", shown))

    def drawn(self):
        """How many charts were drawn."""
        return self.dom.count('class="main-svg"') // 3


def _chromium(folder, *words):
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=20000",
        f"--user-data-dir={folder / 'browser'}", *words,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, timeout=200, check=True)


def opened(path, *words):
    """Open a page and wait until its scripts have run."""
    ran = _chromium(path.parent, "--window-size=1200,900", *words, "--dump-dom", path.as_uri())
    console = [
        line for line in ran.stderr.decode(errors="replace").splitlines() if ":CONSOLE" in line or "CONSOLE(" in line
    ]
    return Opened(ran.stdout.decode(errors="replace"), console)


def screenshot(path, picture, *, dark=False):
    """A picture of the top of a page, as a PIL image."""
    from PIL import Image

    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    _chromium(path.parent, "--window-size=1200,1400", scheme, f"--screenshot={picture}", path.as_uri())
    return Image.open(picture).convert("RGB")
