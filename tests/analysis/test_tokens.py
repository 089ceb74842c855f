"""Tokens of a run file: one rollout, a search over all, and counts of evidence, held against the record itself."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pytest

from analysis import tokens
from analysis.search import Search, search
from analysis.store import RunFile, Store
from analysis.tokens import Scope
from core.errors import InputError
from core.histogram import log_weight_histogram
from core.recorder import Recorder

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "core" / "recorder_runs.py")))


@pytest.fixture(scope="module")
def run() -> RunFile:
    """The CEPO run of the example."""
    return Store(Path("no such folder")).files()["example/cepo"]


def test_a_rollout_carries_its_problem_its_hints_and_its_tokens(run: RunFile) -> None:
    rollout = tokens.read_rollout(run, 1, 3)
    assert (rollout.step, rollout.index, rollout.count) == (1, 3, 32)
    assert rollout.image is not None
    assert rollout.image.startswith(b"\x89PNG")
    assert rollout.response == "".join(rollout.tokens.pieces[:-1])
    assert len(rollout.group) == 8
    assert rollout.hint_correct == rollout.true_answer
    assert rollout.tokens.position.tolist() == list(range(len(rollout.tokens)))
    told = rollout.tokens.log_p_correct - rollout.tokens.log_p_wrong
    assert np.array_equal(rollout.tokens.delta, told) or rollout.fallback or rollout.advantage == 0


def test_rollouts_are_numbered_as_the_list_of_the_step_numbers_them(run: RunFile) -> None:
    listed = tokens.rollout_list(run, 2)
    for index in (0, 9, 31):
        rollout = tokens.read_rollout(run, 2, index)
        row = listed.iloc[index]
        assert (row.rollout, row.group, row.advantage) == (index, rollout.group_id, rollout.advantage)
        assert row.max_cepo == pytest.approx(
            np.nanmax(np.abs(rollout.tokens.log_p_correct - rollout.tokens.log_p_wrong)), abs=1e-6
        )


def test_a_rollout_that_is_not_there_gives_the_nearest_that_is(run: RunFile) -> None:
    assert tokens.read_rollout(run, 1, 99).index == 31
    with pytest.raises(InputError, match=r"step 99 of .* holds no rollouts; choose another step"):
        tokens.read_rollout(run, 99)


def test_a_step_opens_at_the_right_rollout_with_the_strongest_evidence(run: RunFile) -> None:
    listed = tokens.rollout_list(run, 1)
    chosen = listed.iloc[tokens.strongest(listed)]
    rivals = listed[listed.is_correct & (listed.advantage != 0) & ~listed.fallback]
    assert tokens.read_rollout(run, 1).index == chosen.rollout
    assert chosen.is_correct
    assert chosen.max_cepo == rivals.max_cepo.max()
    wrong_only = listed.assign(is_correct=False)
    assert tokens.strongest(wrong_only) == wrong_only[wrong_only.advantage != 0].max_cepo.idxmax()
    assert tokens.strongest(listed.assign(advantage=0.0)) == 0


@pytest.mark.parametrize("method", ["cepo", "rlsd"])
def test_counts_of_a_whole_run_are_the_histograms_its_steps_recorded(method: str) -> None:
    run = Store(Path("no such folder")).files()[f"example/{method}"]
    counts = tokens.evidence_counts(run)["wrong" if method == "cepo" else "student"]
    assert np.array_equal(counts.histogram.sum(0), run.log_weight_histogram())
    assert counts.n.sum() == counts.histogram.sum() > 0


def test_counts_of_a_rollout_are_those_of_its_tokens(run: RunFile) -> None:
    index = tokens.strongest(tokens.rollout_list(run, 1))
    rollout = tokens.read_rollout(run, 1, index)
    counts = tokens.evidence_counts(run, Scope(1, rollout.group_id, rollout.rollout_id))["wrong"]
    delta = rollout.tokens.log_p_correct - rollout.tokens.log_p_wrong
    assert np.array_equal(counts.histogram.sum(0), log_weight_histogram(np.sign(rollout.advantage) * delta))
    for i, name in enumerate(tokens.CLASSES):
        own = delta[np.array(rollout.tokens.classes) == name]
        assert counts.n[i] == len(own)
        assert counts.positive[i] == (own > 0).sum()
        assert counts.negative[i] == (own < 0).sum()
        assert counts.sum_delta[i] == pytest.approx(own.sum(), abs=1e-5)
        assert counts.sum_abs_delta[i] == pytest.approx(np.abs(own).sum(), abs=1e-5)


def test_rollouts_without_advantage_are_not_counted(run: RunFile) -> None:
    listed = tokens.rollout_list(run, 1)
    tokens_of_step = listed[listed.advantage != 0].n_tokens.sum()
    assert tokens.evidence_counts(run, Scope(1))["wrong"].n.sum() == tokens_of_step


def test_a_run_without_evidence_has_none_to_count_and_nothing_to_find(tmp_path: Path) -> None:
    record = runs.step_record(1)
    for name in ("log_p_correct", "log_p_wrong"):
        object.__setattr__(record.tokens, name, None)
    with Recorder.create(tmp_path / "a", runs.run_row("grpo"), runs.VOCABULARY) as recorder:
        recorder.write(record)
    run = RunFile("a", tmp_path / "a" / "run.duckdb")
    assert tokens.evidence_counts(run)["wrong"].n.sum() == 0
    assert search(run, Search()).total == 0
    assert tokens.rollout_list(run, 1).max_cepo.isna().all()
    assert np.isnan(tokens.read_rollout(run, 1, 0).tokens.log_p_wrong).all()


def test_a_rollout_whose_group_is_missing_is_told_in_one_line(tmp_path: Path) -> None:
    with Recorder.create(tmp_path / "a", runs.run_row(), runs.VOCABULARY) as recorder:
        recorder.write(runs.step_record(1))
    path = tmp_path / "a" / "run.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute("DELETE FROM groups")
    with pytest.raises(InputError, match="has rollouts without a group or step; record the run again"):
        tokens.read_rollout(RunFile("a", path), 1, 0)
