"""Tables 1 to 7: what is computed is not typed, differences are paired by seed, and what is missing is said."""

import runpy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from analysis.matrix import study_of
from analysis.recorded import RecordedStudy
from analysis.reported import reported
from analysis.tables import ablations, from_code, study
from analysis.tables.arm_names import ARM_NAMES, arm_name
from analysis.tables.export import to_csv, to_html, to_latex, to_markdown
from analysis.tables.paper_table import PaperTable
from analysis.tables.timing import table3
from analysis.tables.words import points, rate_text
from core.config import CONFIGS
from core.errors import InputError
from core.intervals import Interval
from core.methods import table7

made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_study.py"))))
OF_A_STUDY: dict[str, Callable[[RecordedStudy], PaperTable]] = {
    "heldout": study.heldout,
    "table3": table3,
    "table4": ablations.table4,
    "table5": ablations.table5,
    "presets": ablations.table_presets,
    "deviations": ablations.table_deviations,
    "smaller_rate": ablations.table_smaller_rate,
    "learning_rates": study.table_learning_rates,
    "leakage": study.table_leakage,
}


@pytest.fixture(scope="module")
def whole() -> RecordedStudy:
    """The whole matrix: 40 held-out problems, 40 % right before training."""
    return made_up.made_up_study(told_gain={"opsd": 0.25, "sdpo": 0.2})


@pytest.fixture(scope="module")
def tables(whole: RecordedStudy) -> dict[str, PaperTable]:
    """Every table of it but Table 2."""
    return {name: build(whole) for name, build in OF_A_STUDY.items()}


def with_right(old: RecordedStudy, group: str, arm: str, right: Mapping[int, int]) -> RecordedStudy:
    """The study with so many of 40 problems right after training, by seed."""
    answers = old.validation.reset_index(drop=True)
    arms = old.arms.loc[(old.arms["group"] == group) & (old.arms["arm"] == arm)]
    for run_id, seed in zip(arms["run_id"], arms["seed"], strict=True):
        own = answers.index[(answers["run_id"] == run_id) & (answers["step"] == answers["step"].max())]
        answers.loc[own, "is_correct"] = [i < right[seed] for i in range(len(own))]
    return replace(old, validation=answers)


def without(old: RecordedStudy, **columns: str) -> RecordedStudy:
    """The study without the arms of which all that is true."""
    gone = pd.Series(True, index=old.arms.index)
    for name, value in columns.items():
        gone &= old.arms[name] == value
    return replace(old, arms=old.arms.loc[~gone])


def row(table: PaperTable, name: str) -> dict[str, str]:
    """A row by its first cell."""
    return table.cells.set_index(table.cells.columns[0]).loc[name].to_dict()


def bold(table: PaperTable) -> list[tuple[str, str]]:
    """First cell of the row, and column, of what stands out."""
    assert table.bold is not None
    names = table.cells.iloc[:, 0]
    return [(str(names[i]), str(c)) for c in table.bold for i in table.bold.index if table.bold.loc[i, c]]


def test_table_1_agrees_with_the_paper_and_says_so_only_while_it_does(monkeypatch):
    table = from_code.table1()
    assert "All 20 marks agree" in table.caption
    assert row(table, "CEPO")["paper"] == "✓ ✓ ✓ ✓"
    assert row(table, "GRPO")["leak-free"] == "–"
    monkeypatch.setitem(from_code.PRINTED_TABLE_1, "SDPO", "✓✓✗✓")
    table = from_code.table1()
    assert "19 of 20 marks agree" in table.caption
    assert row(table, "SDPO") | {"agrees": "✗", "leak-free": "✗", "paper": "✓ ✓ ✗ ✓"} == row(table, "SDPO")


def test_every_name_of_tables_6_and_7_is_read_from_somewhere_or_known_to_have_no_field():
    assert list(from_code.TABLE_6) == reported("table6")["name"].tolist()
    assert set(from_code.TABLE_7) == set(reported("table7")["name"])
    assert {field for field, _ in from_code.TABLE_7.values()} <= set(table7())


def test_every_setting_of_table_6_that_has_a_field_is_the_papers():
    table = from_code.table6()
    has_no_field = ["framework", "LoRA dropout", "optimizer", "KL penalty", "entropy bonus", "verifier"]
    assert table.cells.loc[table.cells["here"] == "–", "setting"].tolist() == has_no_field
    assert set(table.cells.loc[table.cells["here"] != "–", "agrees"]) == {"✓"}
    assert "12 of the 12" in table.caption
    assert (row(table, "learning rate")["here"], row(table, "learning rate of CEPO")["here"]) == ("1e-6", "5e-6")


