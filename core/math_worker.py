"""The process in which ``core.verifier`` runs math-verify: one JSON line in, one character and a newline out.

It is started by its path, not as a module, so that it never imports torch. A question that takes too long ends
the process: the kernel's clock works where Python's cannot, inside one huge power, and nobody has to watch it.
"""

import json
import logging
import resource
import signal
import sys
from typing import Any

import sympy
from math_verify import parse, verify

START_SECONDS = 60.0
MEMORY_BYTES = 2 << 30


def same_answer(answer: str, truth: str) -> bool:
    """Whether math-verify takes the answer for the truth."""
    return bool(verify(_parse(truth), _parse(answer), timeout_seconds=0))


def near(a: str, b: str, rel: float) -> bool:
    """Whether both are numbers, at most ``rel`` of the larger one apart."""
    first, second = _value(a), _value(b)
    return first is not None and second is not None and abs(first - second) <= rel * max(abs(first), abs(second))


def _parse(text: str) -> list[Any]:
    # A bare "A" or "(1, 2)" is only read as an answer when it stands in a box.
    return parse(f"\\boxed{{{text}}}", parsing_timeout=0)


def _value(text: str) -> float | None:
    """Read the number that a text stands for; the right-hand side of an equation counts."""
    parsed = next(iter(_parse(text)), None)
    number = parsed.rhs if isinstance(parsed, sympy.Equality) else parsed
    if not isinstance(number, sympy.Expr) or not number.is_number:
        return None
    value = complex(number.evalf())
    return value.real if value.imag == 0 else None


def main() -> None:
    """Answer questions until the standard input is closed."""
    time_limit = float(sys.argv[1])
    questions = {"same_answer": same_answer, "near": near}
    replies, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no reply
    logging.disable()
    if sys.platform == "linux":  # macOS refuses this limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.setitimer(signal.ITIMER_REAL, START_SECONDS)
    for answer in (r"\sqrt{18}", "x=5", r"\frac{1}{2}\text{ cm}", "(1, 2)", "2\\pi"):
        near(answer, r"3\sqrt{2}", 0.01)  # sympy's first time is slow
        same_answer(answer, "12")
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, time_limit)
        reply = questions[name](*arguments)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(int(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
