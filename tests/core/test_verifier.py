"""The verifier: what counts as an answer, what counts as the same answer, and hostile text in bounded time."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rollouts import Verdict
from core.verifier import Verifier, extract_boxed, reward

SIZE = 100_000
HOSTILE = {
    "open boxes": "\\boxed{" * 15_000,
    "open braces": "{" * 50_000,
    "closed braces": "}" * SIZE,
    "deep box": "\\boxed{" + "{" * 45_000 + "}" * 45_001,
    "nested boxes": "\\boxed {" * 9_000 + "9" + "}" * 9_000,
    "backslashes": "\\" * SIZE,
    "box without brace": "\\boxed" + " " * SIZE,
    "open thoughts": "<think>" * 15_000,
    "closed thoughts": "</think>" * 12_000,
    "control characters": "\x00\x1b\u202e\u200f" * 25_000,
    "long answer": "\\boxed{" + "9" * SIZE + "}",
    "many boxes": "\\boxed{9^{9^9}}" * 6_000,
    "lone surrogates": "\\boxed{\ud800" + "\udfff" * 150 + "}",
}


@pytest.fixture(scope="module")
def verifier():
    with Verifier(time_limit=1.0) as verifier:
        verifier.same_answer(r"\sqrt{18}", r"3\sqrt{2}")  # start the process once
        yield verifier


@pytest.fixture
def without_worker(monkeypatch):
    """Return a verifier that may not start its process."""
    verifier = Verifier()
    monkeypatch.setattr(verifier, "_start_worker", lambda: pytest.fail("the process was started"))
    return verifier


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{12}", "12"),
        (r"first \boxed{3}, then \boxed{4}", "4"),
        (r"\boxed{ \frac{1}{2} }", r"\frac{1}{2}"),
        (r"\boxed {7}", "7"),
        (r"\fbox{7}", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{a \} b}", r"a \} b"),
        (r"\boxed{x = \boxed{5}}", "5"),
        (r"a set {1, 2 and \boxed{5}", "5"),
        (r"} \boxed{5} {", "5"),
        (r"\boxed{3} and \boxed{4", "3"),
        (r"line \\\boxed{5}", "5"),
        (r"\boxed{}", ""),
        (r"\boxed{4", None),
        (r"\boxed 4", None),
        (r"\boxedness{4}", None),
        ("the answer is 12", None),
        ("", None),
        (r"<think>\boxed{3}</think>\boxed{4}", "4"),
        (r"\boxed{4}<think>\boxed{3}</think>", "4"),
        (r"<think>\boxed{3}</think> none", None),
        (r"opened by the prompt \boxed{3}</think> none", None),
        (r"<think>a<think>b</think>\boxed{3}</think>\boxed{4}", "4"),
        (r"<think>never closed \boxed{3}", "3"),
    ],
)
def test_the_answer_is_the_last_balanced_box_outside_of_thoughts(text, answer):
    assert extract_boxed(text) == answer


@given(st.text(alphabet="{}\\ab 1", max_size=30).filter(lambda text: "\\" not in text))
def test_any_balanced_content_is_read_back_and_an_unbalanced_one_never_misreads(content):
    depth = 0
    for character in content:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            break
    if depth == 0:
        assert extract_boxed(f"text \\boxed{{{content}}} text") == content.strip()
    else:
        boxed = extract_boxed(f"text \\boxed{{{content}}} text")
        assert boxed is None or boxed.count("{") == boxed.count("}")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_responses_are_judged_in_half_a_second_without_the_process(text, without_worker):
    start = time.perf_counter()
    verdict = without_worker.verify(text, "12")
    assert time.perf_counter() - start < 0.5
    assert not verdict.is_correct


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ("12", "12"),
        ("12.0", "12"),
        ("12.", "12"),
        ("+12", "12"),
        ("−12", "-12"),
        ("- 12", "-12"),
        ("012", "12"),
        ("1,234", "1234"),
        ("1,234.50", "1234.5"),
        ("10{,}000", "10000"),
        (r"10\,000", "10000"),
        ("1/2", "0.5"),
        (".5", r"\frac{1}{2}"),
        (r"-\dfrac{1}{2}", "-1/2"),
        ("0.33333333", "1/3"),
        ("1e3", "1000"),
        ("$12$", "12"),
        ("12°", "12"),
        (r"12^\circ", "12"),
        (r"12^{\circ}", "12"),
        (r"50\%", "0.5"),
        ("50%", "50"),
        ("0.5", r"50\%"),
        ("50%", r"50\%"),
        (r"\left(1, 2\right)", "(1,2)"),
        ("A", "A"),
        (" A ", "A"),
        ("\u200b12\u202e", "12"),
    ],
)
def test_equal_text_and_equal_numbers_need_no_process(answer, truth, without_worker):
    assert without_worker.same_answer(answer, truth)


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ("", ""),
        ("", "12"),
        (" ", " "),
        ("12", "13"),
        ("12", "-12"),
        ("12.1", "12"),
        ("0.333", "1/3"),
        ("1234567", "1234568"),
        ("12345678901234567890", "12345678901234567891"),
        (r"50\%", r"0.5\%"),
        ("9" * 199, "12"),
        ("9^{9^{9^9}}", "12"),
        ("9^9^9^9", "12"),
        ("{9^9}^9", "12"),
        (r"x^{9^{9^{9}}}", "12"),
        ("2^{99999}", "12"),
        ("10000000000!", "12"),
        ("1" * 20 + " cm", "12"),
        ("9**9**9", "12"),
    ],
)
def test_different_numbers_and_answers_too_costly_to_compute_are_not_the_same(answer, truth, without_worker):
    assert not without_worker.same_answer(answer, truth)
    assert not without_worker.same_answer(truth, answer)


@pytest.mark.parametrize(
    ("answer", "truth", "same"),
    [
        (r"\sqrt{18}", r"3\sqrt{2}", True),
        (r"6/\sqrt2", r"3\sqrt{2}", True),
        ("12 cm", "12", True),
        (r"12\text{ cm}", "12", True),
        ("x=5", "5", True),
        ("5", "x=5", True),
        ("2^{10}", "1024", True),
        (r"\{1,2\}", r"\{2,1\}", True),
        ("(A)", "A", True),
        (r"1\frac12", "1.5", True),
        ("1+x", "x+1", True),
        ("e^{x^2}", "e^{x^{2}}", True),
        ("1 1/2", "11/2", False),
        ("4.243", r"3\sqrt{2}", False),
        ("6.28", r"2\pi", False),
        ("B", "A", False),
        (r"\{1,2\}", r"\{1,3\}", False),
        ("}{", "12", False),
        ("1/0", "0", False),
        ("0/0", "0", False),
        ("\\ud800", "12 cm", False),
        ("\x00\x1b[31m12x", "12 cm", False),
        ("12, 13", "12", False),
    ],
)
def test_other_answers_are_compared_by_math_verify(answer, truth, same, verifier):
    assert verifier.same_answer(answer, truth) is same


@pytest.mark.parametrize(
    ("a", "b", "near"),
    [
        ("100", "101", True),
        ("100", "-101", False),
        ("100", "102", False),
        ("0", "0.001", False),
        ("0", "0", True),
        ("4.24", r"3\sqrt{2}", True),
        ("4.6", r"3\sqrt{2}", False),
        ("x = 4.24", r"3\sqrt{2}", True),
        ("A", "B", False),
        ("(1, 2)", "(1, 2.001)", False),
        (r"2+\sqrt{-4}", "2", False),
        ("9^{9^{9^9}}", "12", False),
        ("1" * 300, "1" * 300, False),
        ("", "12", False),
    ],
)
def test_near_means_two_numbers_one_percent_apart_at_most(a, b, near, verifier):
    assert verifier.near(a, b) is near
    assert verifier.near(b, a) is near


@given(st.integers(-(10**6), 10**6), st.integers(0, 6))
def test_a_number_equals_itself_however_it_is_written(value, zeros):
    verifier = Verifier()
    for written in (f"{value}.{'0' * zeros}", f"{value:,}", f"{2 * value}/2", f"x{value}"[1:]):
        assert verifier.same_answer(written, str(value))
    assert not verifier.same_answer(str(value + 1), str(value))


def test_a_comparison_beyond_the_time_limit_is_counted_and_the_next_one_is_right():
    with Verifier(time_limit=0.5) as verifier:
        assert verifier.same_answer("12 cm", "12")
        start = time.perf_counter()
        assert not verifier.same_answer(r"\binom{999999}{499999}", r"3\pi")
        assert time.perf_counter() - start < 1.5
        assert verifier.timeouts == 1
        assert verifier.same_answer("13 cm", "13")
        start = time.perf_counter()
        assert not verifier.same_answer(r"\binom{999999}{499999}", r"3\pi")
        assert time.perf_counter() - start < 0.1, "a repeated answer is not computed again"


def test_a_process_ended_from_outside_loses_one_comparison_at_most(verifier):
    worker = verifier._worker
    worker.kill()
    worker.wait()
    assert not verifier.same_answer("14 cm", "14")
    assert verifier.same_answer("15 cm", "15")


def test_any_thread_may_verify_while_others_do(verifier):
    verdicts = {}

    def judge(number):
        verdicts[number] = verifier.verify(f"\\boxed{{{number} cm}}", str(number + number % 2)).is_correct

    threads = [threading.Thread(target=judge, args=(number,)) for number in range(100, 116)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == {number: number % 2 == 0 for number in range(100, 116)}


def test_closing_ends_the_process():
    verifier = Verifier()
    with verifier:
        verifier.same_answer("12 cm", "12")
        worker = verifier._worker
    assert worker is not None
    assert worker.poll() is not None


def test_rewards_are_binary_or_the_released_mixture():
    right, wrong, unboxed = Verdict(True, True, "12"), Verdict(False, True, "13"), Verdict(False, False, None)
    assert [reward(verdict, "binary") for verdict in (right, wrong, unboxed)] == [1.0, 0.0, 0.0]
    assert [reward(verdict, "weighted") for verdict in (right, wrong, unboxed)] == [1.0, 0.1, 0.0]


def test_an_empty_or_cut_box_is_no_format(without_worker):
    assert without_worker.verify(r"\boxed{12}", "12") == Verdict(True, True, "12")
    assert without_worker.verify(r"\boxed{ }", "12") == Verdict(False, False, "")
    assert without_worker.verify(r"\boxed{12", "12") == Verdict(False, False, None)
