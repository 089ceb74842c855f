"""What a person sees: one line a step, how it ended, and nothing a terminal would obey."""

import dataclasses
import io
import unicodedata
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from core.config import ModelConfig, default_config
from core.console import PlainConsole, ProgressConsole, RunSummary, closing_lines, console_for, measures, say
from core.schema import StepRow

HOSTILE = "a\x1b[31mred\x1b]0;title\x07\rover\x08\x00\x9b2J[bold]markup[/bold]\u202etxet\u2028next\nline"


@pytest.fixture
def row() -> StepRow:
    """A step of CEPO: every required number 1, and what the figures show set apart."""
    hints = get_type_hints(StepRow)
    zeros = {f.name: 1 for f in dataclasses.fields(StepRow) if type(None) not in get_args(hints[f.name])}
    shown = {"step": 3, "reward_mean": 0.5, "accuracy": 0.4375, "seconds_total": 2.25}
    evidence = {"evidence_clip_low": 0.125, "evidence_clip_high": 0.25, "delta_positive": 0.6, "delta_negative": 0.4}
    return StepRow(**(zeros | shown | evidence))


@pytest.fixture
def summary() -> RunSummary:
    return RunSummary("finished", Path("runs/one"), 30, 0.375, 0.5, 256, 100.0, 1.5)


def is_harmless(text: str) -> bool:
    """Only newlines, which we print ourselves, and characters that merely look like something."""
    return all(unicodedata.category(c)[0] != "C" and c != "\u2028" for c in text.replace("\n", ""))


@pytest.fixture
def hostile_config():
    return dataclasses.replace(default_config("cepo"), model=ModelConfig(path=HOSTILE))


def test_hostile_text_does_not_reach_a_plain_stream(hostile_config, row: StepRow, summary: RunSummary) -> None:
    stream = io.StringIO()
    console = PlainConsole(stream)
    console.start(hostile_config, Path(HOSTILE), 10, 1)
    console.note(HOSTILE)
    console.step(row)
    console.finish(dataclasses.replace(summary, folder=Path(HOSTILE)))
    printed = stream.getvalue()
    assert is_harmless(printed)
    assert "[bold]markup[/bold]" in printed
    assert printed.count("\n") == 3 + len(closing_lines(summary))


def test_hostile_text_does_not_reach_a_terminal(hostile_config, row: StepRow, summary: RunSummary) -> None:
    stream = io.StringIO()
    console = ProgressConsole(30, stream)  # which is no terminal, so that rich adds no codes of its own
    console.start(hostile_config, Path(HOSTILE), 10, 1)
    console.note(HOSTILE)
    console.step(row)
    console.finish(dataclasses.replace(summary, folder=Path(HOSTILE)))
    printed = stream.getvalue()
    assert is_harmless(printed)
    assert "[bold]markup[/bold]" in printed


def test_hostile_text_does_not_reach_stderr(capsys: pytest.CaptureFixture) -> None:
    say(HOSTILE)
    printed = capsys.readouterr().err
    assert is_harmless(printed)
    assert printed.count("\n") == 1


def test_a_step_is_one_line_with_its_figures(row: StepRow) -> None:
    stream = io.StringIO()
    console = PlainConsole(stream)
    console.start(default_config("cepo"), Path("runs/one"), 589_000, 1)
    console.step(row)
    headline, line = stream.getvalue().splitlines()
    assert headline == "cepo · pocket (589,000 trained parameters) · pocket · seed 0 · runs/one"
    assert line == "step 3/50  reward 0.500  acc 43.8%  clip 37.5%  Δ>0 60.0%  Δ<0 40.0%  2.2 s"


def test_figures_a_method_has_none_of_are_left_out(row: StepRow) -> None:
    bare = dict.fromkeys(("evidence_clip_low", "evidence_clip_high", "delta_positive", "delta_negative"))
    opsd = dataclasses.replace(row, **bare, divergence_mean=0.0125, val_accuracy=0.25)
    assert measures(opsd) == "reward 0.500  acc 43.8%  D 0.0125  val 25.0%"


def test_the_end_names_the_run_file_and_a_question_to_ask(summary: RunSummary) -> None:
    accuracy, ended, file, question = closing_lines(summary)
    assert accuracy == "held-out accuracy 37.5% → 50.0% (n = 256, one response each)"
    assert ended == "finished after step 30, 100 s; recording took 1.50%"
    assert file == "run file runs/one/run.duckdb"
    assert question.startswith('ask it: duckdb runs/one/run.duckdb "select step')


def test_an_interrupted_run_says_how_to_go_on(summary: RunSummary) -> None:
    lines = closing_lines(dataclasses.replace(summary, status="interrupted"))
    assert lines[-2:] == ["run file runs/one/run.duckdb", "resume with: python -m core.train --resume runs/one"]


def test_accuracy_is_not_mentioned_where_it_was_not_measured(summary: RunSummary) -> None:
    assert "accuracy" not in closing_lines(dataclasses.replace(summary, val_end=None))[0]


def test_a_bar_is_drawn_only_where_somebody_looks(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    config = default_config("grpo")
    assert isinstance(console_for(config, as_json=False), PlainConsole)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert isinstance(console_for(config, as_json=False), ProgressConsole)
    assert isinstance(console_for(config, as_json=True), PlainConsole)
