"""The sandbox: whatever a scorer does, the evaluation goes on, and a score depends on the item alone."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from eval.sandbox import Sandbox, ScorerError

linux = pytest.mark.skipif(sys.platform != "linux", reason="the limit or the file system of Linux")


def length(doc, responses):
    return {"length": len(responses[0]), "pid": os.getpid()}


def unless_empty(act):
    """Make a scorer that acts on a response and gives an empty one 0."""

    def score(doc, responses):
        return {"acc": act(doc) if responses[0] else 0}

    return score


def sandbox(act, **limits):
    return Sandbox("mathvision_mini", unless_empty(act), **limits)


def is_gone(pid):
    """Whether a process has ended, though nobody may have asked for its status yet."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if sys.platform == "linux" and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.01)
    return False


def test_one_process_that_starts_with_the_first_item_scores_them_all():
    with Sandbox("t", length) as box:
        assert box.pid is None
        assert box.score("1", {}, ["four"]) == {"length": 4, "pid": box.pid}
        first = box.pid
        assert box.score("2", {}, ["three"]) == {"length": 5, "pid": first}
        assert first != os.getpid()
        assert box.unscored == []


@pytest.mark.parametrize("text", ["a " * 100_000, "\x00" * 200_000, "\ud800\udfff\udc00", "\n{", "é" * 200_000])
def test_any_text_arrives_whole(text):
    with Sandbox("t", lambda doc, responses: {"same": responses == [doc["text"]], "echo": responses[0]}) as box:
        assert box.score("1", {"text": text}, [text])["same"]


def test_computing_without_end_inside_of_c_is_ended_and_counts_as_an_empty_response():
    start = time.monotonic()
    with sandbox(lambda doc: 9**9**9, cpu_seconds=0.2) as box:
        assert box.score("row 7", {}, ["9^{9^9}"]) == {"acc": 0}
    assert time.monotonic() - start < 5
    assert box.unscored == ["row 7"]


def test_the_clock_of_one_item_does_not_run_on_for_the_next():
    def busy(doc, responses):
        end = time.process_time() + 0.15
        while time.process_time() < end:
            pass
        return {"acc": 1}

    with Sandbox("t", busy, cpu_seconds=0.35) as box:
        assert [box.score(str(i), {}, ["a"]) for i in range(3)] == [{"acc": 1}] * 3
        assert box.unscored == []


def test_waiting_without_end_is_ended_too():
    with sandbox(lambda doc: time.sleep(60), wall_seconds=0.2) as box:
        assert box.score("1", {}, ["a"]) == {"acc": 0}
        assert box.unscored == ["1"]


@linux
def test_a_memory_bomb_hits_its_own_limit():
    with sandbox(lambda doc: len(bytearray(2 << 30)), memory_bytes=1 << 28) as box:
        assert box.score("1", {}, ["a"]) == {"acc": 0}
        assert box.unscored == ["1"]
    with sandbox(lambda doc: len(bytearray(1 << 20)), memory_bytes=1 << 28) as box:
        assert box.score("1", {}, ["a"]) == {"acc": 1 << 20}


def nest(depth=0):
    return nest(depth + 1)


@pytest.mark.parametrize(
    "act",
    [
        lambda doc: sys.exit(0),
        lambda doc: os._exit(0),
        lambda doc: os.kill(os.getpid(), signal.SIGKILL),
        lambda doc: os.abort(),
        lambda doc: nest(),
    ],
    ids=["exit", "_exit", "SIGKILL", "abort", "recursion"],
)
def test_an_item_that_ends_the_process_is_unscored_and_the_next_one_is_not(act):
    def score(doc, responses):
        return {"acc": {"": 0, "right": 1}.get(responses[0]) if responses[0] != "hostile" else act(doc)}

    with Sandbox("t", score) as box:
        answers = [("1", "right"), ("2", "hostile"), ("3", "right"), ("4", "hostile"), ("2", "hostile")]
        assert [box.score(key, {}, [answer])["acc"] for key, answer in answers] == [1, 0, 1, 0, 0]
        assert box.unscored == ["2", "4"]


def test_an_exception_of_the_scorer_names_task_item_and_fault_on_one_line():
    def score(doc, responses):
        return {"acc": doc["answer\n\x1b[31m"]} if responses[0] == "bad" else {"acc": 1}

    with Sandbox("wemath", score) as box:
        with pytest.raises(ScorerError) as caught:
            box.score("row 3", {}, ["bad"])
        assert str(caught.value) == r"wemath: the scorer fails on row 3: KeyError: 'answer\n\x1b[31m'"
        assert box.score("row 4", {}, ["good"]) == {"acc": 1}
        assert box.unscored == []


def test_what_an_exception_says_cannot_steer_the_terminal():
    def score(doc, responses):
        raise ValueError("two\nlines\x1b[31m")

    with Sandbox("t", score) as box, pytest.raises(ScorerError, match=r"ValueError: two lines \[31m$"):
        box.score("1", {}, ["a"])


def test_metrics_that_are_no_json_are_an_error_of_the_scorer():
    with Sandbox("t", lambda doc, responses: {"acc": {1, 2}}) as box, pytest.raises(ScorerError, match="TypeError"):
        box.score("1", {}, ["a"])


def test_a_scorer_that_cannot_bear_an_empty_response_is_an_error():
    with Sandbox("t", lambda doc, responses: os._exit(3)) as box, pytest.raises(ScorerError, match="empty response"):
        box.score("1", {}, ["a"])


