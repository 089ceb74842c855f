"""Our model as lmms-eval sees it: asked through its requests, answering through an `Answerer` and the journal."""

import io
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from PIL.Image import DecompressionBombError, Image

from core.errors import InputError
from core.runfile import first_line
from core.sampling import Sampling
from core.schema import ImageRow
from eval.journal import Journal
from eval.model import local_answerer
from eval.progress import Counter
from eval.questions import Answer, Answerer, PromptVariant, Question, official_prompt, training_prompt
from eval.tasks import BENCHMARKS

ASKED_TOGETHER = 512
"""Questions handed to the model at once; their pictures are in memory together."""

LONGEST_SIDE = 1024
"""Pixels of a recorded picture; the model sees the whole one."""

OURS = {name: b for b in BENCHMARKS.values() for name in (b.task, f"credence_{b.name}")}
"""By lmms-eval's name, and by one for a YAML of one's own: lmms-eval lets nobody replace a task that it brings."""

BROKEN_PICTURE = (OSError, SyntaxError, DecompressionBombError)
"""What Pillow says of one."""

Place = tuple[str, int]
"""A benchmark and a row of it."""

READ_BY_US = {"temperature", "top_p", "top_k", "presence_penalty", "max_new_tokens"}
IGNORED = {"until", "do_sample", "num_beams"}


def sampling_from(generation: Mapping[str, Any]) -> Sampling:
    """Sampling parameters from a task's generation settings; greedy without a temperature, as lmms-eval means it."""
    unknown = sorted(generation.keys() - READ_BY_US - IGNORED)
    if unknown:
        hint = "the token limit is max_new_tokens" if "max_tokens" in unknown else "leave it out"
        raise InputError(f"generation setting {unknown[0]!r} would be ignored; {hint}")
    named: dict[str, Any] = {key: generation[key] for key in READ_BY_US & generation.keys()}
    return Sampling(**named) if "temperature" in named else Sampling(**named, temperature=0.0)


class CredenceModel(lmms):
    """lmms-eval's model: turns its requests into questions, asks those not answered yet, and keeps what was said."""

    is_simple = False

    def __init__(
        self,
        answerer: Answerer,
        prompt: PromptVariant,
        seed: int,
        journal: Journal | None = None,
        counter: Counter | None = None,
    ) -> None:
        super().__init__()
        self.answerer = answerer
        self.prompt: PromptVariant = prompt
        self.seed = seed
        self.journal = journal
        self.counter = counter
        self.said: dict[Place, Answer] = {}
        """The answer to each row."""
        self.shown: dict[Place, tuple[ImageRow, ...]] = {}
        """The pictures of each row."""

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict | None = None) -> "CredenceModel":
        """For `python -m lmms_eval --model credence --model_args pretrained=PATH,adapter=DIR,prompt=student,seed=0`."""

        arguments = dict(part.split("=", 1) for part in arg_string.split(",") if part)
        unknown = sorted(arguments.keys() - {"pretrained", "adapter", "prompt", "seed"})
        if unknown:
            raise InputError(f"--model_args: {unknown[0]!r} is unknown; expected pretrained, adapter, prompt or seed")
        prompt: Any = arguments.get("prompt", "official")
        if prompt not in get_args(PromptVariant):
            raise InputError(f"--model_args: expected prompt=official or prompt=student, got {prompt!r}")
        adapter = arguments.get("adapter")
        answerer = local_answerer(arguments.get("pretrained"), Path(adapter) if adapter else None)
        return cls(answerer, prompt, int(arguments.get("seed", 0)))

    def generate_until(self, requests: list[Any]) -> list[GenerationResult]:
        """Answer lmms-eval's requests, in chunks whose pictures fit into memory.

        `python -m lmms_eval` hands over those of all tasks at once, each with the settings of its task.
        """
        results: list[GenerationResult] = []
        for generation, same in groupby(requests, lambda request: request.args[2]):
            sampling, alike = sampling_from(generation), list(same)
            for start in range(0, len(alike), ASKED_TOGETHER):
                questions = [self._question(request) for request in alike[start : start + ASKED_TOGETHER]]
                self._answer(questions, sampling)
                for question in questions:
                    said = self.said[question.task, question.row]
                    results.append(GenerationResult(said.text, TokenCounts(said.n_prompt_tokens, said.n_tokens)))
        return results

    def _question(self, request: Any) -> Question:
        _, doc_to_messages, _, row, task, split = request.args
        benchmark = OURS.get(task)
        name = benchmark.name if benchmark else task
        try:
            doc = self.task_dict[task][split][row]
        except BROKEN_PICTURE as error:
            raise InputError(f"{name}, row {row}: its picture cannot be read ({first_line(error)})") from error
        for column in benchmark.pictures(doc) if benchmark else ():
            if doc.get(column) is None:
                raise InputError(f"{name}, row {row}: expected a picture in column {column!r}, found none")
        messages, images = official_prompt(doc_to_messages(doc))
        if self.prompt == "student":
            if benchmark is None:
                raise InputError(f"prompt=student: {task} is none of {', '.join(OURS)}; leave the prompt out")
            messages = training_prompt(benchmark.question(doc), images)
        self.shown[name, row] = tuple(ImageRow.from_png(_png(image)) for image in images)
        return Question(name, row, self.seed, messages, images)

    def _answer(self, questions: Sequence[Question], sampling: Sampling) -> None:
        known = {(q.task, q.row): self.journal.get(q) for q in questions} if self.journal else {}
        self.said |= {place: answer for place, answer in known.items() if answer is not None}
        missing = [question for question in questions if (question.task, question.row) not in self.said]
        if self.counter:
            self.counter.resume(len(questions) - len(missing))
        for question, answer in self.answerer.answers(missing, sampling):
            if self.journal:
                self.journal.add(question, answer)
            self.said[question.task, question.row] = answer
            if self.counter:
                self.counter.advance()

    def clean(self) -> None:
        """Called after every benchmark; the model stays for the next."""

    def loglikelihood(self, requests: list[Any]) -> Any:
        """No benchmark here asks for it."""
        raise NotImplementedError("credence answers generation tasks alone")

    def generate_until_multi_round(self, requests: list[Any]) -> Any:
        """No benchmark here asks for it."""
        raise NotImplementedError("credence answers single-turn tasks alone")


def generation_settings(sampling: Sampling) -> str:
    """Sampling parameters as lmms-eval's command line takes them."""
    return ",".join(f"{name}={getattr(sampling, name)}" for name in sorted(READ_BY_US))


def _png(image: Image) -> bytes:
    small = image.convert("RGB")
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    data = io.BytesIO()
    small.save(data, "PNG")
    return data.getvalue()
