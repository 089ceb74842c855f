"""How fast the workbench is, in headless Chromium: `python -m benchmarks.app [--json]`.

A slider's time runs from its move to the second animation frame after it, when the new colours are on the screen. The
first paint of Tokens runs from the button on Runs, or from the start of the navigation in a browser that has never been
there, to the second frame with tokens. All runs are made up on the spot.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page
from rich.console import Console
from rich.table import Table

from analysis.catalogue import EXHIBITS
from analysis.curves import Shown
from analysis.recordings import read_recording
from analysis.store import FILE_NAME, RunFile
from app.exports import find_chromium
from benchmarks.browser import chromium, serving, settle
from benchmarks.made_up import GROUP, Size, add_step, write_run
from core import runfile
from core.errors import InputError
from core.turns import waiting_for

MOVES = 12
LENGTHS = (2048, 8192)
STEPS, LENGTH = 50, 500
"""Of the large run; its rollouts follow from the tokens asked for."""
FIRST_LOAD_MS = 120_000
"""The first visit waits for the server to import everything."""
TOKEN = "section.credence .body span.t"
MOVE = """
async (slider, values) => {
  const frame = () => new Promise(requestAnimationFrame);
  const times = [];
  for (const value of values) {
    await frame();
    const start = performance.now();
    slider.value = value;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await frame();
    await frame();
    times.push(performance.now() - start);
  }
  return times;
}
"""
WATCH_MENU = """
new MutationObserver((_, self) => {
  if (!document.querySelector("[data-testid=stTopNavLinkContainer], [data-testid=stTopNavLink]")) return;
  window.menuShown = performance.now();
  self.disconnect();
}).observe(document, { childList: true, subtree: true });
"""
PAINTED = """
async () => {
  await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now();
}
"""


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    name: str
    meaning: str
    value: float
    unit: str
    budget: float | None = None

    @property
    def is_kept(self) -> bool:
        """Within its budget, or has none."""
        return self.budget is None or self.value <= self.budget


@dataclass(frozen=True)
class Visitor:
    """A browser and the server it visits."""

    browser: Browser
    address: str

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A page in a browser that has never been here."""
        with self.browser.new_context(viewport={"width": 1400, "height": 1000}) as context:
            context.set_default_timeout(FIRST_LOAD_MS)
            context.add_init_script(WATCH_MENU)
            yield context.new_page()

    def tokens(self, page: Page, run: str, step: int, rollout: int = 0) -> float:
        """Open Tokens; gives milliseconds from the start of the navigation until the tokens were painted."""
        page.goto(f"{self.address}/tokens?run={run}&step={step}&rollout={rollout}", wait_until="commit")
        page.locator(TOKEN).first.wait_for()
        return page.evaluate(PAINTED)


def sliders(visitor: Visitor, length: int) -> Iterator[Figure]:
    """Move ε_w to and fro over two panels of so many tokens; then ask what the page weighs."""
    with visitor.page() as page:
        visitor.tokens(page, f"long-{length}", 1)
        settle(page)
        assert page.locator(TOKEN).count() == 2 * length
        slider: Locator = page.locator("section.credence input[data-slider=eps]")
        values = [(0.05, 0.9, 0.3, 0.7)[i % 4] for i in range(MOVES)]
        times = slider.evaluate(MOVE, values)
        budget = 120.0 if length == LENGTHS[0] else None
        yield Figure(f"slider_to_paint_ms_{length}", f"ε to paint, 2 × {length:,} tokens", _median(times), "ms", budget)
        yield Figure(f"slider_to_paint_max_ms_{length}", f"slowest of {MOVES}, 2 × {length:,}", max(times), "ms")
        metrics = {m["name"]: m["value"] for m in _metrics(page)}
        heap = metrics["JSHeapUsedSize"] / 1e6
        memory = "page_memory_mb" if length == max(LENGTHS) else f"page_memory_mb_{length}"
        yield Figure(memory, f"script memory of the page, 2 × {length:,}", heap, "MB")
        yield Figure(f"page_nodes_{length}", f"nodes of the page, 2 × {length:,}", metrics["Nodes"], "nodes")


def _metrics(page: Page) -> list[dict]:
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    return session.send("Performance.getMetrics")["metrics"]


def _median(times: list[float]) -> float:
    return statistics.median(times)


