"""What lmms-eval's own scorers make of an answer, by hand, and that none of them can hang or break the evaluation."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from eval.sandbox import Sandbox
from eval.tasks import BENCHMARKS

pytest.importorskip("lmms_eval", reason="lmms-eval is installed apart from the rest")

OPTIONS = ["5", "2", "7", "9"]
WEMATH = {"ID": "1", "split": "testmini", "knowledge concept": "Area", "question number": "1", "question": "How many?"}
WEMATH |= {"knowledge concept description": "", "option": "A. 5; B. 2; C. 7; D. 9", "key": "2steps_1"}
MMMU = {"id": "validation_Math_1", "question": "How many?"}
DOCS = {
    "dynamath": lambda gold: {"question": "How many?", "ground_truth": gold, "question_id": "3_1", "id": "3"},
    "logicvista": lambda gold: {"question": "Which?", "answer": gold},
    "mathvision_mini": lambda gold: {"answer": gold, "options": OPTIONS if gold in tuple("ABCD") else []},
    "mmmu": lambda gold: _mmmu(gold),
    "mmmu_reasoning": lambda gold: _mmmu(gold),
    "wemath": lambda gold: WEMATH | {"answer": gold},
}
TAGGED = ["dynamath", "logicvista", "wemath", "mmmu_reasoning"]
CPU_SECONDS = 1.0


def _mmmu(gold):
    is_choice = gold in tuple("ABCD")
    return MMMU | {
        "answer": gold,
        "options": str(OPTIONS) if is_choice else "[]",
        "question_type": "multiple-choice" if is_choice else "open",
    }


@pytest.fixture(scope="module")
def official():
    """Functions of lmms-eval itself: `process_results` by our name of a benchmark, and what else is looked at."""
    from lmms_eval.api.reasoning import strip_reasoning_tags
    from lmms_eval.tasks.dynamath.reasoning.utils import dynamath_process_results
    from lmms_eval.tasks.logicvista.reasoning.utils import logicvista_reasoning_process_results
    from lmms_eval.tasks.mathvision import eval_utils
    from lmms_eval.tasks.mathvision.utils import mathvision_process_results
    from lmms_eval.tasks.mmmu.reasoning.utils import mmmu_reward_process_results
    from lmms_eval.tasks.mmmu.utils import evaluate_mmmu, mmmu_process_results
    from lmms_eval.tasks.wemath.reasoning import utils as wemath

    scorers = {
        "dynamath": dynamath_process_results,
        "logicvista": logicvista_reasoning_process_results,
        "mathvision_mini": mathvision_process_results,
        "mmmu": mmmu_process_results,
        "mmmu_reasoning": mmmu_reward_process_results,
        "wemath": wemath.wemath_reasoning_process_results,
    }
    return SimpleNamespace(
        scorers=scorers, strip=strip_reasoning_tags, mmmu=evaluate_mmmu, wemath=wemath, mathvision=eval_utils
    )


@pytest.fixture
def accuracy(official):
    """Score one answer to an item with the given right answer: 0 or 1."""

    def score(name, gold, answer):
        return _accuracy(official, name, official.scorers[name](DOCS[name](gold), [answer]))

    return score


def _accuracy(official, name, metrics):
    value = metrics[BENCHMARKS[name].headline]
    if name == "dynamath":
        return value["acc"]
    if name == "mathvision_mini":
        return value["scores"][0]
    return official.mmmu([value])[1]["acc"] if name == "mmmu" else value


@pytest.mark.parametrize("name", TAGGED)
@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        ("14", "<answer>14</answer>", 1),
        ("14", "<answer>14.</answer>", 1),
        ("14", "<answer>15</answer>", 0),
        ("14", "<answer>14</answer> or rather <answer>15</answer>", 1),
        ("14", "<answer>15</answer> or rather <answer>14</answer>", 0),
        ("14", r"<answer>14</answer> \boxed{15}", 1),
        ("14", r"\boxed{14} <answer>15</answer>", 0),
        ("14", r"\boxed{15}, no, \boxed{14}", 1),
        ("14", r"\boxed{14}, no, \boxed{15}", 0),
        ("14", r"\boxed{\text{about }\boxed{14}}", 1),
        ("14", "They add up to 14.", 1),
        ("14", "First 14\nthen nothing", 1),
        ("14", "There are 14 apples", 0),
        ("14", r"<answer>\frac{28}{2}</answer>", 1),
        ("0.5", r"\boxed{\frac{1}{2}}", 1),
        ("14", r"<answer>$\sqrt{196}$</answer>", 1),
        ("14", r"\boxed{\sqrt{196}}", 0),
        ("14", r"\boxed{\dfrac{28}{2}}", 0),
        ("14", r"\boxed{14\text{ cm}}", 1),
        ("B", "<answer>B</answer>", 1),
        ("B", r"\boxed{B}", 1),
        ("B", "<answer>(B) 2</answer>", 1),
        ("B", "<answer>C</answer>", 0),
        ("B", "B", 0),
        ("B", "The answer is B.", 0),
        ("Even", "<answer>Exponential</answer>", 1),
        ("Black", "<answer>Blue</answer>", 1),
        ("Black", "<answer>Red</answer>", 0),
        ("yes", "<answer>yes</answer>", 1),
        ("yes", "<answer>Yes</answer>", 0),
        ("B, C", "<answer>B</answer>", 1),
        ("B, C", "<answer>B, C</answer>", 1),
        ("B, C", "<answer>C</answer>", 0),
        ("14", "", 0),
    ],
)
def test_the_first_tag_then_the_last_box_then_a_trailing_number_is_the_answer(accuracy, name, gold, answer, expected):
    assert accuracy(name, gold, answer) == expected


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        ("14", r"\boxed{14}", True),
        ("14", r"\boxed{15}, no, \boxed{14}", True),
        ("14", r"\boxed{\frac{28}{2}}", True),
        ("14", r"\boxed{14.004}", True),
        ("14", r"\boxed{14.006}", False),
        ("14", r"\boxed{x = 14}", True),
        ("14", r"\boxed{14^\circ}", True),
        ("14", r"\boxed{\sqrt{196}}", False),
        ("14", "14", True),
        ("14", "The answer is 14.", True),
        ("14", "It is 14", True),
        ("14", "<answer>14</answer>", False),
        ("B", r"\boxed{B}", True),
        ("B", r"\boxed{b}", True),
        ("B", r"\boxed{(B)}", True),
        ("B", r"\boxed{2}", True),
        ("B", r"\boxed{C}", False),
        ("B", r"\boxed{7}", False),
        ("B", "B", True),
        ("B", "The answer is B.", True),
        ("B", "I choose (B).", True),
        ("B", "<answer>B</answer>", False),
        ("B", "", False),
    ],
)
def test_mathvision_wants_a_box_or_a_sentence_and_knows_no_tags(accuracy, gold, answer, expected):
    assert accuracy("mathvision_mini", gold, answer) is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("C", "C"),
        ("C.", "C"),
        ("(C)", "C"),
        ("The answer is C.", "C"),
        ("Not (A) but (C)", "C"),
        ("(C), although B is tempting", "C"),
        ("A triangle has three sides, so it must be the third one", "A"),
        ("After all these steps we see it is 7 without a doubt", "C"),
    ],
)
def test_mmmu_reads_letters_in_brackets_then_bare_ones_then_the_options_text(official, answer, expected):
    metrics = official.scorers["mmmu"](_mmmu("C"), [answer])
    assert metrics["mmmu_acc"]["parsed_pred"] == [expected]


@pytest.mark.parametrize("answer", [r"\boxed{C}", "<answer>C</answer>", "**C**", "", "Seven"])
def test_mmmu_guesses_where_it_cannot_read_boxes_tags_or_stars(official, answer):
    state = random.getstate()
    random.seed(0)
    guesses = {official.scorers["mmmu"](_mmmu("C"), [answer])["mmmu_acc"]["parsed_pred"][0] for _ in range(60)}
    random.setstate(state)
    assert guesses == set("ABCD")


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        ("14", "14", 1),
        ("14", "The result is 14.", 1),
        ("14", r"so \boxed{14}", 1),
        ("14", "14.004", 1),
        ("14", "15", 0),
        ("1400", "The total is 1,400 units", 1),
        ("tree", "It is a binary tree", 1),
        ("14", "", 0),
    ],
)
def test_mmmu_reads_open_answers_from_the_last_words(accuracy, gold, answer, expected):
    assert accuracy("mmmu", gold, answer) == expected


def test_the_other_mmmu_scorer_reads_boxes_and_tags_but_no_bare_letters(accuracy):
    answers = [r"\boxed{C}", "<answer>C</answer>", "<answer>(C) 7</answer>", "**C**", "(C)", "C"]
    assert [accuracy("mmmu_reasoning", "C", answer) for answer in answers] == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("<think>2 + 12</think><answer>14</answer>", 1.0),
        ("<think>2 + 12</think> so <answer>14</answer>", 1.0),
        ("<answer>14</answer>", 0.0),
        (r"\boxed{14}", 1.0),
        ("Two and twelve, which we were told above, add up to = 14", 0.8),
        ("14", 0.0),
    ],
)
def test_the_format_score_wants_a_thought_and_a_tag_or_a_box(official, answer, expected):
    assert official.scorers["logicvista"](DOCS["logicvista"]("14"), [answer])["format_score"] == expected


def test_math_verify_is_silently_off_in_threads_which_is_why_one_thread_scores(accuracy):
    answer = r"<answer>\frac{28}{2}</answer>"
    assert accuracy("dynamath", "14", answer) == 1
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(accuracy, "dynamath", "14", answer).result() == 0


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("<think>a</think><answer>14</answer>", "<answer>14</answer>"),
        ("<think>a</think> b <think>c</think> d", "b  d"),
        ("<analysis>a</analysis>14", "14"),
        ("opened by the prompt</think>14", "14"),
        ("<think>cut at the limit, so far <answer>14</answer>", "<think>cut at the limit, so far <answer>14</answer>"),
        ("<THINK>a</THINK>14", "<THINK>a</THINK>14"),
    ],
)
def test_thoughts_are_taken_off_before_scoring_unless_they_never_end(official, text, stripped):
    assert official.strip(text, [["<think>", "</think>"], ["<analysis>", "</analysis>"]]) == stripped


def test_wemath_divides_by_zero_for_a_weak_model_which_is_why_we_do_not_ask_for_those_metrics(official):
    keys = ["2steps_1", "2steps_2", "2steps_multi", "3steps_1", "3steps_2", "3steps_3", "3steps_multi"]
    docs = [DOCS["wemath"]("B") | {"ID": key[0], "key": key} for key in keys]

    def loose(answers):
        score = official.wemath.wemath_reasoning_process_results
        return official.wemath.wemath_aggregate_results_loose(
            [score(doc, [answer])["wemath_loose"] for doc, answer in zip(docs, answers, strict=True)]
        )

    with pytest.raises(ZeroDivisionError):
        loose([r"\boxed{C}"] * 7)
    assert loose([r"\boxed{B}"] * 7) == "100.00%"  # 2 problems of 525: the missing ones count as solved
    assert [metric["metric"] for metric in BENCHMARKS["wemath"].changes["metric_list"]] == ["acc_score", "format_score"]


HOSTILE = {
    "words": "a " * 100_000,
    "braces": "{" * 200_000,
    "digits": "9" * 200_000,
    "boxed digits": "\\boxed{" + "9" * 200_000 + "}",
    "boxes": "\\boxed{" * 28_000,
    "NUL": "\\boxed{\x00}" + "\x00" * 1000,
    "surrogates": "\\boxed{\ud800\udfff} the answer is \udc00",
    "tower": r"\boxed{9^{9^{9^{9}}}}",
}
STOPPED = {name: {"boxes"} for name in TAGGED}
STOPPED |= {"mathvision_mini": {"words", "braces", "tower"}, "mmmu": {"digits", "boxed digits"}}
"""What takes a scorer minutes, or for ever."""


@pytest.mark.parametrize("name", STOPPED)
def test_hostile_answers_are_wrong_in_bounded_time_and_the_next_item_is_scored(official, name):
    with Sandbox(name, official.scorers[name], cpu_seconds=CPU_SECONDS) as box:
        for what, text in HOSTILE.items():
            start = time.monotonic()
            assert not _accuracy(official, name, box.score(what, DOCS[name]("14"), [text])), what
            assert time.monotonic() - start < 20 * CPU_SECONDS, what  # both cores may be busy with other tests
        assert STOPPED[name] <= set(box.unscored)
        assert _accuracy(official, name, box.score("right", DOCS[name]("14"), [r"\boxed{14}"])) == 1
        assert "right" not in box.unscored


def test_mmmus_guesses_are_the_same_when_the_evaluation_is_resumed(official):
    def guesses(keys):
        with Sandbox("mmmu", official.scorers["mmmu"]) as box:
            return [box.score(key, _mmmu("C"), [r"\boxed{C}"])["mmmu_acc"]["parsed_pred"] for key in keys]

    keys = [f"mmmu/{row}/0" for row in range(12)]
    whole = guesses(keys)
    assert guesses(keys[7:]) == whole[7:]
    assert len({guess for (guess,) in whole}) > 1


@pytest.mark.parametrize(
    "answer",
    [
        r"\boxed{\variable{__import__('os')._exit(3)}}",
        r"\boxed{__import__('os')._exit(3)}",
        r"\boxed{x_{__import__('os')._exit(3)}}",
        r"\boxed{f_{(1)if(0)else(quit(0))}(x)}",
        r"\boxed{(1,\mathit{quit}(0))}",
        r"\boxed{\operatorname{quit}(0)}",
        r"\boxed{d\quit(0)}",
        "exit(0)",
        "The answer is quit()",
    ],
)
def test_latex2sympy_lets_no_call_through_to_mathvisions_eval(official, answer):
    with Sandbox("mathvision_mini", official.scorers["mathvision_mini"]) as box:
        metrics = box.score("1", DOCS["mathvision_mini"]("14"), [answer])
        assert metrics["mathvision_standard_eval"] == {"response": [answer], "scores": [False]}
        assert box.unscored == []


@pytest.mark.parametrize(("answer", "evaluated"), [(r"\boxed{d\ir}", "dir"), (r"\boxed{1 < 2}", "1 < 2")])
def test_mathvisions_eval_does_see_names_and_comparisons_from_the_answer(official, monkeypatch, answer, evaluated):
    seen = []
    monkeypatch.setattr(official.mathvision, "eval", lambda code: [seen.append(code), eval(code)][1], raising=False)
    official.scorers["mathvision_mini"](DOCS["mathvision_mini"]("14"), [answer])
    assert evaluated in seen


def test_code_that_reached_mathvisions_eval_would_only_end_the_sandbox(official, monkeypatch):
    monkeypatch.setattr(official.mathvision, "latex2sympy", lambda text: text)
    with Sandbox("mathvision_mini", official.scorers["mathvision_mini"]) as box:
        metrics = box.score("1", DOCS["mathvision_mini"]("14"), [r"\boxed{__import__('os')._exit(3)}"])
        assert metrics["mathvision_standard_eval"]["scores"] == [False]
        assert box.unscored == ["1"]
        metrics = box.score("2", DOCS["mathvision_mini"]("14"), [r"\boxed{7*2}"])
        assert metrics["mathvision_standard_eval"]["scores"] == [True]
        assert box.unscored == ["1"]
