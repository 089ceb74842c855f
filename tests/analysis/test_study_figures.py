"""The study's figures by their numbers: what stands where, beside which of the paper's, and what is missing."""

import dataclasses
import math
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest

from analysis.figures import study_curves, study_dots, study_sweeps
from analysis.figures.panels import alternative, plotted, traces
from analysis.gains import gains
from analysis.recorded import RecordedStudy
from analysis.reported import reported
from analysis.style import LOOKS

made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_study.py"))))
FIGURES: dict[str, Callable[..., go.Figure]] = {
    name: getattr(module, name) for module in (study_curves, study_dots, study_sweeps) for name in module.CAPTIONS
}
PAPER, SINGLE = "CEPO, the paper", "single seeds"


@pytest.fixture(scope="module")
def study() -> RecordedStudy:
    """GRPO 0.7 and CEPO's arms 0.675 after training, of 40 problems, but for some that a test asks about."""
    made = made_up.made_up_study(told_gain={"opsd": 0.25})
    uneven = {
        ("lambda_constant", "0.25"): (28, 30, 32), ("presets", "rlsd_released"): (20, 20, 20),
        ("deviations", "blind_teachers"): (31, 31, 31), ("teacher_source_constant", "every_5"): (32, 32, 32),
    }  # fmt: skip
    return probed_seldom(with_right(made, uneven))


def with_right(study: RecordedStudy, right: Mapping[tuple[str, str], tuple[int, ...]]) -> RecordedStudy:
    """The study in which the seeds of some arms have so many of 40 problems right at the end."""
    validation = study.validation.reset_index(drop=True)
    for (group, arm), numbers in right.items():
        for run_id, number in zip(study.run_ids(group, arm), numbers, strict=True):
            rows = (validation["run_id"] == run_id) & (validation["step"] == 30)
            validation.loc[rows, "is_correct"] = np.arange(rows.sum()) < number
    return dataclasses.replace(study, validation=validation)


def probed_seldom(study: RecordedStudy) -> RecordedStudy:
    """The study as it is recorded: Δ where λ > 0 and at every fifth step, at all steps in the group `evidence`."""
    steps = study.steps.copy()
    seldom = ~steps["run_id"].isin(study.run_ids("evidence", "cepo"))
    unknown = seldom & (steps["lam"] == 0) & (steps["step"] % 5 != 0)
    steps.loc[unknown, [name for name in steps if str(name).startswith("delta_")]] = np.nan
    return dataclasses.replace(study, steps=steps)


def without(study: RecordedStudy, *gone: str) -> RecordedStudy:
    """The study without some arms, each GROUP/ARM."""
    names = study.arms["group"] + "/" + study.arms["arm"]
    return dataclasses.replace(study, arms=study.arms.loc[~names.isin(gone)])


def pairs(figure: go.Figure, panel: str, name: str) -> list[tuple[float, float]]:
    """The points x, y of those lines whose names begin so."""
    found = plotted(figure)
    found = found.loc[(found["panel"] == panel) & found["series"].str.startswith(name)]
    return list(zip(found["x"], found["y"], strict=True))


def series(figure: go.Figure, panel: str, name: str) -> dict[float, float]:
    """The same by x."""
    return dict(pairs(figure, panel, name))


def by_row(figure: go.Figure, panel: str, name: str) -> dict[int, float]:
    """The gains of a panel of dots by row; the paper's stand a little below it."""
    return {math.floor(row): gain for gain, row in pairs(figure, panel, name)}


def said(figure: go.Figure) -> str:
    """Every annotation."""
    return "\n".join(note.text for note in figure.layout.annotations)


def partial(study: RecordedStudy) -> RecordedStudy:
    """Some of everything is missing, and some arms have one seed."""
    arms = study.arms.loc[(study.arms["group"] != "epsilon_w") | (study.arms["seed"] == 0)]
    gone = ("methods/sdpo", "teacher_source/every_5", "presets/cepo_paper", "deviations/none", "search/rlsd 0.0005")
    told = study.told.iloc[:0][["run_id"]]
    return without(dataclasses.replace(study, arms=arms, told=told), *gone)


