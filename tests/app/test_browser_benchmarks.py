"""The Benchmarks page in a browser: own evaluations, the paper's numbers, and what is taken away from them."""

import csv
import re
from pathlib import Path

import duckdb
import pytest
from playwright.sync_api import Page, expect

from benchmarks.browser import settle

pytestmark = pytest.mark.xdist_group("browser")

CELL = re.compile(r"[\d.]+ ± [\d.]+ ?[†▲]*")


def table(page: Page) -> tuple[dict[str, dict[str, str]], set[tuple[str, str]]]:
    """The cells of the main table by method and column, and which of them are bold."""
    found = page.get_by_role("region", name="Accuracy in percent").locator("table")
    expect(found).to_be_visible()
    columns = found.locator("thead th").all_inner_texts()
    cells, bold = {}, set()
    for row in found.locator("tbody tr").all():
        texts = [text.strip() for text in row.locator("th, td").all_inner_texts()]
        cells[texts[0]] = dict(zip(columns, texts, strict=True))
        strong = row.locator("th, td").evaluate_all("cells => cells.map(c => c.querySelector('strong') !== null)")
        bold |= {(texts[0], column) for column, is_bold in zip(columns, strong, strict=True) if is_bold}
    return cells, bold


def download(page: Page, name: str) -> str:
    """What a button gives."""
    with page.expect_download() as saved:
        page.get_by_role("button", name=name, exact=True).click()
    return Path(saved.value.path()).read_text(encoding="utf-8-sig")


def test_benchmarks(workbench, page):
    workbench.open(page, "benchmarks", baseline="GRPO")
    cells, bold = table(page)
    with duckdb.connect(workbench.evals_dir / "cepo" / "eval.duckdb", read_only=True) as connection:
        query = "SELECT avg(score) FROM items GROUP BY task ORDER BY task"
        means = [100 * mean for (mean,) in connection.execute(query).fetchall()]
    tasks = ["DynaMath", "LogicVista", "MathVision-mini", "MMMU", "WeMath"]
    shown = {name.casefold(): text for name, text in cells["CEPO"].items()}
    for task, mean in zip(tasks, means, strict=True):
        text = next(value for name, value in shown.items() if name.startswith(task.casefold()[:5]))
        assert text.startswith(f"{mean:.2f} ±"), task
    assert shown["average"].startswith(f"{sum(means) / 5:.2f} ±")
    for column in [name for name in cells["CEPO"] if f"{name} x"[:3].casefold() in {"dyn", "log", "mat", "mmm", "wem"}]:
        scores = {method: float(row[column].split(" ")[0]) for method, row in cells.items() if "±" in row[column]}
        assert (max(scores, key=scores.__getitem__), column) in bold, "the best is in the top group"
    assert ("CEPO", "Average") in bold
    assert ("Base", "Average") not in bold, "16 points below on 720 items is no tie"
    assert all(CELL.fullmatch(cells[method][column]) for method, column in bold)
    expect(page.get_by_text(re.compile(r"CEPO cannot be told apart from GRPO on \d of 5 benchmarks"))).to_be_visible()
    unfinished = next(row for name, row in cells.items() if name.startswith("SDPO"))
    assert unfinished["Average"] == "3/5 tasks"
    expect(page.get_by_text("An evaluation cannot be read; the others are shown.")).to_be_visible()

    latex = download(page, "LaTeX")
    body = [line for line in latex.splitlines() if line.rstrip().endswith(r"\\")]
    assert len({line.count("&") - line.count(r"\&") for line in body}) == 1
    assert latex.count("{") - latex.count(r"\{") == latex.count("}") - latex.count(r"\}")
    assert re.search(r"\\toprule.*\\midrule.*\\bottomrule", latex, re.S)
    assert r"\textbf{" in latex
    assert "<script" not in latex
    assert download(page, "Markdown").count("| ") > 10
    rows = list(csv.DictReader(download(page, "CSV").splitlines()))
    assert {row["label"] for row in rows} >= {"Base", "GRPO", "RLSD", "CEPO"}


def test_the_papers_wrong_average_is_marked(workbench, page):
    workbench.open(page, "benchmarks", model="paper-2b")
    cells, _ = table(page)
    assert cells["RLSD"]["Average"].startswith("40.05")
    assert "▲" in cells["RLSD"]["Average"]
    expect(page.get_by_text("printed 40.05, but the mean of its row is 40.97")).to_be_visible()
    expect(page.get_by_text("As the paper prints it")).not_to_have_count(0)


def test_a_choice_stands_in_the_address_and_a_wrong_one_gets_a_notice(workbench, page):
    workbench.open(page, "benchmarks", baseline="nobody", pm="sideways")
    expect(page.get_by_text("The address names no usable “baseline”")).to_be_visible()
    expect(page.get_by_text("The address names no usable “pm”")).to_be_visible()
    page.get_by_role("combobox", name="±").click()
    page.get_by_role("option", name="95 % interval").click()
    expect(page).to_have_url(re.compile(r"[?&]pm=ci\b"))
    settle(page)
    expect(page.get_by_text("half-width of a 95 % interval").first).to_be_visible()


def test_a_training_run_opens_its_tokens(workbench, page):
    workbench.open(page, "benchmarks")
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    page.get_by_text("Where these numbers come from").click()
    page.get_by_text("Training run cepo", exact=True).wait_for()
    # by key: a figure drawn late moves what stands below it, and with it the place where a pointer lets go
    page.get_by_role("link", name="Open its tokens").last.press("Enter")
    expect(page).to_have_url(re.compile(r"/tokens\?.*\brun=cepo\b"))
    settle(page)
    expect(page.locator("section.credence .body span.t").first).to_be_visible()
