"""The figures of runs by their numbers: what stands where, whose seeds are one line, and what is said without one."""

import runpy
from html import escape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.curves import Shown, View, curves, positions, schedules, seed_groups, step_values, validation_values
from analysis.figures import bars
from analysis.figures.curves import CLIPS, accuracy, clips, delta_fractions, reward
from analysis.figures.panels import alternative, plotted, traces
from analysis.style import LOOKS
from analysis.tokens import CLASSES, EvidenceCounts
from core.histogram import BINS

made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_recordings.py"))))
recording = made_up.recording
SEEDS = tuple(recording(seed=seed, accuracies=(0.4, 0.5, 0.6 + seed / 10)) for seed in range(3))
HOSTILE = "<b onmouseover=x>%{y}</b>\u202e[a](b)"


def lines(figure) -> list:
    """The traces with points, in a figure that also has bands and shading."""
    return [trace for trace in traces(figure) if trace.mode == "lines+markers"]


def test_runs_that_differ_in_nothing_but_the_seed_belong_together() -> None:
    other = recording(key="other", config={"steps": 10})
    groups = seed_groups([SEEDS[2], other, SEEDS[0], recording("rlsd")])
    assert [[run.key for run in group] for group in groups] == [["cepo-0", "cepo-2"], ["other"], ["rlsd-0"]]


def test_a_configuration_that_is_no_json_is_no_crash() -> None:
    broken = [recording(seed=seed, info={"config": text}) for seed, text in enumerate(("{", "[1]", "null"))]
    assert len(seed_groups(broken)) == 1


def test_three_seeds_are_their_mean_with_a_t_interval() -> None:
    (curve,) = curves(SEEDS, validation_values, View())
    assert (curve.seeds, curve.has_band, curve.key) == (3, True, "cepo-0")
    last = curve.points.iloc[-1]
    # sd 0.1, t(2) = 4.3027: 0.7 ± 4.3027 · 0.1 / √3
    assert last[["step", "x", "y", "n"]].tolist() == pytest.approx([2, 2, 0.7, 300])
    assert [last.low, last.high] == pytest.approx([0.4516, 0.9484], abs=1e-4)
    assert curve.points[["low", "high"]].iloc[0].tolist() == pytest.approx([0.4, 0.4])


def test_a_step_that_one_seed_has_not_reached_is_left_out_of_the_mean() -> None:
    behind = recording(seed=3, accuracies=(0.4, 0.5))
    (curve,) = curves([*SEEDS, behind], validation_values, View())
    assert curve.seeds == 4
    assert curve.points.step.tolist() == [0, 1]


def test_two_seeds_are_two_lines_without_a_band_that_say_so() -> None:
    figure = accuracy(Shown(SEEDS[:2]))
    assert [trace.name for trace in traces(figure)] == ["CEPO · seed 0, n = 2 seeds", "CEPO · seed 1, n = 2 seeds"]
    single = accuracy(Shown(SEEDS, View(group_seeds=False)))
    assert [trace.name for trace in traces(single)] == [f"CEPO · seed {i}, n = 1 seed" for i in range(3)]
    assert not any(trace.fill for trace in traces(figure) + traces(single))


def test_the_band_reaches_from_the_low_to_the_high_end() -> None:
    low, high, mean = traces(accuracy(Shown(SEEDS)))
    assert high.fill == "tonexty"
    assert (np.array(low.y) <= mean.y).all()
    assert (np.array(high.y) >= mean.y).all()
    assert mean.name == "CEPO, n = 3 seeds"


def test_two_configurations_of_a_method_have_its_colour_and_dash_and_markers_of_their_own() -> None:
    runs = (recording(key="a"), recording(key="b", config={"steps": 10}), recording("rlsd", key="c"))
    one, two, other = lines(reward(Shown(runs)))
    assert one.line.color == two.line.color == LOOKS["cepo"].color
    assert (one.marker.symbol, two.marker.symbol) == ("circle", "circle-open")
    assert "a" in one.name
    assert "b" in two.name
    assert (other.line.dash, other.marker.symbol) == (LOOKS["rlsd"].dash, LOOKS["rlsd"].marker)
    assert lines(reward(Shown(runs), "dark"))[0].line.color == LOOKS["cepo"].dark_color