def test_a_process_killed_between_two_items_costs_no_item_its_score():
    with Sandbox("t", length) as box:
        box.score("1", {}, ["four"])
        first = box.pid
        os.kill(first, signal.SIGKILL)
        assert is_gone(first)
        assert box.score("2", {}, ["three"])["length"] == 5
        assert box.pid != first
        assert box.unscored == []


def test_guesses_depend_on_the_item_and_nothing_else():
    def guess(doc, responses):
        return {"guess": random.random()}

    with Sandbox("t", guess) as box:
        first = [box.score(key, {}, ["a"])["guess"] for key in ("1", "2", "3")]
    state = random.getstate()
    with Sandbox("t", guess) as box:
        resumed = [box.score(key, {}, ["a"])["guess"] for key in ("3", "2")]
    assert resumed == [first[2], first[1]]
    assert len(set(first)) == 3
    assert random.getstate() == state


def test_what_the_scorer_changes_stays_in_its_process(monkeypatch):
    monkeypatch.setenv("LIMIT", "1")
    with sandbox(lambda doc: os.environ.update(LIMIT="2") or 1) as box:
        box.score("1", {}, ["a"])
    assert os.environ["LIMIT"] == "1"


@pytest.fixture
def interruptible():
    """Python's own answer to SIGINT, which the workers of pytest-xdist switch off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_an_item_is_scored_leaves_no_reply_for_the_next():
    def score(doc, responses):
        if responses[0] == "interrupt":
            os.kill(os.getppid(), signal.SIGINT)
            time.sleep(0.2)
        return {"response": responses[0]}

    with Sandbox("t", score) as box:
        box.score("1", {}, ["a"])
        first = box.pid
        with pytest.raises(KeyboardInterrupt):
            box.score("2", {}, ["interrupt"])
        assert is_gone(first)
        assert box.score("3", {}, ["b"]) == {"response": "b"}


def test_the_terminals_interrupt_does_not_reach_the_process():
    with sandbox(lambda doc: [os.kill(os.getpid(), signal.SIGINT), os.getpgid(0) == os.getpid()][1]) as box:
        assert box.score("1", {}, ["a"]) == {"acc": True}


def test_what_the_scorer_prints_goes_to_the_log_and_not_to_the_terminal(tmp_path, capfd):
    def score(doc, responses):
        print("noise", "\ud800")
        os.write(2, b"more noise\n")
        return {}

    with Sandbox("t", score, log=tmp_path / "scorer.log") as box:
        box.score("1", {}, ["a"])
        box.score("2", {}, ["a"])
    with Sandbox("t", score) as box:
        box.score("3", {}, ["a"])
    assert (tmp_path / "scorer.log").read_text() == "noise \\ud800\nmore noise\n" * 2
    assert capfd.readouterr() == ("", "")


def test_the_process_holds_none_of_the_parents_files(tmp_path):
    def can_write(doc):
        try:
            return os.write(doc["fd"], b"forged")
        except OSError:
            return "closed"

    with (tmp_path / "journal").open("w") as journal, sandbox(can_write) as box:
        assert box.score("1", {"fd": journal.fileno()}, ["a"]) == {"acc": "closed"}
    assert (tmp_path / "journal").read_text() == ""


def say(text):
    """Write into the pipe to the parent, as code that took over the process could."""
    for fd in range(3, 256):
        try:
            os.write(fd, text)
        except OSError:
            continue


@pytest.mark.parametrize(
    "forged",
    [
        b"\x80\x04.\n",
        b"[" * 100_000 + b"\n",
        b"[1]\n",
        b"{}\n",
        b'{"metrics": 1}\n',
        b'{"metrics": {}}\n{"metrics": {}}\n',
    ],
    ids=["pickle", "deep", "list", "empty", "number", "two"],
)
def test_a_reply_that_makes_no_sense_is_never_a_score(forged):
    with sandbox(lambda doc: [say(forged), os._exit(0)]) as box:
        assert box.score("1", {}, ["a"]) == {"acc": 0}
        assert box.unscored == ["1"]


def test_words_that_nobody_asked_for_do_not_answer_the_next_item():
    def score(doc, responses):
        if responses[0] == "forge" and os.fork() == 0:
            time.sleep(0.05)
            say(b'{"metrics": {"length": 99}}\n')
            os._exit(0)
        return length(doc, responses)

    with Sandbox("t", score) as box:
        assert box.score("1", {}, ["forge"])["length"] == 5
        time.sleep(0.3)
        assert box.score("2", {}, ["four"])["length"] == 4


def test_close_ends_the_process_and_what_it_started():
    def start(doc):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        return child

    with sandbox(start) as box:
        started, pid = box.score("1", {}, ["a"])["acc"], box.pid
    assert is_gone(pid)
    assert is_gone(started)
    assert box.pid is None
    box.close()


@linux
def test_the_process_dies_with_a_parent_that_is_killed(tmp_path):
    note = tmp_path / "pid"
    parent = os.fork()
    if parent == 0:
        try:
            act = lambda doc: [note.write_text(f"{os.getpid()}\n"), time.sleep(60)]  # noqa: E731
            sandbox(act).score("1", {}, ["a"])
        finally:
            os._exit(0)
    deadline = time.monotonic() + 5
    while not (note.exists() and note.read_text().endswith("\n")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert is_gone(int(note.read_text()))