def test_table_6_shows_a_shipped_configuration_that_departs(monkeypatch, tmp_path):
    for name in from_code.TABLE_6_FILES:
        text = (CONFIGS / name).read_text(encoding="utf-8")
        changed = text.replace("lora_rank: 16", "lora_rank: 8") if "2b" in name else text
        (tmp_path / name).write_text(changed, encoding="utf-8")
    monkeypatch.setattr(from_code, "CONFIGS", tmp_path)
    table = from_code.table6()
    assert (row(table, "LoRA rank")["here"], row(table, "LoRA rank")["agrees"]) == ("8, 16", "✗")
    assert "11 of the 12" in table.caption


def test_table_7_compares_by_value_and_invents_no_value_of_the_paper(monkeypatch):
    table = from_code.table7()
    assert row(table, "SDPO, EMA beta") == {"paper": ".999", "paper's value is": "note", "here": "0.999", "agrees": "✓"}
    assert row(table, "OPSD, divergence")["here"] == "D_KL"
    rlsd = table.cells.loc[table.cells["setting"].str.startswith("RLSD")]
    assert set(rlsd["paper"]) == {"not known"}
    assert set(rlsd["agrees"]) == {"–"}
    assert not table.cells["setting"].str.startswith("GRPO").any()
    defaults = table7()
    monkeypatch.setattr(from_code.methods, "table7", lambda: defaults | {"epsilon_w": {"rlsd": 0.5, "cepo": 0.2}})
    changed = from_code.table7()
    assert (row(changed, "CEPO, epsilon_w")["here"], row(changed, "CEPO, epsilon_w")["agrees"]) == ("0.2", "✗")


def test_every_arm_of_the_study_has_a_name_and_no_name_is_left_over():
    groups = study_of().matrix.groups
    assert {group: list(asked.arms) for group, asked in groups.items()} == {g: list(a) for g, a in ARM_NAMES.items()}
    assert arm_name("teacher_source", "every_5") == "copy every 5 steps"
    assert arm_name("teacher_source", "every_7") == "every_7"


def test_table_2_tells_items_runs_and_what_its_tests_leave_out(whole):
    some = whole.evaluations["method"].isin(["base", "grpo", "opsd"])
    table = study.table2(replace(whole, evaluations=whole.evaluations.loc[some]))
    assert table.cells["method"].tolist() == ["Base", "GRPO", "OPSD"]
    assert row(table, "OPSD")["Average"].startswith("55.00 ± ")
    assert row(table, "GRPO")["average vs GRPO [95 % CI]"] == "baseline"
    assert [name for name, column in bold(table) if column == "Average"] == ["GRPO"]
    for said in ("no results on the real ones", "MMMU 20,", "Base n = 1", "OPSD 55.0 ± 0.0 (n = 5)", "leave out how"):
        assert said in table.caption
    assert "so intervals are too narrow" not in table.caption
    assert "Not evaluated: SDPO, RLSD, CEPO." in table.caption


def test_table_2_of_variants_tells_their_clusters_and_that_they_are_few(whole):
    items = whole.items.assign(cluster=[f"{i // 5}" for i in range(len(whole.items))])
    kept = whole.evaluations["method"].isin(["grpo", "cepo"]) & (whole.evaluations["run_seed"] == 0)
    table = study.table2(replace(whole, evaluations=whole.evaluations.loc[kept], items=items))
    assert "DynaMath 20 in 4 clusters" in table.caption
    assert "Fewer than 20 clusters, so intervals are too narrow: DynaMath," in table.caption
    assert "Not evaluated: Base, OPSD, SDPO, RLSD." in table.caption
    assert "GRPO n = 1, CEPO n = 1" in table.caption


def test_table_2_without_evaluations_has_no_row_and_says_so(whole):
    table = study.table2(replace(whole, evaluations=pd.DataFrame({"eval_id": []})))
    assert table.cells.empty
    assert table.caption == "Not evaluated: Base, GRPO, OPSD, SDPO, RLSD, CEPO."


def test_the_printed_table_2_is_kept_as_printed_and_doubted_where_it_cannot_be():
    table = study.table2_paper("2B")
    assert row(table, "CEPO")["Average"] == "43.43 ± 0.8"
    assert row(table, "RLSD")["Average"] == "40.05 ± 0.8 ▲"
    assert "not evaluations made here" in table.caption
    with pytest.raises(InputError, match="expected a model of 2B, 4B, got '7B'"):
        study.table2_paper("7B")