def test_tokens_and_seconds_count_up_from_zero_before_training() -> None:
    run = recording(n_tokens=[100, 50], seconds_total=[2.0, 3.5])
    steps = np.array([0, 1, 2, 3])
    np.testing.assert_array_equal(positions(run, "tokens", steps), [0, 100, 150, np.nan])
    np.testing.assert_array_equal(positions(run, "seconds", steps), [0, 2, 5.5, np.nan])
    np.testing.assert_array_equal(positions(run, "step", steps), steps)


def test_every_point_opens_its_run_at_its_step_and_step_0_opens_the_first() -> None:
    (line,) = lines(accuracy(Shown(SEEDS[:1])))
    assert [tuple(point[:3]) for point in line.customdata] == [("cepo-0", 1, 0), ("cepo-0", 1, 1), ("cepo-0", 2, 2)]
    assert line.customdata[0][3] == "100"
    assert "one response each" in line.hovertemplate


def test_the_four_clip_rates_are_four_panels_each_with_its_definition() -> None:
    rates = {name: (i + 1) / 100 for i, name in enumerate(CLIPS)}
    figure = clips(Shown((recording(**rates),)))
    found = plotted(figure).groupby("panel", sort=False).y.first()
    assert found.to_dict() == pytest.approx(
        {"Evidence clip, low": 0.01, "Evidence clip, high": 0.02, "PPO clip, low": 0.03, "PPO clip, high": 0.04}
    )
    for line, (_, definition) in zip(lines(figure), CLIPS.values(), strict=True):
        assert escape(definition) in line.hovertemplate


def test_the_delta_fractions_come_from_the_steps_and_lambda_lies_behind_them() -> None:
    run = recording(lam=[0.5, 0.25], delta_positive=[0.6, 0.5], delta_negative=[0.3, 0.4])
    found = plotted(delta_fractions(Shown((run,)))).set_index(["panel", "series"]).y
    assert found["Δ > 0", "CEPO · seed 0, n = 1 seed"].tolist() == [0.6, 0.5]
    assert found["Δ < 0", "CEPO · seed 0, n = 1 seed"].tolist() == [0.3, 0.4]
    assert found["Δ > 0", "λ (0 at the bottom, 1 at the top)"].tolist() == [0.5, 0.25]


def test_the_sign_of_the_advantage_chooses_the_recorded_column() -> None:
    columns = {"delta_positive_correct": 0.7, "delta_negative_correct": 0.2, "delta_positive_wrong": 0.4}
    run = recording(**columns, delta_negative_wrong=0.5)
    for sign, expected in (("positive", [0.7, 0.2]), ("negative", [0.4, 0.5])):
        found = plotted(delta_fractions(Shown((run,), View(sign=sign))))
        assert found.groupby("panel", sort=False).y.first().tolist() == expected


def test_counted_tokens_take_the_place_of_the_steps_where_the_view_needs_them() -> None:
    view = View(tau=0.1, weighting="rollouts")
    counts = made_up.rollout_rows((1, 1.0, 10, 5, 0), (1, -1.0, 90, 9, 45))
    figure = delta_fractions(Shown((recording(),), view, counts={"cepo-0": counts}))
    found = plotted(figure).groupby("panel", sort=False).y.first()
    assert found.to_dict() == pytest.approx({"Δ > 0.1": 0.3, "Δ < −0.1": 0.25})


def test_the_same_schedule_is_shaded_once_however_far_its_runs_have_come() -> None:
    runs = [recording(lam=[0.5, 0.25]), recording(n_steps=1, lam=[0.5]), recording(lam=[0.4, 0.2]), recording("grpo")]
    assert [points.lam.tolist() for points in schedules(runs, "step")] == [[0.5, 0.25], [0.4, 0.2]]


def test_a_run_without_evidence_says_so_in_place_of_an_empty_plot() -> None:
    blind = recording("grpo", delta_positive=np.nan, delta_negative=np.nan)
    for view in (View(), View(delta="cepo")):
        shown = Shown((blind,), view)
        for figure in (delta_fractions(shown), bars.token_classes(shown)):
            assert "no evidence recorded" in alternative(figure)
            assert "GRPO" in alternative(figure)


