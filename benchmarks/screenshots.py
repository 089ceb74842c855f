"""Take README's pictures of the workbench: `python -m benchmarks.screenshots --runs-dir runs [--out docs]`.

The pages in light and dark, in a headless Chromium, over the runs and evaluations of two folders; Tokens at the token
that a search of the first CEPO run for "decisive in CEPO, filler in RLSD" puts first.
"""

import argparse
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser

from analysis.search import PRESETS, search
from analysis.store import RunFile, Store
from app.exports import find_chromium
from benchmarks.browser import chromium, serving, settle
from core.errors import InputError

WIDTH = 1280
HEIGHTS = {"runs": 1180, "tokens": 900, "benchmarks": 1240}


def decisive(run: RunFile) -> dict[str, str]:
    """The address of the token that the first preset finds first."""
    found = search(run, PRESETS["decisive in CEPO, filler in RLSD"], limit=1).rows
    if found.empty:
        raise InputError(f"{run.path}: no token is decisive in CEPO and filler in RLSD; take another run")
    row = found.iloc[0]
    return {"run": run.key, "step": str(row.step), "rollout": str(row.rollout), "tok": str(row.position)}


def take(browser: Browser, address: str, page_name: str, query: dict[str, str], theme: str, out: Path) -> None:
    """One picture."""
    context = browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHTS[page_name]}, color_scheme="dark" if theme == "dark" else "light"
    )
    page = context.new_page()
    path = "" if page_name == "runs" else page_name  # Runs is where the workbench opens
    page.goto(f"{address}/{path}?{urlencode(query)}")
    settle(page)
    page.wait_for_timeout(1500)  # figures fade in
    page.screenshot(path=out / f"{page_name}-{theme}.png")
    context.close()


def main() -> None:
    """Write two pictures a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--evals-dir", type=Path, default=Path("evals"))
    parser.add_argument("--pages", nargs="+", choices=list(HEIGHTS), default=list(HEIGHTS))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    arguments = parser.parse_args()
    executable = find_chromium()
    if executable is None:
        raise SystemExit("no Chromium or Chrome was found; install one (make setup does where it can)")
    run = next(run for run in Store(arguments.runs_dir).files().values() if run.info().method == "cepo")
    queries = {"runs": {}, "tokens": decisive(run), "benchmarks": {}}
    queries = {page_name: queries[page_name] for page_name in arguments.pages}
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(arguments.runs_dir, arguments.evals_dir, Path(folder) / "log") as address,
        chromium(executable) as browser,
    ):
        for page_name, query in queries.items():
            for theme in ("light", "dark"):
                take(browser, address, page_name, query, theme, arguments.out)


if __name__ == "__main__":
    main()