def test_gains_are_means_over_seeds_and_differences_are_paired(whole):
    # GRPO 20, 22, 24, 26, 28 and CEPO 21, 24, 25, 28, 29 right of 40: CEPO − GRPO is 1, 2, 1, 2, 1 problems
    changed = with_right(whole, "methods", "grpo", dict(enumerate((20, 22, 24, 26, 28))))
    changed = with_right(changed, "methods", "cepo", dict(enumerate((21, 24, 25, 28, 29))))
    table = study.heldout(changed)
    cepo = row(table, "CEPO")
    # after: mean 25.4 / 40, s = 3.2094 / 40, t(4) = 2.7764: ± 9.96 points. Differences: mean 1.4 / 40, s = 0.5477 / 40
    assert cepo["after"] == "63.5 ± 10.0"
    assert cepo["gain"] == "+23.5 ± 10.0"
    assert cepo["over GRPO [95 %]"] == "+3.50 [+1.80, +5.20]"
    assert (cepo["before"], cepo["learning rate"], cepo["seeds"]) == ("40.0 ± 0.0", "5e-4", "5")
    assert ("CEPO", "over GRPO [95 %]") in bold(table)
    assert row(table, "GRPO")["over GRPO [95 %]"] == "baseline"
    assert "40 held-out problems, one response each" in table.caption


def test_a_difference_that_the_seeds_do_not_separate_is_not_bold(whole):
    # against 27 of 40: 1, 2 and 6 more: mean 3 / 40, s = √7 / 40, t(2) = 4.3027
    table = ablations.table_deviations(
        with_right(with_right(whole, "deviations", "none", dict.fromkeys(range(5), 27)), "deviations", "epsilon_w",
                   {0: 28, 1: 29, 2: 33})
    )  # fmt: skip
    assert row(table, "ε_w = 0.2")["change [95 %]"] == "+7.50 [−8.93, +23.93]"
    assert row(table, "nothing (as the paper says)")["change [95 %]"] == "baseline"
    assert bold(table) == []


def test_one_seed_has_a_difference_and_no_interval(whole):
    table = study.heldout(replace(whole, arms=whole.arms.loc[whole.arms["seed"] == 0]))
    opsd = row(table, "OPSD")
    assert (opsd["after"], opsd["gain"], opsd["over GRPO [95 %]"], opsd["seeds"]) == ("55.0", "+15.0", "−15.00", "1")
    assert bold(table) == []


def test_seeds_that_grpo_lacks_are_not_in_a_difference(whole):
    arms = whole.arms
    gone = (arms["group"] == "methods") & (arms["arm"] == "grpo") & (arms["seed"] > 1)
    table = study.heldout(replace(whole, arms=arms.loc[~gone]))
    assert row(table, "CEPO")["seeds"] == "5, 2 of them paired"


def test_table_3_leaves_out_first_steps_validation_and_probe(whole):
    # GRPO 3 s and CEPO 3.8 s a step in all, of which 0.1 s validation and 0.1 s probe; seed 1 of CEPO takes 5.8 s
    steps, slow = whole.steps.copy(), whole.run_ids("methods", "cepo")[1]
    steps.loc[steps["run_id"] == slow, "seconds_total"] = 5.8
    steps.loc[steps["step"] == 1, "seconds_total"] = 1000.0
    steps.loc[steps["run_id"].isin(whole.run_ids("methods", "cepo")), "seconds_teacher"] = 0.7
    only = whole.arms.loc[whole.arms["seed"].isin([0, 1])]
    table = table3(replace(whole, steps=steps, arms=only))
    assert row(table, "step, without validation and probe") | {"GRPO": "2.80", "CEPO": "4.60"} == row(
        table, "step, without validation and probe"
    )
    assert (row(table, "teachers")["CEPO"], row(table, "other")["GRPO"]) == ("0.70", "2.20")
    # 3.6 / 2.8 − 1 = 28.6 % and 5.6 / 2.8 − 1 = 100 %: mean 64.3, half their distance times t(1) = 12.706
    assert row(table, "over GRPO, %")["CEPO"] == "+64.3 ± 453.8"
    assert row(table, "over GRPO, %")["RLSD"] == "+14.3 ± 0.0"
    # 0.7 / 3.6 = 19.4 % and 0.7 / 5.6 = 12.5 %; RLSD's 0.1 / 3.2
    assert row(table, "teachers' share, %")["CEPO"] == "16.0 ± 44.1"
    assert row(table, "teachers' share, %")["RLSD"] == "3.1 ± 0.0"
    assert ("over GRPO, %", "RLSD") in bold(table)
    assert ("over GRPO, %", "CEPO") not in bold(table)
    assert row(table, "paper: over GRPO, %") == {
        "GRPO": "–",
        "OPSD": "–",
        "SDPO": "+4.5",
        "RLSD": "+4.7",
        "CEPO": "+10.1",
    }
    assert "here in 24 of 29 counted steps, in the paper in 25 of 50" in table.caption


