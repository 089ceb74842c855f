"""The Runs page in a browser: what is there, what is missing or broken, and what is being trained right now."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from benchmarks.browser import settle

pytestmark = pytest.mark.xdist_group("browser")

RUN_FILES = Path(__file__).with_name("run_files.py")
HOLD = """
import duckdb, sys
with duckdb.connect(sys.argv[1]) as connection:
    connection.execute("UPDATE run SET heartbeat_at = heartbeat_at + INTERVAL 1 SECOND")
    connection.execute("CHECKPOINT")
    print("held", flush=True)
    sys.stdin.read()
"""
FIGURE = ".st-key-figure-accuracy"


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Another program that talks line by line; ended with its standard input."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, *command], **pipes) as started:
        assert started.stdin
        yield started
        started.stdin.close()


def heard(started: subprocess.Popen[str]) -> str:
    """The next line it says."""
    assert started.stdout
    return started.stdout.readline().strip()


def row(page: Page, run: str) -> Locator:
    """A run's row of the table, or that of the seeds it stands first in."""
    table = page.get_by_role("region", name="runs shown").first
    name = re.compile(rf"^\S {run}( and \d+ more)?$")
    return table.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name))


def points(page: Page, figure: str = FIGURE) -> Locator:
    """The points of a figure."""
    return page.locator(f"{figure} .js-plotly-plot .scatterlayer .points path.point")


@pytest.fixture
def no_runs(workbench) -> Iterator[None]:
    """For a while the folder of runs is empty."""
    away = workbench.runs_dir.with_name("away")
    workbench.runs_dir.rename(away)
    workbench.runs_dir.mkdir()
    yield
    workbench.runs_dir.rmdir()
    away.rename(workbench.runs_dir)


def test_runs_empty(workbench, page, no_runs):
    workbench.open(page, "")
    expect(page.get_by_text("No runs yet.")).to_be_visible()
    expect(page.get_by_text("python -m core.train")).to_be_visible()
    expect(page.get_by_text(f"Searched: {workbench.runs_dir}/*/run.duckdb")).to_be_visible()


def test_runs_bad_schema(workbench, page):
    workbench.open(page, "", runs="cepo,rlsd")
    expect(page.get_by_text("4 files could not be read; all others are shown.")).to_be_visible()
    for name, reason in (
        ("newer", "has schema 99, this Credence reads up to"),
        ("foreign", "is not a run file: it has no table run"),
        ("damaged", "cannot be read as a run file"),
        ("spying", "is not a run file: column groups."),
    ):
        expect(page.locator("code").filter(has_text=f"/{name}/run.duckdb").filter(has_text=reason)).to_be_visible()
    expect(page.locator("body")).not_to_contain_text("root:x:0")
    expect(row(page, "cepo")).to_contain_text("finished")
    expect(points(page).first).to_be_visible()


def test_runs_locked(workbench, page):
    path = workbench.runs_dir / "rlsd" / "run.duckdb"
    workbench.open(page, "", runs="rlsd")
    shown = 5
    expect(points(page), "validation at steps 0 to 4").to_have_count(shown)
    with process("-c", HOLD, str(path)) as writer:
        assert heard(writer) == "held"
        along = page.get_by_role("radiogroup", name="Along x")
        along.get_by_text("tokens").click()
        expect(page.get_by_text("The trainer is writing; what was read last is shown.")).to_be_visible(timeout=40_000)
        settle(page)
        expect(points(page)).to_have_count(shown)
        expect(row(page, "rlsd")).to_contain_text("4/4")
    along.get_by_text("steps").click()
    expect(page.get_by_text("The trainer is writing")).to_have_count(0, timeout=20_000)
    expect(points(page)).to_have_count(shown)


def test_runs_live(workbench, page, made_up):
    folder = workbench.runs_dir / "live"
    with process(str(RUN_FILES), str(folder)) as trainer:
        assert heard(trainer) == "1"
        workbench.open(page, "", runs="live")
        expect(page.get_by_text("● live")).to_be_visible()
        expect(row(page, "live")).to_contain_text("1/40")
        expect(row(page, "live")).to_contain_text("● running")
        expect(points(page)).to_have_count(2)
        assert trainer.stdin
        trainer.stdin.write("\n")
        trainer.stdin.flush()
        assert heard(trainer) == "2"
        expect(points(page)).to_have_count(3, timeout=10_000)
        expect(row(page, "live")).to_contain_text("2/40")
        expect(row(page, "live")).to_contain_text("☑")
        trainer.kill()
    made_up.abandon(folder / "run.duckdb", minutes=5)
    expect(row(page, "live")).to_contain_text("▲ stale, silent for 5 min")
    expect(page.get_by_text("● live")).to_have_count(0)
    expect(page.get_by_text("No sign of life for 5 min after step 2")).to_be_visible()
    page.close()
    shutil.rmtree(folder)


def test_a_run_left_by_its_trainer_is_stale(workbench, page):
    workbench.open(page, "", runs="stale", seeds="single")
    expect(row(page, "stale")).to_contain_text("▲ stale, silent for")
    expect(page.get_by_text("No sign of life for")).to_contain_text("after step 4")


def test_a_run_without_teachers_says_so_in_its_figures(workbench, page):
    workbench.open(page, "", runs="blind")
    expect(row(page, "blind")).to_contain_text("GRPO")
    expect(page.get_by_role("figure", name=re.compile("no evidence", re.I)).first).to_be_visible()


def test_curve_click_opens_tokens(workbench, page):
    workbench.open(page, "", runs="cepo")
    point = points(page).nth(3)
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page).to_have_url(re.compile(r"/tokens\?.*\brun=cepo\b"))
    expect(page).to_have_url(re.compile(r"[?&]step=3\b"))
    settle(page)
    expect(page.locator("section.credence span.t").first).to_be_visible()


def test_the_button_opens_tokens_too(workbench, page):
    workbench.open(page, "", runs="rlsd")
    page.get_by_label("at step").fill("2")
    page.get_by_label("at step").press("Enter")
    settle(page)
    page.get_by_role("button", name="Open tokens").click()
    expect(page).to_have_url(re.compile(r"/tokens\?.*\brun=rlsd\b"))
    expect(page).to_have_url(re.compile(r"[?&]step=2\b"))


def test_unknown_names_in_the_address_leave_a_notice_and_a_page(workbench, page):
    workbench.open(page, "", runs="nobody,cepo", x="parsecs", tau="-1")
    expect(page.get_by_text("The address names 1 run that is not among the runs found here")).to_be_visible()
    expect(page.get_by_text("The address names no usable “x”")).to_be_visible()
    expect(page.get_by_text("The address names no usable “tau”")).to_be_visible()
    expect(points(page).first).to_be_visible()


def test_three_seeds_are_one_curve_with_its_interval(workbench, page):
    workbench.open(page, "", runs="cepo,cepo-1,cepo-2")
    expect(points(page)).to_have_count(5)
    expect(page.locator(FIGURE)).to_contain_text(re.compile("3 seeds"))
