"""Evidence by kind of token: sums by hand and against other counts of the same run; what is shown of them."""

import dataclasses
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pandas as pd
import pytest

from analysis.evidence import COLUMNS, evidence_runs, pooled, read_evidence, token_kinds
from analysis.figures import evidence as figures
from analysis.figures.panels import plotted, traces
from analysis.recorded import RecordedStudy
from analysis.store import RunFile, Store
from analysis.tables.evidence import class_table, clip_rates
from analysis.tokens import CLASSES, evidence_counts
from core.errors import InputError
from core.recorder import Recorder

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "core" / "recorder_runs.py")))
made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_study.py"))))
EXAMPLES = Store(Path("no such folder")).files()
CHAIN = "I see 4. Both are equal: x=4. x is \\boxed{4}"


@pytest.fixture(scope="module")
def evidence() -> dict[str, pd.DataFrame]:
    """Of two example runs."""
    return {method: read_evidence(EXAMPLES[f"example/{method}"]) for method in ("cepo", "grpo")}


@pytest.fixture(scope="module")
def study(evidence: dict[str, pd.DataFrame]) -> RecordedStudy:
    """A study in which two of the five methods have evidence."""
    made = made_up.made_up_study(n_problems=1)
    parts = [rows.assign(run_id=made.run_ids("evidence", method)[0]) for method, rows in evidence.items()]
    return dataclasses.replace(made, evidence=pd.concat(parts, ignore_index=True))


def recorded(folder: Path, *, fallback: bool = False, **columns: list[float]) -> RunFile:
    """A run of one step with two rollouts of two tokens, a digit and a format token each, A = 1 and A = −1."""
    record = runs.step_record(1, n_rollouts=2, length=2)
    given = {
        "token_id": [0, 1, 0, 1],
        "log_p_student": [-1, -1, -2, -1],
        "log_p_correct": [-0.5, -1.5, -1, -1],
        "log_p_wrong": [-2, -0.5, -1, -3],
    } | columns
    for name, values in given.items():
        kind = np.int64 if name == "token_id" else np.float32
        object.__setattr__(record.tokens, name, None if values is None else np.array(values, kind))
    groups = [dataclasses.replace(group, fallback=fallback) for group in record.groups]
    with Recorder.create(folder, runs.run_row(), runs.VOCABULARY) as recorder:
        recorder.write(dataclasses.replace(record, groups=groups))
    return RunFile("a", folder / "run.duckdb")


def test_sums_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    rows = read_evidence(recorded(tmp_path / "a")).set_index(["sign", "kind"])
    assert rows.index.tolist() == [(-1, "digit"), (-1, "format"), (1, "digit"), (1, "format")]
    assert rows[["step", "n", "n_rlsd", "n_cepo", "n_contrast"]].to_numpy().tolist() == [[1, 1, 1, 1, 1]] * 4

    def column(name: str) -> list[float]:
        return rows[name].tolist()

    assert column("delta_rlsd") == [1, 0, 0.5, -0.5]
    assert column("delta_cepo") == [0, 2, 1.5, -1]
    assert column("abs_delta_cepo") == [0, 2, 1.5, 1]
    assert (column("positive_cepo"), column("negative_cepo")) == ([0, 1, 1, 0], [0, 0, 0, 1])
    # w = exp(sign(A)·Δ): e^−1, 1, e^0.5 = 1.65, e^−0.5 = 0.61 for RLSD; 1, e^−2, e^1.5, e^−1 for CEPO
    assert (column("clipped_low_rlsd"), column("clipped_high_rlsd")) == ([1, 0, 0, 0], [0, 0, 1, 0])
    assert (column("clipped_low_cepo"), column("clipped_high_cepo")) == ([0, 1, 0, 1], [0, 0, 1, 0])
    assert column("weight_rlsd") == pytest.approx([0.5, 1, 1.5, np.exp(-0.5)], abs=1e-6)
    assert column("weight_cepo") == pytest.approx([1, 0.5, 1.5, 0.5], abs=1e-6)
    # A < 0: P_T⁻ > P_S at the digit, where RLSD's weight is below 1; A > 0: P_T⁻ < P_S at the digit, where it is not
    assert (column("sharper"), column("joint")) == ([1, 0, 1, 0], [0, 0, 1, 0])
    assert column("sharper_by") == [1, 0, 1, 0]


def test_groups_and_rollouts_without_a_hint_prove_nothing_about_sharpness(tmp_path: Path) -> None:
    alone = read_evidence(recorded(tmp_path / "a", fallback=True))
    assert (alone["n"].sum(), alone["n_contrast"].sum(), alone["sharper"].sum()) == (4, 0, 0)
    # the first rollout was its group's only source of r⁻ and kept the student's log-probabilities
    own = read_evidence(recorded(tmp_path / "b", log_p_wrong=[-1, -1, -1, -3]))
    assert own.groupby("sign")["n_contrast"].sum().to_dict() == {-1: 2, 1: 0}