def test_no_validation_and_no_step_say_so_too() -> None:
    new = Shown((recording(accuracies=(), n_steps=0),))
    assert "no validation recorded yet" in alternative(accuracy(new))
    for draw in (reward, clips, bars.seconds):
        assert "no step recorded yet" in alternative(draw(new))


def evidence(n: dict[str, int], magnitude: dict[str, float]) -> EvidenceCounts:
    """Counts of some classes."""
    numbers = np.array([n.get(name, 0) for name in CLASSES], float)
    sums = np.array([magnitude.get(name, 0.0) for name in CLASSES])
    return EvidenceCounts(np.zeros((len(CLASSES), BINS), np.int64), numbers, numbers, 0 * numbers, sums, sums)


def test_bars_of_token_classes_are_mean_magnitudes_of_those_that_occur() -> None:
    shown = Shown((recording(),), evidence={"cepo-0": evidence({"digit": 4, "word": 10}, {"digit": 2.0, "word": 1.0})})
    (bar,) = traces(bars.token_classes(shown))
    assert dict(zip(bar.y, bar.x, strict=True)) == pytest.approx({"digit": 0.5, "word": 0.1})
    assert bar.customdata[0][0] == "4"


def test_the_tokens_of_grouped_seeds_are_pooled_and_single_runs_have_patterns() -> None:
    found = {"cepo-0": evidence({"digit": 4}, {"digit": 2.0}), "cepo-1": evidence({"digit": 12}, {"digit": 2.0})}
    (pooled,) = traces(bars.token_classes(Shown(SEEDS, evidence=found)))
    assert (pooled.name, list(pooled.x), pooled.customdata[0][0]) == ("CEPO · cepo-0 and 2 more", [0.25], "16")
    first, second = traces(bars.token_classes(Shown(SEEDS[:2], View(group_seeds=False), evidence=found)))
    assert (first.x[0], second.x[0]) == pytest.approx((0.5, 2 / 12))
    assert (first.marker.pattern.shape, second.marker.pattern.shape) == ("", "/")


def test_seconds_are_stacked_means_that_leave_the_first_step_out() -> None:
    runs = tuple(recording(seed=seed, seconds_rollout=[9.0, 2.0 + seed]) for seed in range(3))
    figure = bars.seconds(Shown(runs))
    sampling = traces(figure)[0]
    assert figure.layout.barmode == "stack"
    assert sampling.x == pytest.approx([3.0])
    assert sampling.customdata[0] == "3 steps of 3 runs"
    assert len(traces(bars.seconds(Shown(runs, View(group_seeds=False))))[0].x) == 3


@pytest.mark.parametrize("draw", [accuracy, reward, delta_fractions, clips, bars.seconds])
def test_names_from_a_stranger_s_file_are_drawn_as_they_stand(draw) -> None:
    runs = (recording(HOSTILE, key=HOSTILE), recording(HOSTILE, key=HOSTILE + "2", config={"steps": 3}))
    figure = draw(Shown(runs))
    for trace in traces(figure):
        assert "<b onmouseover" not in trace.name
        assert "\u202e" not in trace.name
        assert "%{y}" not in (trace.hovertemplate or "").replace("%{y:", "")
    assert HOSTILE not in figure.to_json()


def test_the_text_alternative_says_where_each_line_ends() -> None:
    said = alternative(accuracy(Shown((*SEEDS, recording("rlsd")))))
    assert said == "Held-out accuracy. CEPO, n = 3 seeds: 0.7 at 2. RLSD · seed 0, n = 1 seed: 0.6 at 2"


def test_a_column_that_is_null_everywhere_draws_nothing() -> None:
    assert curves([recording(grad_norm=[None, None])], step_values("grad_norm"), View()) == []


def test_runs_that_every_figure_draws_alike_have_one_identity() -> None:
    longer = recording(accuracies=(0.4, 0.5, 0.6, 0.7))
    assert Shown(SEEDS).identity == Shown(tuple(SEEDS)).identity
    assert Shown((recording(),)).identity != Shown((longer,)).identity
    assert Shown(SEEDS).identity != Shown(SEEDS, View(x="tokens")).identity
