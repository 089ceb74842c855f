"""PDF of a page, by whichever Chromium the machine has."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from core.errors import InputError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
PLACES = (
    Path("/usr/bin/chromium"),
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
    Path("/Applications/Chromium.app/Contents/MacOS/Chromium"),
    Path("C:/Program Files/Google/Chrome/Application/chrome.exe"),
)
PATIENCE = 90.0
"""Seconds a document of many thousand tokens may take."""


def find_chromium() -> Path | None:
    """A Chromium or Chrome that can print, or None."""
    found = (shutil.which(name) for name in NAMES)
    return next((Path(path) for path in found if path), next((path for path in PLACES if path.is_file()), None))


def pdf_of(html: str, chromium: Path) -> bytes:
    """A page printed without a window, in a folder of its own and with no way to a network.

    Raises:
        InputError: the browser did not start, took too long, or printed nothing.
    """
    with tempfile.TemporaryDirectory(prefix="credence-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        page, printed = folder / "page.html", folder / "page.pdf"
        page.write_text(html, encoding="utf-8")
        command = [
            str(chromium),
            "--headless",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-pdf-header-footer",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--virtual-time-budget=10000",
            f"--user-data-dir={folder / 'profile'}",
            f"--print-to-pdf={printed}",
            page.as_uri(),
        ]
        # Chromium refuses to start as root with its sandbox on; the page itself may run no script but ours.
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.insert(1, "--no-sandbox")
        try:
            done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired:
            raise InputError(f"PDF: {chromium} took over {PATIENCE:g} s; export SVG or HTML instead") from None
        except OSError as error:
            raise InputError(f"PDF: {chromium} cannot be started ({error.strerror}); export SVG or HTML") from error
        if done.returncode or not printed.is_file():
            last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise InputError(f"PDF: {chromium} ended with {done.returncode} ({last}); export SVG or HTML instead")
        return printed.read_bytes()
