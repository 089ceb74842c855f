"""How far a benchmark is: titles steer no terminal, a log gets few lines, only new answers make a rate."""

import io
import re
from types import SimpleNamespace

import pytest

from eval import progress
from eval.progress import Display

HOSTILE = "\x1b]0;mine\x07\x1b[31m[red]x[/red]\r\u202e\nx"
SHOWN = " ]0;mine  [31m[red]x[/red]   x"


class Terminal(io.StringIO):
    """A stream where somebody looks."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """Time stands still until a test moves it: `clock.now`, in seconds."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def terminal(monkeypatch) -> Terminal:
    for name, value in {"TERM": "xterm", "COLUMNS": "160", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    return Terminal()


def bar_of(counter: progress.Counter):
    assert counter.bar is not None
    return counter.bar.tasks[0]


def test_a_hostile_title_is_only_text_in_a_terminal(terminal: Terminal) -> None:
    with Display(terminal).counting(HOSTILE, 2) as counter:
        counter.advance()
    written = terminal.getvalue()
    assert SHOWN in written
    # what is left of control sequences are rich's own: those of cursor and line
    assert re.fullmatch(r"(?:[^\x00-\x09\x0b-\x1f\x7f]|\r|\x1b\[\??[0-9;]*[A-Za-z])*", written)
    assert "\x1b[31m" not in written
    assert "\u202e" not in written


def test_a_hostile_line_is_only_text(terminal: Terminal) -> None:
    Display(terminal).line(HOSTILE)
    assert terminal.getvalue() == SHOWN + "\n"


def test_a_hostile_title_is_only_text_in_a_log(clock) -> None:
    log = io.StringIO()
    with Display(log).counting(HOSTILE, 2) as counter:
        clock.now += 50
        counter.advance()
    assert log.getvalue() == f"{SHOWN}  1/2  0.02 items/s, 50 s left\n"


def test_a_long_line_stays_in_one_piece() -> None:
    log = io.StringIO()
    Display(log).line("evals/" + "x" * 500)
    assert log.getvalue() == "evals/" + "x" * 500 + "\n"


def test_a_log_gets_a_line_now_and_then(clock, monkeypatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 10.0)
    log = io.StringIO()
    with Display(log).counting("WeMath", 60) as counter:
        for _ in range(12):
            clock.now += 2.0
            counter.advance()
    # after 12 and 24 seconds, the first ones more than 10 after the line before
    assert log.getvalue().splitlines() == [
        "WeMath  6/60  0.50 items/s, 108 s left",
        "WeMath  12/60  0.50 items/s, 96 s left",
    ]


def test_a_quick_benchmark_leaves_no_line_in_a_log(clock) -> None:
    log = io.StringIO()
    with Display(log).counting("MMMU", 3) as counter:
        for _ in range(3):
            clock.now += 1.0
            counter.advance()
    assert log.getvalue() == ""


def test_answers_that_were_there_do_not_count_into_the_rate_of_a_log(clock, monkeypatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 3.0)
    log = io.StringIO()
    with Display(log).counting("MMMU", 100) as counter:
        counter.resume(80)
        counter.resume(10)
        for _ in range(2):
            clock.now += 2.0
            counter.advance()
    assert log.getvalue() == "MMMU  92/100  0.50 items/s, 16 s left\n"


def test_answers_that_were_there_do_not_count_into_the_rate_of_a_terminal(terminal, clock) -> None:
    display = Display(terminal)
    display.console.get_time = lambda: clock.now
    with display.counting("MMMU", 100) as counter:
        for n in (80, 10):
            clock.now += 5.0
            counter.resume(n)
        assert bar_of(counter).completed == 90
        for _ in range(4):
            clock.now += 2.0
            counter.advance()
        assert bar_of(counter).completed == 94
        assert bar_of(counter).speed == pytest.approx(0.5)


def test_a_chunk_without_old_answers_does_not_restart_the_clock_of_a_terminal(terminal, clock) -> None:
    display = Display(terminal)
    display.console.get_time = lambda: clock.now
    with display.counting("MMMU", 100) as counter:
        for _ in range(3):
            counter.resume(0)
            for _ in range(5):
                clock.now += 2.0
                counter.advance()
        assert bar_of(counter).completed == 15
        assert bar_of(counter).elapsed == pytest.approx(30.0)


def test_a_terminal_shows_count_and_rate(terminal: Terminal, clock) -> None:
    display = Display(terminal)
    display.console.get_time = lambda: clock.now
    with display.counting("LogicVista", 448) as counter:
        for _ in range(3):
            clock.now += 4.0
            counter.advance()
    written = terminal.getvalue()
    assert "LogicVista" in written
    assert "3/448" in written
    assert "0.25 items/s" in written
