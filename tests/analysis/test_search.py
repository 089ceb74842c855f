"""A search finds what it says, in the order it says, in the whole run."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from analysis import tokens
from analysis.search import PRESETS, Search, search
from analysis.store import RunFile, Store
from core.recorder import Recorder

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "core" / "recorder_runs.py")))


@pytest.fixture(scope="module")
def run() -> RunFile:
    """The CEPO run of the example."""
    return Store(Path("no such folder")).files()["example/cepo"]


def test_a_search_finds_what_it_says_in_the_order_it_says(run: RunFile) -> None:
    what = Search(cepo_at_least=0.2, rlsd_at_most=0.1, order="gap")
    found = search(run, what, limit=1000)
    assert found.total == len(found.rows) > 0
    assert (found.rows.log_w_cepo >= 0.2).all()
    assert (found.rows.log_w_rlsd <= 0.1).all()
    gaps = (found.rows.log_w_cepo - found.rows.log_w_rlsd).abs()
    assert gaps.is_monotonic_decreasing
    row = found.rows.iloc[0]
    rollout = tokens.read_rollout(run, int(row.step), int(row.rollout))
    place = int(row.position)
    assert rollout.tokens.pieces[place] == row.token
    assert "".join(rollout.tokens.pieces[max(0, place - 6) : place]) == row.before
    assert "".join(rollout.tokens.pieces[place + 1 : place + 7]) == row.after
    delta = rollout.tokens.log_p_correct[place] - rollout.tokens.log_p_wrong[place]
    assert row.delta_cepo == pytest.approx(float(delta))
    assert row.log_w_cepo == pytest.approx(np.sign(rollout.advantage) * float(delta))


def test_a_search_stops_at_its_limit_and_says_how_many_there_are(run: RunFile) -> None:
    found = search(run, Search(token_class="digit", verdict="right"), limit=5)
    assert len(found.rows) == 5 < found.total
    assert set(found.rows["class"]) == {"digit"}
    assert found.rows.is_correct.all()


@pytest.mark.parametrize("text", ["'; DROP TABLE tokens; --", "%", "_", "\\"])
def test_text_is_looked_for_as_it_is(run: RunFile, text: str) -> None:
    found = search(run, Search(text=text))
    assert all(text in token for token in found.rows.get("token", []))
    assert tokens.evidence_counts(run)["wrong"].n.sum() > 0


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_question_that_can_be_asked(run: RunFile, name: str) -> None:
    assert search(run, PRESETS[name], limit=3).total >= 0


def test_evidence_that_is_no_number_is_found_nowhere(tmp_path: Path) -> None:
    record = runs.step_record(1)
    for name in ("log_p_correct", "log_p_wrong"):
        getattr(record.tokens, name)[:50] = -np.inf
    with Recorder.create(tmp_path / "a", runs.run_row(), runs.VOCABULARY) as recorder:
        recorder.write(record)
    found = search(RunFile("a", tmp_path / "a" / "run.duckdb"), Search(order="cepo"), limit=200)
    assert found.total == 200
    assert np.isfinite(found.rows.log_w_cepo[:150]).all()
    assert found.rows.log_w_cepo[150:].isna().all()
    assert found.rows.rollout[150:].eq(0).all()
