"""What is asked of a model, and what it answers: the records between benchmarks, models and the journal."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

from PIL.Image import Image

from core.prompts import IMAGE_MARKER, student_prompt
from core.rollouts import Problem
from core.sampling import Sampling

PromptVariant = Literal["official", "student"]
"""`official`: as the benchmark's lmms-eval task asks. `student`: the bare question as training asks it (Appendix B)."""

Messages = tuple[dict[str, Any], ...]

_CONTROL_TOKEN = re.compile(r"<\|(?=\w{2,}\|>)")


def official_prompt(messages: Sequence[dict[str, Any]]) -> tuple[Messages, tuple[Image, ...]]:
    """The messages of a lmms-eval task as a chat template reads them, and their images.

    A control token of chat templates that stands in the data, ``<|im_end|>``, is broken up: it is text, not a turn.
    """
    images: list[Image] = []
    turns = []
    for message in messages:
        content = []
        for part in message["content"]:
            if part["type"] == "image":
                images.append(part["url"])
                content.append({"type": "image"})
            else:
                content.append({"type": "text", "text": _CONTROL_TOKEN.sub(r"<\\|", part["text"])})
        turns.append({"role": message["role"], "content": content})
    return tuple(turns), tuple(images)


def training_prompt(question: str, images: tuple[Image, ...]) -> Messages:
    """The bare question of an item, asked as the student is asked in training.

    Images stand where the question marks them if there is a mark for each, otherwise before it.
    """
    if question.count(IMAGE_MARKER) != len(images):
        question = question.replace(IMAGE_MARKER, "")
    return student_prompt(Problem("", question, "", images)).messages


@dataclass(frozen=True)
class Question:
    """One item of a benchmark as a model reads it, under one seed."""

    task: str
    """Our name of the benchmark."""
    row: int
    """Its row in the benchmark's data."""
    seed: int
    messages: Messages
    """For the chat template: turns of ``{"type": "text", "text": ...}`` and ``{"type": "image"}`` parts."""
    images: tuple[Image, ...]
    """Its images, in the order of the image parts."""

    @cached_property
    def digest(self) -> str:
        """Of what the model reads; another question under the same name has another digest."""
        content = hashlib.sha256(json.dumps(self.messages, sort_keys=True).encode())
        for image in self.images:
            content.update(f"RGB {image.size}".encode())
            content.update(image.convert("RGB").tobytes())  # as engines read it: a palette is not in its bytes
        return content.hexdigest()[:16]

    @property
    def draw_seed(self) -> int:
        """Seed of this answer alone: answers do not depend on which others are generated beside them, or when."""
        name = f"{self.seed}/{self.task}/{self.row}".encode()
        return int.from_bytes(hashlib.sha256(name).digest()[:4], "big")


@dataclass(frozen=True)
class Answer:
    """What a model said to a question."""

    text: str
    n_prompt_tokens: int
    n_tokens: int
    """Sampled tokens, the end token among them."""
    truncated: bool
    """Cut at the token limit, or where the model's context ends."""


class Answerer(Protocol):
    """A model that answers questions; which engine it runs on is its own business."""

    @property
    def backend(self) -> str:
        """What generates: `transformers` or `vllm`."""
        ...

    @property
    def device(self) -> str:
        """Where."""
        ...

    def answers(self, questions: Sequence[Question], sampling: Sampling) -> Iterator[tuple[Question, Answer]]:
        """Answer them all, each handed out as soon as it is there; the order is free."""
        ...