def test_a_delta_that_one_teacher_has_not_made_is_not_counted(tmp_path: Path) -> None:
    rows = read_evidence(recorded(tmp_path / "a", log_p_wrong=[np.nan, np.nan, -1, -3]))
    assert (rows["n"].sum(), rows["n_rlsd"].sum(), rows["n_cepo"].sum(), rows["n_contrast"].sum()) == (4, 4, 2, 2)
    assert rows.loc[rows["sign"] == 1, "weight_cepo"].tolist() == [0, 0]
    nothing = read_evidence(recorded(tmp_path / "b", log_p_correct=None, log_p_wrong=None))
    assert (list(nothing.columns), len(nothing)) == (list(COLUMNS), 0)


@pytest.mark.parametrize("method", ["cepo", "grpo"])
def test_kinds_together_are_the_counts_of_the_whole_run(method: str, evidence: dict[str, pd.DataFrame]) -> None:
    rows, counts = evidence[method], evidence_counts(EXAMPLES[f"example/{method}"])
    for name, against in (("rlsd", "student"), ("cepo", "wrong")):
        known = counts[against]
        for column in ("n", "positive", "negative"):
            assert rows[f"{column}_{name}"].sum() == getattr(known, column).sum() > 0
        assert rows[f"delta_{name}"].sum() == pytest.approx(known.sum_delta.sum(), rel=1e-9)
        assert rows[f"abs_delta_{name}"].sum() == pytest.approx(known.sum_abs_delta.sum(), rel=1e-9)


def test_what_is_clipped_is_what_training_clipped(evidence: dict[str, pd.DataFrame]) -> None:
    recorded_counts = EXAMPLES["example/cepo"].frame(
        "SELECT step, sum(n_clip_low)::INTEGER AS low, sum(n_clip_high)::INTEGER AS high FROM rollouts "
        "WHERE advantage <> 0 GROUP BY step ORDER BY step"
    )
    steps = evidence["cepo"].groupby("step")[["clipped_low_cepo", "clipped_high_cepo"]].sum()
    assert steps.reset_index().to_numpy().tolist() == recorded_counts.to_numpy().tolist()


def test_where_problems_are_no_pocket_problems_the_kinds_are_the_recorded_classes(tmp_path: Path) -> None:
    path = tmp_path / "run.duckdb"
    shutil.copy(EXAMPLES["example/cepo"].path, path)
    with duckdb.connect(path) as connection:
        connection.execute("UPDATE run SET problems = 'geo3k'")
        connection.execute("UPDATE vocabulary SET token_class = 'stranger' WHERE token_class = 'operator'")
    run = RunFile("a", path)
    rows, counts = read_evidence(run), evidence_counts(run)["wrong"]
    known = {name: n for name, n in zip(CLASSES, counts.n, strict=True) if n}
    assert rows.groupby("kind")["n_cepo"].sum().to_dict() == known
    assert "operator" not in known


def test_a_character_is_what_it_does_and_special_tokens_are_no_characters() -> None:
    kinds = token_kinds(CHAIN, False, ["word"] * len(CHAIN) + ["special"], "here")
    assert (len(kinds), kinds[-1]) == (len(CHAIN) + 1, "end")
    assert [i for i, kind in enumerate(kinds) if kind == "rule"] == [CHAIN.index("are")]
    assert token_kinds(CHAIN, True, ["word"] * len(CHAIN), "here") == kinds[:-1]
    split = token_kinds(CHAIN, False, ["word", "special", *["word"] * (len(CHAIN) - 1), "special"], "here")
    assert split == (kinds[0], "special", *kinds[1:])


@pytest.mark.parametrize(
    ("truncated", "classes"),
    [
        (False, ["word"] * len(CHAIN)),
        (True, ["word"] * (len(CHAIN) - 1)),
        (False, ["special", *["word"] * len(CHAIN)]),
        (False, []),
    ],
)
def test_tokens_that_are_not_the_responses_characters_are_refused(truncated: bool, classes: list[str]) -> None:
    with pytest.raises(InputError, match=f"here: expected a token for each of the response's {len(CHAIN)} characters"):
        token_kinds(CHAIN, truncated, classes, "here")


def test_a_mean_over_tokens_has_an_interval_over_steps() -> None:
    rows = pd.DataFrame({"run_id": "a", "step": [1, 1, 2], "of": [1, 1, 6], "n": [2, 2, 4]})
    value = pooled(rows, "of", "n")
    # steps lie 2 below and above their expected 4: s.e. √(2/1 · 8) / 8 = 0.5, t(1) = 12.706
    assert (value.estimate, value.half_width) == pytest.approx((1, 12.706 * 0.5), rel=1e-4)
    one = pooled(rows.loc[rows["step"] == 1], "of", "n")
    assert one.estimate == 0.5
    assert np.isnan([one.low, one.high]).all()
    assert np.isnan(pooled(rows.assign(of=rows["n"]), "of", "n").low)
    assert np.isnan(pooled(rows.assign(n=0), "of", "n").estimate)


