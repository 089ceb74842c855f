"""The workbench in a browser: one server over made-up runs and one Chromium for all tests, a fresh context for each."""

import os
import runpy
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect

from app.exports import find_chromium
from benchmarks.browser import PATIENCE_MS, chromium, serving, settle

expect.set_options(timeout=60_000)  # two slow cores are shared with the other half of the tests

HERE = Path(__file__).parent
runs = SimpleNamespace(**runpy.run_path(str(HERE / "run_files.py"), run_name="run_files"))
evals = SimpleNamespace(**runpy.run_path(str(HERE.parent / "analysis" / "eval_files.py"), run_name="eval_files"))


@dataclass(frozen=True)
class Workbench:
    """A server of the app, and the folders it shows."""

    address: str
    runs_dir: Path
    evals_dir: Path
    log: Path

    def url(self, page: str, **query: str | int | float) -> str:
        """Where a page stands, with its state."""
        return f"{self.address}/{page}?" + "&".join(f"{name}={value}" for name, value in query.items())

    def open(self, page: Page, name: str, **query: str | int | float) -> None:
        """Show a page and wait until all of it is there; a fault of the program is never on it."""
        page.goto(self.url(name, **query))
        settle(page)
        assert page.get_by_test_id("stException").count() == 0, self.log.read_text()[-1500:]


@pytest.fixture(scope="session")
def made_up() -> SimpleNamespace:
    """The module that makes up runs."""
    return runs


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, for the whole run."""
    executable = find_chromium()
    if executable is None and shutil.which("apt-get") and os.geteuid() == 0:
        pytest.fail("there is no Chromium although apt-get could install it: run `make setup`")
    if executable is None:
        pytest.skip("there is no Chromium and no right to install one by apt-get")
    with chromium(executable) as launched:
        yield launched


@pytest.fixture(scope="session")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """The app over made-up runs."""
    folder = tmp_path_factory.mktemp("workbench")
    runs_dir, evals_dir, log = folder / "runs", folder / "evals", folder / "log"
    runs_dir.mkdir()
    evals_dir.mkdir()
    for run in runs.RUNS:
        runs.write(runs_dir, run)
    runs.spoil_evidence(runs_dir / "rlsd" / runs.FILE_NAME, step=2)
    runs.abandon(runs_dir / "stale" / runs.FILE_NAME, minutes=10)
    runs.write_unreadable(runs_dir)
    evals.write_all(evals_dir)
    with serving(runs_dir, evals_dir, log) as address:
        yield Workbench(address, runs_dir, evals_dir, log)


@pytest.fixture
def context(browser: Browser, workbench: Workbench) -> Iterator[BrowserContext]:
    """A browser that has never been here; in the end nothing may have gone wrong in it, or left this machine."""
    errors: list[str] = []
    strangers: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        # below the root Streamlit first asks for itself at /tokens/_stcore, which is not there
        if message.type == "error" and "/_stcore/" not in message.location["url"]:
            errors.append(f"{message.text} {message.location['url']}")

    def note(request: Request) -> None:
        if not request.url.startswith(own):
            strangers.append(request.url)

    own = (workbench.address, workbench.address.replace("http", "ws", 1), "data:", "blob:", "file:")
    with browser.new_context(viewport={"width": 1400, "height": 1000}, accept_downloads=True) as fresh:
        fresh.set_default_timeout(PATIENCE_MS)
        fresh.on("console", hear)
        fresh.on("weberror", lambda error: errors.append(str(error.error)))
        fresh.on("request", note)
        yield fresh
    assert not strangers, "the page asked another machine"
    assert not errors


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A page in it."""
    return context.new_page()
