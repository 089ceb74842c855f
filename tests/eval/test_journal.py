"""The journal: kills and full disks lose at most the answer in flight; an answer counts for its own question alone."""

import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest
from PIL import Image

from core.errors import InputError
from eval.journal import Journal, sole
from eval.questions import Answer, Question

ANSWER = Answer("so it is 7", n_prompt_tokens=30, n_tokens=5, truncated=False)
LINE = (
    b'{"task": "mmmu", "row": 3, "seed": 0, "digest": "%s", "text": "so it is 7", '
    b'"n_prompt_tokens": 30, "n_tokens": 5, "truncated": false}\n'
)


def question(row=3, *, text="What is x?", color="red", **names):
    messages = ({"role": "user", "content": [{"type": "text", "text": text}, {"type": "image"}]},)
    return Question(
        **({"task": "mmmu", "seed": 0} | names), row=row, messages=messages, images=(Image.new("RGB", (4, 4), color),)
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.jsonl"


@contextmanager
def room(n_bytes):
    """Let no file grow beyond a size, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_answer_is_one_line_and_on_disk_before_add_returns(path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    expected = LINE % question().digest.encode()
    with Journal(path) as journal:
        synced.clear()
        journal.add(question(), ANSWER)
        assert path.read_bytes() == expected
        assert synced == [len(expected)]


def test_an_answer_is_there_when_the_journal_is_opened_again(path):
    with Journal(path) as journal:
        assert (journal.resumed, journal.get(question())) == (0, None)
        journal.add(question(), ANSWER)
        assert journal.get(question()) == ANSWER
    with Journal(path) as journal:
        assert (journal.resumed, journal.unreadable) == (1, 0)
        assert journal.get(question()) == ANSWER


@pytest.mark.parametrize(
    "other",
    [
        question(4),
        question(task="mmmu_reasoning"),
        question(seed=1),
        question(text="What is y?"),
        question(color="blue"),
    ],
    ids=["row", "task", "seed", "text", "picture"],
)
def test_an_answer_does_not_count_for_another_question(path, other):
    with Journal(path) as journal:
        journal.add(question(), ANSWER)
    with Journal(path) as journal:
        assert journal.get(other) is None
        journal.add(other, replace(ANSWER, text="other"))
    with Journal(path) as journal:
        assert (journal.get(question()).text, journal.get(other).text) == ("so it is 7", "other")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\nb\r\nc\u2028d\u0085e\x0bf",
        "\x00\x1b[31m",
        "\ud800 and \udfff",
        "\U0001f600 λ",
        '"},\n{"task": "mmmu"',
        "9" * 200_000,
        "\x00\ud800" * 100_000,
    ],
    ids=["empty", "line ends", "controls", "surrogates", "wide", "json", "200 kB", "200 kB of the worst"],
)
def test_a_text_may_hold_anything(path, text):
    with Journal(path) as journal:
        journal.add(question(), replace(ANSWER, text=text, truncated=True))
    with Journal(path) as journal:
        assert journal.get(question()) == replace(ANSWER, text=text, truncated=True)
    assert path.read_bytes().count(b"\n") == 1


def test_a_last_line_torn_anywhere_is_cut_off_and_its_answer_can_be_added_again(path):
    with Journal(path) as journal:
        journal.add(question(1), ANSWER)
        first = path.read_bytes()
        journal.add(question(2), ANSWER)
    both = path.read_bytes()
    for end in range(len(first) + 1, len(both), 7):
        path.write_bytes(both[:end])
        with Journal(path) as journal:
            assert (journal.resumed, journal.unreadable) == (1, 0)
            assert path.read_bytes() == first
            journal.add(question(2), ANSWER)
        assert path.read_bytes() == both


def test_lines_that_are_no_answers_are_counted_and_left_alone(path):
    good = json.loads(LINE % question().digest.encode())
    foreign = [
        b"",
        b"no json",
        b"\xff\xfe\x00",
        b"\x00" * 4096,
        b"[" * 100_000,
        b"9" * 5000,
        b"null",
        b'["task"]',
        b"{}",
        *(
            json.dumps({name: other for name, other in good.items() if name != missing}).encode()
            for missing in ("row", "text")
        ),
        *(
            json.dumps(good | wrong).encode()
            for wrong in ({"row": "3"}, {"row": True}, {"text": None}, {"truncated": 0}, {"n_tokens": 5.0})
        ),
    ]
    content = b"".join(line + b"\n" for line in foreign) + LINE % question().digest.encode()
    path.write_bytes(content)
    with Journal(path) as journal:
        assert (journal.resumed, journal.unreadable) == (1, len(foreign))
        assert journal.get(question()) == ANSWER
        assert path.read_bytes() == content


def test_the_first_answer_to_a_question_is_never_changed(path):
    line = LINE % question().digest.encode()
    path.write_bytes(line + line.replace(b"so it is 7", b"so it is 8"))
    with Journal(path) as journal:
        assert journal.resumed == 1
        assert journal.get(question()) == ANSWER
        journal.add(question(), replace(ANSWER, text="so it is 9"))
        assert journal.get(question()) == ANSWER
    assert b"so it is 9" not in path.read_bytes()


def test_a_full_disk_loses_only_the_answer_that_found_no_room(path):
    with Journal(path) as journal:
        journal.add(question(1), ANSWER)
        first = path.read_bytes()
        with room(len(first) + 100), pytest.raises(InputError, match="nothing already written is lost") as caught:
            journal.add(question(2), replace(ANSWER, text="long" * 1000))
        assert path.read_bytes() == first, "half a line is left"
        assert journal.get(question(2)) is None
        journal.add(question(2), ANSWER)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with Journal(path) as journal:
        assert (journal.resumed, journal.unreadable) == (2, 0)


def test_a_journal_that_cannot_be_opened_is_told_in_one_line(tmp_path):
    for path in (tmp_path / "none" / "answers.jsonl", tmp_path):
        with pytest.raises(InputError, match=r"cannot be written: .*; nothing already written is lost; ") as caught:
            Journal(path)
        assert "\n" not in str(caught.value)


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
from core.errors import InputError
from eval.journal import Journal, sole
from eval.questions import Answer, Question

def question(row):
    return Question("mmmu", row, 0, (), ())

folder, (read_end, write_end) = Path(sys.argv[1]), os.pipe()
os.set_blocking(read_end, False)
moments = random.Random(0)
for attempt in range(20):
    pid = os.fork()
    if pid == 0:
        with sole(folder), Journal(folder / "answers.jsonl") as journal:
            os.write(write_end, b"opened ")
            for row in range(journal.resumed, 10**6):
                journal.add(question(row), Answer(f"{row} " * 40_000, 1, 1, False))
                os.write(write_end, b"%d " % row)
    while True:
        try:
            said = os.read(read_end, 100_000)
            break
        except BlockingIOError:
            time.sleep(0.001)
    try:
        with sole(folder):
            print("two writers")
    except InputError as error:
        assert "is being written by another process" in str(error), error
    time.sleep(moments.uniform(0.0, 0.02))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        said += os.read(read_end, 1_000_000)
    except BlockingIOError:
        pass
    last = max((int(word) for word in said.split() if word != b"opened"), default=-1)
    torn = not (folder / "answers.jsonl").read_bytes()[-1:] in (b"", b"\\n")
    with sole(folder), Journal(folder / "answers.jsonl") as journal:
        whole = all(journal.get(question(row)).text == f"{row} " * 40_000 for row in range(journal.resumed))
        print(last, journal.resumed, journal.unreadable, int(whole), int(torn))
"""


def test_twenty_kills_lose_at_most_the_line_in_flight_and_free_the_folder(tmp_path):
    folder = tmp_path / "a"
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rounds = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(rounds) == 20
    acknowledged = 0
    for last, resumed, unreadable, whole, _ in rounds:
        acknowledged = max(acknowledged, last + 1)
        assert resumed - acknowledged in (0, 1)
        assert (unreadable, whole) == (0, 1)
        acknowledged = resumed
    assert acknowledged >= 10
    assert os.listdir(folder) == ["answers.jsonl"]


def test_a_folder_is_one_writers_at_a_time_and_nothing_is_left_in_it(tmp_path):
    folder = tmp_path / "evals" / "a"
    with sole(folder):
        with pytest.raises(InputError, match="is being written by another process; stop that one first"), sole(folder):
            pytest.fail("two writers")
        with sole(tmp_path / "evals" / "b"):
            pass
    with sole(folder):
        pass
    assert os.listdir(folder) == []


def test_an_error_of_the_work_in_the_folder_is_not_told_as_one_of_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="mine"), sole(tmp_path):
        raise FileNotFoundError("mine")


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written: Not a directory"), sole(tmp_path / "file" / "a"):
        pass