def test_only_runs_of_the_evidence_group_are_shown_and_cepo_comes_first(study: RecordedStudy) -> None:
    assert list(evidence_runs(study)) == ["cepo", "grpo"]
    elsewhere = study.evidence.assign(run_id=study.run_ids("methods", "cepo")[0])
    assert evidence_runs(dataclasses.replace(study, evidence=elsewhere)) == {}


def test_a_dot_is_the_mean_of_its_kind_and_a_method_has_a_panel(study: RecordedStudy) -> None:
    figure = figures.token_kinds(study)
    rows = evidence_runs(study)["grpo"]
    kinds = figures.kinds_of(rows)
    assert (kinds[0], kinds[-1]) == ("rule", "filler")
    points = plotted(figure)
    assert points["panel"].unique().tolist() == [figures.whose(m, rows) for m, rows in evidence_runs(study).items()]
    drawn = points.loc[(points["panel"] == figures.whose("grpo", rows)) & (points["series"] == "CEPO's Δ")]
    sums = rows.groupby("kind")[["abs_delta_cepo", "n_cepo"]].sum()
    assert drawn["x"].tolist() == pytest.approx((sums["abs_delta_cepo"] / sums["n_cepo"]).loc[kinds].tolist())
    assert figure.layout.title.text.endswith("not recorded: OPSD, SDPO, RLSD")
    assert f"<b>choice of rule</b> ({sums.n_cepo['rule']})" in figure.layout.yaxis2.ticktext


def test_the_sharpening_of_all_kinds_is_all_of_it(study: RecordedStudy) -> None:
    points = plotted(figures.proposition1(study))
    last = points.loc[points["panel"] == "where log w rises"]
    assert last.groupby("series")["x"].sum().tolist() == pytest.approx([100, 100])
    shares = points.loc[points["panel"] == figures.CONDITIONS[1]].groupby("series")["x"].first()
    rule = study.evidence.query("run_id == @study.run_ids('evidence', 'cepo')[0] and kind == 'rule' and sign == 1")
    of = 100 / rule["n_contrast"].sum()
    assert sorted(shares) == pytest.approx(sorted([of * rule["sharper"].sum(), of * rule["joint"].sum()]))


@pytest.mark.parametrize("build", [figures.token_kinds, figures.proposition1])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_study_without_evidence_says_so(study: RecordedStudy, build, theme) -> None:
    figure = build(dataclasses.replace(study, evidence=made_up.NO_EVIDENCE), theme)
    assert traces(figure) == ()
    assert figure.layout.annotations[0].text == figures.NOTHING


def test_the_table_of_kinds_adds_up_and_says_what_it_is(study: RecordedStudy) -> None:
    table = class_table(study)
    cells = table.cells.set_index("kind of token")
    counts = cells["tokens"].str.replace(",", "").astype(int)
    assert counts["decisive together"] == counts["choice of rule"] + counts["digit of a result"]
    assert counts.drop(["all", "decisive together"]).sum() == counts["all"] > 10_000
    assert "trained by CEPO (n = 1 run, seed 0; 12 steps)" in table.caption
    assert "it says nothing about other runs" in table.caption
    rows = evidence_runs(study)["cepo"]
    of = [rows.loc[rows["kind"].isin(kinds)] for kinds in (("rule", "result_digit"), ("filler",))]
    decisive, filler = (part["abs_delta_cepo"].sum() / part["n_cepo"].sum() for part in of)
    assert f"{decisive / filler:.2g} times (CEPO) that at filler" in table.caption


def test_clip_rates_stand_beside_the_papers_and_name_what_is_missing(study: RecordedStudy) -> None:
    table = clip_rates(study)
    cells = table.cells.set_index("trained by")
    assert [name.split(" (")[0] for name in cells.index] == ["CEPO", "GRPO", "paper, one rollout"]
    assert cells.loc["paper, one rollout"].tolist() == ["–", "71.3 %", "49.5 %", "−21.8"]
    low, high, n = (evidence_runs(study)["cepo"][f"{c}_cepo"].sum() for c in ("clipped_low", "clipped_high", "n"))
    text = cells["clipped, CEPO"].iloc[0]
    assert text.startswith(f"{100 * (low + high) / n:.2f} ± ")
    assert f"(↓ {100 * low / n:.2f}, ↑ {100 * high / n:.2f})" in text
    assert table.caption.endswith("Not recorded: OPSD, SDPO, RLSD.")


def test_tables_of_a_study_without_evidence_are_no_crash(study: RecordedStudy) -> None:
    empty = dataclasses.replace(study, evidence=made_up.NO_EVIDENCE)
    assert figures.NOTHING in class_table(empty).caption
    assert clip_rates(empty).cells["trained by"].tolist() == ["paper, one rollout"]