def test_table_4_stands_beside_the_papers_rows(tables):
    table = tables["table4"]
    paper = table.cells.set_index("teacher")[ablations.PAPER].to_dict()
    assert list(paper.values()) == ["43.43 (+2.26)", "42.18 (+1.01)", "–", "–", "42.74 (+1.57)"]
    assert row(table, "actor (as trained)")["falling λ: over GRPO [95 %]"].startswith("−2.50 [")
    assert row(table, "actor (as trained)")["seeds"] == "3"


def test_table_4_tells_from_the_answers_whether_reference_and_copies_were_the_same(whole, tables):
    assert "the same in 0 of 3 seeds under falling λ and in 0 of 3" in tables["table4"].caption
    answers = whole.validation
    for reference, copies in zip(
        whole.run_ids("teacher_source", "reference"), whole.run_ids("teacher_source", "every_25"), strict=True
    ):
        same = answers.loc[answers["run_id"] == reference].assign(run_id=copies)
        answers = pd.concat([answers.loc[answers["run_id"] != copies], same.sample(frac=1, random_state=0)])
    caption = ablations.table4(replace(whole, validation=answers)).caption
    assert "the same in 3 of 3 seeds under falling λ and in 0 of 3" in caption
    assert "after step 25 is read from step 26 on" in caption


def test_table_5_stands_beside_the_papers_rows_and_tells_how_long_a_prefix_is(tables):
    table = tables["table5"]
    printed = reported("table5")
    names = printed["hint_correct"] + " / " + printed["hint_wrong"]
    assert len(table.cells) == len(names)
    for name, value in zip(names, printed["value"], strict=True):
        assert row(table, name)[ablations.PAPER].startswith(f"{value:.2f} (")
    assert row(table, "peer prefix / peer prefix")[ablations.PAPER] == "40.47 (−0.70)"
    assert "24 tokens here" in table.caption


def test_a_preset_is_held_against_grpo_trained_the_same_way(whole):
    changed = whole
    for arm, right in {"grpo_paper": 28, "grpo_released": 20, "cepo_paper": 26, "cepo_released": 24}.items():
        changed = with_right(changed, "presets", arm, dict.fromkeys(range(5), right))
    cepo = row(ablations.table_presets(changed), "CEPO")
    assert cepo["paper: over GRPO [95 %]"].startswith("−5.00 [")
    assert cepo["released: over GRPO [95 %]"].startswith("+10.00 [")
    assert cepo["released − paper [95 %]"].startswith("−5.00 [")


def test_the_papers_pair_of_rates_can_be_read_off(whole):
    changed = with_right(whole, "learning_rate", "grpo_fifth", dict.fromkeys(range(3), 24))
    changed = with_right(changed, "learning_rate", "cepo", dict.fromkeys(range(3), 30))
    table = ablations.table_smaller_rate(changed)
    assert row(table, "CEPO, chosen rate")["over GRPO, a fifth [95 %]"].startswith("+15.00 [")
    assert (row(table, "CEPO, chosen rate")["rate"], row(table, "CEPO, a fifth of it")["rate"]) == ("5e-4", "1e-4")
    assert row(table, "GRPO, a fifth of it")["over GRPO, a fifth [95 %]"] == "baseline"
    assert "five times GRPO's rate" in table.caption


def test_the_search_shows_the_mean_of_the_last_two_validations_and_marks_what_was_kept(whole):
    table = study.table_learning_rates(replace(whole, about=replace(whole.about, rates={"grpo": 1.5e-4})))
    # GRPO is 60 % right after step 20 and 70 % after step 30
    assert row(table, "GRPO") == {"5e-5": "65.0", "1.5e-4": "65.0 *", "5e-4": "65.0", "1.5e-3": "65.0"}
    assert "*" not in "".join(row(table, "CEPO").values())
    assert "80 responses" in table.caption
    assert "seed 1000" in table.caption