def nothing(study: RecordedStudy) -> RecordedStudy:
    return dataclasses.replace(study, arms=study.arms.iloc[:0])


@pytest.fixture(scope="module")
def drawn(study) -> dict[str, list[go.Figure]]:
    """Every figure of the whole study, of a part of it, and of nothing."""
    return {name: [draw(study), draw(partial(study), "dark"), draw(nothing(study))] for name, draw in FIGURES.items()}


@pytest.mark.parametrize("name", FIGURES)
def test_whatever_is_recorded_a_figure_draws_and_no_point_is_nowhere(drawn, name):
    for figure in drawn[name]:
        assert np.isfinite(plotted(figure)[["x", "y"]].to_numpy(float)).all()


@pytest.mark.parametrize("name", FIGURES)
def test_every_hover_says_how_many_seeds_it_speaks_of(drawn, name):
    for trace in (trace for figure in drawn[name] for trace in traces(figure) if trace.hoverinfo != "skip"):
        text = trace.hovertemplate + str(trace.customdata[0])
        assert any(each in text for each in ("n = ", "One run", "one run", "number of seeds")), text


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_can_be_told_in_words(drawn, name):
    for figure in drawn[name]:
        assert alternative(figure).startswith(figure.layout.title.text)


@pytest.mark.parametrize("module", [study_curves, study_dots, study_sweeps])
def test_a_caption_says_what_n_and_its_interval_are_and_what_the_paper_has(module):
    for caption in module.CAPTIONS.values():
        assert "seed" in caption
        assert "interval" in caption
        assert "paper" in caption


def test_figure_1_has_the_mean_of_the_seeds_and_the_paper_s_curves_on_axes_of_their_own(study):
    figure = study_curves.figure1(study)
    # 0.4, then 0.28 more after 30 steps, rounded to whole problems
    assert series(figure, "held-out accuracy", "CEPO, n = 5 seeds") == pytest.approx(
        {0: 16 / 40, 10: 20 / 40, 20: 23 / 40, 30: 27 / 40}
    )
    printed = reported("figure1")
    for method, points in printed.groupby("method"):
        expected = dict(zip(points["step"], points["value"], strict=True))
        assert series(figure, "the paper", f"{LOOKS[str(method)].label}, the paper") == expected
    axes = {trace.yaxis for trace in traces(figure) if trace.meta == "the paper"}
    assert axes == {"y2"}
    assert figure.layout.yaxis2.matches is None


def test_figure_1_says_which_methods_are_not_recorded(study):
    assert "not recorded: SDPO, RLSD" in said(study_curves.figure1(without(study, "methods/sdpo", "methods/rlsd")))
    assert "not recorded" not in said(study_curves.figure1(study))


def test_figure_3_is_in_points_over_grpo_with_the_interval_over_seeds(study):
    figure = study_sweeps.figure3(study)
    # 0.7, 0.75, 0.8 less 0.7; λ = 0 is GRPO; the others 0.675
    ours = series(figure, "a: constant λ", "CEPO, mean and 95 % t-interval, n = 3 seeds")
    assert ours == pytest.approx({0: 0, 0.25: 5, 0.5: -2.5, 0.75: -2.5, 1: -2.5})
    (means,) = [t for t in traces(figure) if t.meta == "a: constant λ" and t.name.startswith("CEPO, mean")]
    # sd 5, t(2) = 4.3027: ± 4.3027 · 5 / √3
    assert means.error_y.array[1] == pytest.approx(12.421, abs=1e-3)
    assert means.error_y.arrayminus[1] == pytest.approx(12.421, abs=1e-3)
    assert "+5.00 points over GRPO [−7.42, +17.42], 95 % t-interval" in means.customdata[1]
    assert "n = 3 seeds, 40 held-out problems each" in means.customdata[1]
    assert means.marker.color == LOOKS["cepo"].color


def test_figure_3_shows_the_seeds_one_by_one(study):
    found = plotted(study_sweeps.figure3(study))
    seeds = found.loc[(found["panel"] == "a: constant λ") & (found["series"] == SINGLE) & (found["x"] == 0.25), "y"]
    assert seeds.tolist() == pytest.approx([0, 5, 10])