def first_paint(visitor: Visitor, size: Size) -> Iterator[Figure]:
    """Tokens of a run with very many, at a step nobody has looked at: from Runs, and in a fresh browser."""
    millions = f"{size.tokens / 1e6:g}"
    steps = (size.steps // 5, size.steps // 2, size.steps)
    with visitor.page() as page:
        started = time.perf_counter()
        visitor.tokens(page, "many", 1)
        settle(page, FIRST_LOAD_MS)
        counted = time.perf_counter() - started
        inside = [from_runs(visitor, page, step - 1) for step in steps]
    starts, times = [], []
    for step in steps:
        with visitor.page() as page:
            times.append(visitor.tokens(page, "many", step) / 1000)
            starts.append(page.evaluate("window.menuShown") / 1000)
            settle(page, FIRST_LOAD_MS)
    meaning = f"first paint of Tokens, {millions} M, from Runs"
    yield Figure(f"tokens_first_paint_s_{millions}m", meaning, _median(inside), "s", 2.0)
    meaning = f"the same, {millions} M, in a fresh browser"
    yield Figure(f"tokens_first_visit_s_{millions}m", meaning, _median(times), "s")
    yield Figure("streamlit_start_s", "of it until Streamlit shows its menu", _median(starts), "s")
    yield Figure(f"tokens_counted_s_{millions}m", f"first visit until all of {millions} M are counted", counted, "s")


def from_runs(visitor: Visitor, page: Page, step: int) -> float:
    """Seconds from the button on Runs until the tokens of a step were painted."""
    page.goto(f"{visitor.address}/?runs=many")
    settle(page, FIRST_LOAD_MS)
    number = page.get_by_label("at step")
    number.fill(str(step))
    number.press("Enter")
    settle(page)
    started = page.evaluate("performance.now()")
    page.get_by_role("button", name="Open tokens").click()
    page.locator(TOKEN).first.wait_for()
    return (page.evaluate(PAINTED) - started) / 1000


def curves(visitor: Visitor, runs_dir: Path, size: Size) -> Iterator[Figure]:
    """Refresh the curves as the page does: read the run again, draw again; then the whole way into the browser."""
    many = RunFile("many", runs_dir / "many" / FILE_NAME)
    refresh(many)
    times = []
    for _ in range(MOVES):
        started = time.perf_counter()
        refresh(many)
        times.append(1000 * (time.perf_counter() - started))
    meaning = f"refresh of the curves, {size.steps} steps"
    yield Figure("curve_refresh_ms", meaning, _median(times), "ms", 300.0)
    small = Size(steps=1, rollouts=8 * GROUP, length=100)
    path = write_run(runs_dir / "live", small, status="running")
    with visitor.page() as page:
        page.goto(f"{visitor.address}/?runs=live&seeds=single")
        points = page.locator(".st-key-figure-reward .js-plotly-plot .points path.point")
        points.first.wait_for()
        delays = []
        for step in (2, 3, 4):
            with runfile.writing(path, waiting_for(10)) as connection:
                add_step(connection, small, step)
                runfile.mark(connection, "running", None)
            started = time.perf_counter()
            points.nth(step - 1).wait_for()
            delays.append(time.perf_counter() - started)
    meaning = "a step's commit to its point on the page"
    yield Figure("curve_new_point_s", meaning, _median(delays), "s", 10.0)


def refresh(run: RunFile) -> None:
    """What the server does at every look at a live run."""
    shown = Shown((read_recording(run),))
    for exhibit in EXHIBITS.values():
        if exhibit.is_live:
            exhibit.build(shown, "light")


def show(figures: list[Figure], machine: dict[str, str | float], console: Console) -> None:
    """Print the table."""
    table = Table("measure", "value", "budget", "", title=", ".join(f"{key} {value}" for key, value in machine.items()))
    for figure in figures:
        budget = "" if figure.budget is None else f"≤ {figure.budget:g} {figure.unit}"
        verdict = "" if figure.budget is None else "kept" if figure.is_kept else "MISSED"
        table.add_row(figure.meaning, f"{figure.value:.3g} {figure.unit}", budget, verdict)
    console.print(table)


def measure(size: Size, console: Console) -> tuple[list[Figure], dict[str, str | float]]:
    """Make the runs up, serve them, and measure everything."""
    executable = find_chromium()
    if executable is None:
        raise InputError("no Chromium found; expected chromium, chromium-browser or google-chrome; run `make setup`")
    with tempfile.TemporaryDirectory() as folder:
        runs_dir = Path(folder) / "runs"
        for length in LENGTHS:
            write_run(runs_dir / f"long-{length}", Size(steps=1, rollouts=GROUP, length=length))
        console.print(f"making up a run of {size.tokens:,} tokens")
        write_run(runs_dir / "many", size)
        console.print("measuring")
        with (
            chromium(executable) as browser,
            serving(runs_dir, Path(folder) / "evals", Path(folder) / "log") as address,
        ):
            load = round(os.getloadavg()[0], 1)
            machine = {"cores": os.cpu_count() or 0, "load": load, "Chromium": browser.version}
            visitor = Visitor(browser, address)
            figures = [figure for length in LENGTHS for figure in sliders(visitor, length)]
            figures += first_paint(visitor, size)
            figures += curves(visitor, runs_dir, size)
    return figures, machine


def main() -> int:
    """Measure, print, and tell by the exit status whether every budget was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=25_000_000, help="tokens of the large run")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    console = Console(stderr=arguments.json)
    rollouts = max(GROUP, arguments.tokens // (STEPS * LENGTH) // GROUP * GROUP)
    figures, machine = measure(Size(STEPS, rollouts, LENGTH), console)
    show(figures, machine, console)
    if arguments.json:
        budgets = {figure.name: figure.budget for figure in figures if figure.budget is not None}
        values = {figure.name: round(figure.value, 3) for figure in figures}
        print(json.dumps({"machine": machine, **values, "budgets": budgets}))
    return int(not all(figure.is_kept for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