def test_what_showing_the_answer_adds_is_a_difference_of_differences(tables):
    table = tables["leakage"]
    # OPSD: 40 to 55 % without, 70 to 95 % shown: showing adds 30 points before and 40 after
    assert list(row(table, "OPSD").values())[:4] == ["40.0 ± 0.0", "55.0 ± 0.0", "70.0 ± 0.0", "95.0 ± 0.0"]
    assert row(table, "OPSD")["what showing adds [95 %]"].startswith("+10.00 [")
    assert bold(table)[0] == ("GRPO", "what showing adds [95 %]")
    assert ("SDPO", "what showing adds [95 %]") not in bold(table)  # 20 and 20: a difference of rounding


def test_runs_that_were_not_asked_with_the_answer_shown_are_named(whole):
    cepo = whole.run_ids("methods", "cepo")
    table = study.table_leakage(replace(whole, told=whole.told.loc[~whole.told["run_id"].isin(cepo)]))
    assert set(row(table, "CEPO").values()) == {"–", "0"}
    assert "Not asked with the answer shown: CEPO." in table.caption
    assert "GRPO, OPSD" in study.table_leakage(replace(whole, told=pd.DataFrame({"run_id": []}))).caption


@pytest.mark.parametrize("name", OF_A_STUDY)
def test_an_empty_study_has_tables_without_numbers_of_its_own(whole, name):
    empty = replace(whole, arms=whole.arms.iloc[:0], about=replace(whole.about, rates={}))
    table = OF_A_STUDY[name](empty)
    printed = [c for c in table.cells if str(c).startswith("paper: accuracy (")]
    own = table.cells.loc[~table.cells.iloc[:, 0].str.startswith("paper")].drop(columns=printed).iloc[:, 1:]
    assert set(own.to_numpy().ravel()) <= {"–", "0"}
    assert table.bold is None or bold(table) == []
    assert name == "learning_rates" or "Not trained" in table.caption or "Not asked" in table.caption


@pytest.mark.parametrize("name", ["heldout", "table4", "table5"])
def test_without_grpo_there_are_accuracies_and_no_differences_from_it(whole, name):
    table = OF_A_STUDY[name](without(whole, group="methods", arm="grpo"))
    over = [c for c in table.cells if str(c).startswith(("over GRPO [", "falling λ: over", "constant λ: over"))]
    assert set(table.cells[over].to_numpy().ravel()) <= {"–", "baseline"}
    assert any(text.startswith("67.5") for text in table.cells.to_numpy().ravel())


def test_a_missing_arm_keeps_its_row_and_is_named(whole):
    table = ablations.table4(without(whole, group="teacher_source", arm="every_10"))
    assert row(table, "copy every 10 steps")["falling λ: accuracy"] == "–"
    assert row(table, "copy every 10 steps")["constant λ: accuracy"].startswith("67.5")
    assert "Not trained under falling λ: copy every 10 steps." in table.caption


def test_only_a_pocket_study_is_called_a_stand_in(whole, tables):
    assert all("no results on Geo3k" in table.caption for name, table in tables.items() if name != "table3")
    other = replace(whole, about=replace(whole.about, scale="qwen3vl_2b"))
    assert "no results" not in study.heldout(other).caption


@pytest.mark.parametrize("name", OF_A_STUDY)
def test_every_table_can_be_exported_and_says_how_many_seeds_or_runs_it_rests_on(tables, name):
    table = tables[name]
    assert table.bold is None or table.bold.shape == table.cells.shape
    for text in (
        to_html(table.cells, table.caption, table.bold),
        to_latex(table.cells, table.caption, table.bold),
        to_markdown(table.cells, table.caption, table.bold),
        to_csv(table.cells),
    ):
        assert "GRPO" in text or "CEPO" in text or name in ("deviations", "table4", "table5")
    assert "seeds" in {*table.cells, *table.cells.iloc[:, 0]} or "One run a cell" in table.caption
    assert table.cells.map(lambda cell: isinstance(cell, str)).all(axis=None)


def test_numbers_are_written_as_people_write_them():
    assert [rate_text(rate) for rate in (5e-4, 1.5e-4, 1e-6, 0.3)] == ["5e-4", "1.5e-4", "1e-6", "3e-1"]
    assert points(Interval(-0.0131, -0.02, 0.001)) == "−1.31 [−2.00, +0.10]"
