"""The verifier R(x, y): reads the answer of a response and compares it with the true one, however hostile the text."""

import json
import re
import subprocess
import sys
import threading
from fractions import Fraction
from functools import lru_cache
from itertools import starmap
from pathlib import Path
from typing import Literal, Self

from core.rollouts import Verdict

RewardScheme = Literal["binary", "weighted"]

MAX_ANSWER_CHARACTERS = 200
"""Longer answers are wrong unless they are the true one letter by letter."""

TOLERANCE = 1e-6
"""Two numbers of which one is no integer are the same up to this part of the larger one."""

_BOX_OR_BRACE = re.compile(r"\\{1,3}(?P<box>boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_SILENT = re.compile(r"\\(?:left|right)(?![a-zA-Z])|\\[,;:! ]|\$|°|\^\{?\\circ\}?")
"""LaTeX that does not change an answer: sized brackets, spacing, dollars, and degrees (12° counts as 12)."""

_LOOSE_SPACE = re.compile(r"(?<!\w)\s+|\s+(?!\w)")
_NUMBER = re.compile(r"([+-]?)(\d{1,3}(?:,\d{3})+|\d+)?(\.\d*)?(e[+-]?\d{1,2})?", re.ASCII)
_FRACTION = re.compile(r"([+-]?)(?:\\frac\{(\d+)\}\{(\d+)\}|(\d+)/(\d+))", re.ASCII)
_TOO_COSTLY = re.compile(r"\d[\s})]*\^[\s{(]*\d+[\s})]*\^|\^[\s{(+-]*\d{4,}|\d{13,}|!|\*\*")
"""Towers of powers, large powers, huge integers and factorials: refused before math-verify computes them."""


def without_thoughts(text: str) -> str:
    """Drop every closed ``<think>..</think>``; the first may have been opened by the generation prompt."""
    *thoughts, rest = text.split("</think>")
    return "".join(thought.partition("<think>")[0] for thought in thoughts if "<think>" in thought) + rest


def extract_boxed(text: str) -> str | None:
    r"""Return the stripped content of the last balanced ``\boxed{}`` (or ``\fbox{}``) outside of thoughts.

    "Last" is the one that opens last, so the inner one of two nested boxes. Linear in the length of the text.
    """
    text = without_thoughts(text)
    open_braces: list[tuple[bool, int]] = []
    start, end = -1, -1
    for match in _BOX_OR_BRACE.finditer(text):
        if match[0] == "}":
            is_box, opened = open_braces.pop() if open_braces else (False, -1)
            if is_box and opened > start:
                start, end = opened, match.start()
        elif match[0].endswith("{") and (match["box"] or match[0] == "{"):
            open_braces.append((match["box"] is not None, match.end()))
    return text[start:end].strip() if start >= 0 else None


def reward(verdict: Verdict, scheme: RewardScheme) -> float:
    """Turn a verdict into R(x, y): 0 or 1, or 0.9 accuracy + 0.1 format as in CEPO's released code."""
    if scheme == "binary":
        return float(verdict.is_correct)
    return 0.9 * verdict.is_correct + 0.1 * verdict.is_formatted


class Verifier:
    """Compares answers: as text, then as numbers, then with math-verify in a process of its own.

    The process is started by the first answer that needs it, ends itself at the time limit, is then replaced, and
    serves all threads in turn. Plain numbers never need it. Close it, or use the verifier in a ``with`` statement.

    Args:
        time_limit: Seconds that math-verify may spend on one comparison; beyond, the answers are not equal.
    """

    def __init__(self, time_limit: float = 1.0) -> None:
        self.time_limit = time_limit
        self.timeouts = 0
        """Comparisons that ended the process: too slow, too large, or too deep."""
        self._worker: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._ask = lru_cache(maxsize=4096)(self._ask_worker)  # a group repeats its answers, hostile ones too

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the worker process, if one runs."""
        with self._lock:
            self._stop_worker()

    def verify(self, text: str, answer: str) -> Verdict:
        """Judge one response against the true answer."""
        boxed = extract_boxed(text)
        return Verdict(
            is_correct=boxed is not None and self.same_answer(boxed, answer), is_formatted=bool(boxed), answer=boxed
        )

    def same_answer(self, a: str, b: str) -> bool:
        """Whether answer ``a`` is the true answer ``b``; what cannot be read is not."""
        if a == b:
            return bool(a.strip())
        if max(len(a), len(b)) > MAX_ANSWER_CHARACTERS:
            return False
        a, b = _normalise(a), _normalise(b)
        if not a or not b or a == b:
            return bool(a) and a == b
        if numbers := _as_numbers(a, b):
            return any(starmap(_same_number, numbers))
        return not _is_too_costly(a, b) and self._ask("same_answer", a, b)

    def near(self, a: str, b: str, rel: float = 0.01) -> bool:
        """Whether both answers are numbers and at most ``rel`` of the larger one apart."""
        if max(len(a), len(b)) > MAX_ANSWER_CHARACTERS:
            return False
        a, b = _normalise(a), _normalise(b)
        if numbers := _as_numbers(a, b):
            return any(_within(rel, first, second) for first, second in numbers)
        return not _is_too_costly(a, b) and self._ask("near", a, b, rel)

    def _ask_worker(self, *question: str | float) -> bool:
        with self._lock:
            worker = self._worker = self._worker or self._start_worker()
            assert worker.stdin is not None
            assert worker.stdout is not None
            reply = ""
            try:
                print(json.dumps(question), file=worker.stdin, flush=True)
                reply = worker.stdout.readline()
            except BrokenPipeError:
                pass  # it was ended from outside between two questions
            finally:
                if not reply:  # ended by its clock, or we were interrupted: its reply must not meet the next question
                    self._stop_worker()
            self.timeouts += not reply
            return reply == "1\n"

    def _start_worker(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-P", str(Path(__file__).with_name("math_worker.py")), str(self.time_limit)]
        worker = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            process_group=0,  # Ctrl-C is for the trainer, which still has a step to finish
        )
        assert worker.stdout is not None
        if worker.stdout.readline() != "ready\n":
            worker.kill()
            worker.communicate()
            raise RuntimeError(f"math-verify did not start; run `{' '.join(command)}` to see why")
        return worker

    def _stop_worker(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker.communicate()
            self._worker = None


def _normalise(text: str) -> str:
    """Drop what does not change an answer: invisible characters, silent LaTeX, spaces beside symbols."""
    text = "".join(character for character in text if character.isprintable() or character.isspace())
    text = _SILENT.sub("", text).replace("−", "-").replace("{,}", ",")
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    return _LOOSE_SPACE.sub("", text).strip()


def _as_numbers(a: str, b: str) -> tuple[tuple[Fraction, Fraction], ...]:
    """Pair the readings of two answers; empty when one is not a plain number.

    50% reads as one half, and against a number without the sign also as 50, for questions that ask how many percent.
    """
    first, second = (_number(text.removesuffix("%").removesuffix("\\")) for text in (a, b))
    if first is None or second is None:
        return ()
    match a.endswith("%"), b.endswith("%"):
        case (True, False):
            return (first, second), (first / 100, second)
        case (False, True):
            return (first, second), (first, second / 100)
    return ((first, second),)


def _number(text: str) -> Fraction | None:
    """Read a plain decimal or a quotient of integers, exactly; None is everything else."""
    if match := _FRACTION.fullmatch(text):
        sign, *digits = (part for part in match.groups() if part is not None)
        numerator, denominator = map(int, digits)
        return Fraction(-numerator if sign == "-" else numerator, denominator) if denominator else None
    if (match := _NUMBER.fullmatch(text)) and any(character.isdigit() for character in text):
        sign, integer, decimals, exponent = match.groups(default="")
        has_digits = integer or len(decimals) > 1
        return Fraction(f"{sign}{integer.replace(',', '') or 0}{decimals}{exponent}") if has_digits else None
    return None


def _same_number(a: Fraction, b: Fraction) -> bool:
    if a.denominator == b.denominator == 1:
        return a == b
    return _within(TOLERANCE, a, b)


def _within(rel: float, a: Fraction, b: Fraction) -> bool:
    return abs(a - b) <= rel * max(abs(a), abs(b))


def _is_too_costly(*answers: str) -> bool:
    return any(_TOO_COSTLY.search(answer) for answer in answers)