def test_figure_3_has_what_the_paper_prints_less_its_grpo(study):
    figure = study_sweeps.figure3(study)
    # 41.40, 41.25 and 42.7 less 41.17
    assert series(figure, "a: constant λ", PAPER) == pytest.approx({0.5: 0.23})
    assert series(figure, "b: λ falls from 1 to 0", PAPER) == pytest.approx({25: 0.08})
    assert series(figure, "c: evidence clip bound", PAPER) == pytest.approx({0.4: 1.53, 0.5: 1.53})
    peak = next(trace for trace in traces(figure) if trace.meta.startswith("c:") and trace.name == PAPER)
    assert peak.marker.symbol == "circle-open"
    assert "inferred" in peak.customdata[0]
    assert "interval not given" in peak.customdata[0]


def test_one_seed_has_a_point_and_no_interval(study):
    (point,) = [
        t for t in traces(study_sweeps.figure3(partial(study))) if t.meta.startswith("c:") and "n = 1" in t.name
    ]
    assert point.name == "CEPO, n = 1 seed"
    assert point.error_y.array is None
    assert "no interval from one seed" in point.customdata[0]


def test_an_arm_that_is_not_recorded_is_not_drawn_but_named(study):
    figure = study_sweeps.figure3(without(study, "lambda_constant/0.25", "lambda_constant/1"))
    assert set(series(figure, "a: constant λ", "CEPO, mean")) == {0, 0.5, 0.75}
    assert "not recorded: 0.25, 1" in said(figure)


def test_without_grpo_there_is_no_point_over_it(study):
    figure = study_sweeps.figure3(without(study, "methods/grpo"))
    assert {trace.name for trace in traces(figure)} == {PAPER}
    assert "no run of GRPO with its seeds: 0, 0.25, 0.5, 0.75, 1" in said(figure)


def test_the_teachers_stand_in_rows_beside_the_paper_s_table_4(study):
    figure = study_dots.teacher_source(study)
    schedule, constant = "λ as in the paper: from 0.5 to 0 over 25 steps", "constant λ = 0.5"
    rows = figure.layout.yaxis.ticktext
    assert rows == ("actor (as trained)", "reference (frozen)", *(f"copy every {n} steps" for n in (5, 10, 25)))
    # the paper has actor, reference and one copy, which is every 25 steps
    assert by_row(figure, schedule, PAPER) == pytest.approx({0: 2.26, 1: 1.01, 4: 1.57})
    assert by_row(figure, schedule, "CEPO, mean") == pytest.approx(dict.fromkeys(range(5), -2.5))
    assert by_row(figure, constant, "CEPO, mean") == pytest.approx({0: -2.5, 1: -2.5, 2: 10, 3: -2.5, 4: -2.5})


def test_a_row_without_a_mark_says_why(study):
    figure = study_dots.teacher_source(without(study, "teacher_source/every_10"))
    (note,) = [note for note in figure.layout.annotations if note.text == "not recorded"]
    assert (note.yref, note.y) == ("y", 3)
    assert "no run of GRPO with its seeds" in said(study_dots.teacher_source(without(study, "methods/grpo")))


def test_the_feedback_sources_stand_beside_the_paper_s_table_5(study):
    figure = study_dots.feedback_source(study)
    names = figure.layout.yaxis.ticktext
    printed = {names[row]: gain for row, gain in by_row(figure, figure.data[0].meta, PAPER).items()}
    table = reported("table5")
    expected = table["hint_correct"] + " / " + table["hint_wrong"]
    assert printed == pytest.approx(dict(zip(expected, table["gain"], strict=True)))


def test_deviations_are_held_against_the_paper_s_side_of_the_same_method(study):
    figure = study_dots.deviations(study)
    presets, alone = "released code over the paper, same method", "one deviation over CEPO as the paper says"
    # RLSD: 20 of 40 against 0.71 of 40, which is 28 problems
    assert by_row(figure, presets, "RLSD, mean") == pytest.approx({1: -20})
    assert by_row(figure, presets, "GRPO, mean") == pytest.approx({0: 0})
    assert "nothing (as the paper says)" not in figure.layout.yaxis2.ticktext
    blind = figure.layout.yaxis2.ticktext.index("teachers without the picture")
    ours = by_row(figure, alone, "CEPO, mean")
    assert ours[blind] == pytest.approx(10)  # 31 problems against 27
    found = gains(study, "deviations", ("deviations", "none"))
    assert max(ours.values()) == pytest.approx(100 * found["gain"].max())


