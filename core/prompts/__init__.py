"""What the student and the teachers are asked: Appendix B, OPSD's, SDPO's and the released code's wording."""

from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from jinja2 import Environment, FunctionLoader, StrictUndefined

from core.errors import InputError
from core.rollouts import Problem
from core.verifier import without_thoughts

TeacherStyle = Literal["sample_answer", "reference_solution", "correct_solution", "after_generation_prompt"]

IMAGE_MARKER = "<image>"
"""Where an image stands in a question; a question without markers shows its images first."""


@dataclass(frozen=True)
class Prompt:
    """One chat-templated prompt, as the student or a teacher reads it."""

    messages: tuple[dict[str, Any], ...]
    """For ``apply_chat_template(..., add_generation_prompt=True)``."""
    continuation: str = ""
    """Text between the generation prompt and the response."""


def student_prompt(problem: Problem) -> Prompt:
    """Ask the problem as the student sees it (Appendix B)."""
    return Prompt(_user_turn(problem, "student", keep_image=True))


def teacher_prompt(problem: Problem, hint: str, style: TeacherStyle, keep_image: bool = True) -> Prompt:
    """Ask the problem with a hint r⁺ or r⁻ that only a teacher sees (Appendix B).

    Args:
        problem: What the student was asked.
        hint: Data, often model output: chat control tokens in it are escaped, ``<|im_end|>`` becomes ``<\\|im_end|>``.
        style: ``sample_answer`` is Appendix B, ``reference_solution`` OPSD's text, ``correct_solution`` SDPO's
            (which leaves the thoughts of a demonstration out), ``after_generation_prompt`` what CEPO's released
            code does: the student's prompt, then the bare hint in front of the response.
        keep_image: False makes the teacher blind, as CEPO's released code does.
    """
    if style == "after_generation_prompt":
        return Prompt(_user_turn(problem, "student", keep_image), continuation=_as_data(f" {hint}"))
    if style == "correct_solution":
        hint = without_thoughts(hint).strip()
    return Prompt(_user_turn(problem, style, keep_image, hint=hint))


def _user_turn(problem: Problem, template: str, keep_image: bool, **fields: str) -> tuple[dict[str, Any], ...]:
    """Render one user turn: its image parts where the question has markers, its text parts between them."""
    *heads, tail = problem.question.strip().split(IMAGE_MARKER)
    if len(heads) not in (0, len(problem.images)):
        raise InputError(
            f"problem {problem.problem_id!r}: the question has {len(heads)} {IMAGE_MARKER} marker(s) for "
            f"{len(problem.images)} image(s); write one marker an image, or none to show the images first"
        )
    # The question is cut before the hint is filled in, so a marker inside a hint stays text.
    tail = _TEMPLATES.get_template(template).render(problem=tail, **fields)
    if not keep_image:
        return ({"role": "user", "content": [_text("".join((*heads, tail)))]},)
    content = [] if heads else [_IMAGE] * len(problem.images)
    for head in heads:
        content += [_text(head), _IMAGE] if head else [_IMAGE]
    return ({"role": "user", "content": [*content, _text(tail)]},)


_IMAGE = {"type": "image"}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": _as_data(text)}


def _as_data(text: str) -> str:
    """Escape every ``<|``, with which chat templates open their control tokens, so that it is read as characters."""
    return text.replace("<|", "<\\|")


def _template_text(name: str) -> str:
    return files("core.prompts").joinpath(f"{name.removesuffix('.jinja')}.jinja").read_text(encoding="utf-8")


_TEMPLATES = Environment(loader=FunctionLoader(_template_text), undefined=StrictUndefined, autoescape=False)
