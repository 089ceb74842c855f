"""The workbench served to a headless Chromium, for the benchmark of the app and for its tests."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[1]
SETTLED = "[data-testid=stApp][data-test-script-state=notRunning][data-test-connection-state=CONNECTED]"
PATIENCE_MS = 90_000


@contextmanager
def chromium(executable: Path) -> Iterator[Browser]:
    """A headless browser."""
    with sync_playwright() as playwright:
        # as root, and in containers, there is no sandbox to be had
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--enable-precise-memory-info"]
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@contextmanager
def serving(runs_dir: Path, evals_dir: Path, log: Path) -> Iterator[str]:
    """The workbench over two folders, in a process of its own; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--server.port", str(port), "--server.headless", "true"]
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", *options]
    command += ["--", "--runs-dir", str(runs_dir), "--evals-dir", str(evals_dir)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(f"{address}/_stcore/health", process, log)
        yield address
    finally:
        process.terminate()
        process.wait()


def _wait(address: str, process: subprocess.Popen, log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(address) as answer:
                if answer.status == 200:
                    return
        except URLError:
            time.sleep(0.1)
    raise RuntimeError(f"the workbench did not start: {log.read_text()[-2000:]}")


def settle(page: Page, patience_ms: int = PATIENCE_MS) -> None:
    """Wait until the script of the page has run and nothing is under way."""
    page.wait_for_selector(SETTLED, state="attached", timeout=patience_ms)