def test_figure_4_is_the_mean_over_seeds_by_the_sign_of_the_advantage_and_only_where_probed(study):
    shares = {"positive_correct": 0.6, "negative_correct": 0.2, "positive_wrong": 0.3, "negative_wrong": 0.5}
    steps = study.steps.copy()
    known = steps["delta_positive"].notna()
    for name, share in shares.items():
        steps.loc[known, f"delta_{name}"] = share
    figure = study_curves.figure4(dataclasses.replace(study, steps=steps))
    for panel, share in (("Δ > 0, A > 0", 0.6), ("Δ < 0, A > 0", 0.2), ("Δ > 0, A < 0", 0.3), ("Δ < 0, A < 0", 0.5)):
        found = series(figure, panel, "CEPO, n = 5 seeds")
        # λ is 0 from step 26 on: of the last five steps only the fifth was asked for the record
        assert list(found) == [*range(1, 26), 30]
        assert list(found.values()) == pytest.approx([share] * 26)
        assert len(series(figure, panel, "CEPO · seed 0, asked at every step, n = 1 seed")) == 30
    runs = steps.loc[steps["run_id"].isin(study.run_ids("methods", "cepo")) & (steps["step"] == 30)]
    everything = series(figure, "Δ > 0, all rollouts", "CEPO, n = 5 seeds")
    assert everything[30] == pytest.approx(runs["delta_positive"].mean())


def test_figure_4_without_cepo_says_so(study):
    gone = without(study, "methods/cepo", "evidence/cepo")
    assert "no CEPO run is recorded" in said(study_curves.figure4(gone))


def test_leakage_is_the_difference_of_the_same_runs_with_and_without_the_answer(study):
    figure = study_curves.leakage(study)
    # OPSD: 0.70 to 0.95 with the answer shown, 0.40 to 0.55 without
    assert series(figure, study_curves.SHOWN, "OPSD")[30] == pytest.approx(0.95)
    assert series(figure, study_curves.NOT_SHOWN, "OPSD")[30] == pytest.approx(0.55)
    difference = series(figure, study_curves.DIFFERENCE, "OPSD")
    assert (difference[0], difference[30]) == pytest.approx((30, 40))
    assert figure.layout.yaxis2.matches == "y"
    assert figure.layout.yaxis3.matches is None


def test_runs_that_were_not_asked_with_the_answer_are_not_made_up(study):
    figure = study_curves.leakage(partial(study))
    assert {trace.meta for trace in traces(figure)} == {study_curves.NOT_SHOWN}
    assert said(figure).count("no run was asked so") == 2


def test_a_seed_that_was_not_asked_with_the_answer_leaves_the_others_their_mean(study):
    unasked = study.run_ids("methods", "opsd")[4]
    figure = study_curves.leakage(dataclasses.replace(study, told=study.told.loc[study.told["run_id"] != unasked]))
    assert series(figure, study_curves.NOT_SHOWN, "OPSD, n = 5 seeds")[30] == pytest.approx(0.55)
    assert series(figure, study_curves.DIFFERENCE, "OPSD, n = 4 seeds")[30] == pytest.approx(40)


def test_the_search_rings_the_chosen_rate(study):
    figure = study_sweeps.search(study)
    line = series(figure, "search", "SDPO, n = 1 seed")
    assert set(line) == {5e-5, 1.5e-4, 5e-4, 1.5e-3}
    # 0.4 + 0.2 · step / 30 of 40 problems: 21 right at step 20, 24 at step 30
    assert line[5e-4] == pytest.approx((21 + 24) / 80)
    rings = [trace for trace in traces(figure) if trace.name == "chosen"]
    assert [list(ring.x) for ring in rings] == [[5e-4]] * 5
    assert [ring.showlegend for ring in rings] == [True, False, False, False, False]
    assert "one run (seed 1000), mean over 80 responses" in rings[0].customdata[0]
    assert figure.layout.xaxis.type == "log"
