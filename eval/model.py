"""The model that answers: a `Policy` on the local engine, in batches."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from core.engines.local_engine import LocalEngine
from core.policy import Policy
from core.prompts import Prompt
from core.sampling import Sampling
from core.scoring import EncodedPrompt
from eval.questions import Answer, Question
from eval.weights import load_policy, resolve

BATCH = 32
"""Questions answered together. An answer does not depend on it, only speed and memory do."""


class LocalAnswerer:
    """Answers with transformers' model; what vLLM does on a GPU, at a CPU's pace."""

    backend = "transformers"

    def __init__(self, policy: Policy, batch: int = BATCH) -> None:
        self.policy = policy
        self.batch = batch
        self.engine = LocalEngine(policy)

    @property
    def device(self) -> str:
        """Where the weights are."""
        return str(self.policy.device)

    def answers(self, questions: Sequence[Question], sampling: Sampling) -> Iterator[tuple[Question, Answer]]:
        """Answer batch by batch, each answer handed out as soon as it ends."""
        for start in range(0, len(questions), self.batch):
            batch = questions[start : start + self.batch]
            prompts = self._encoded(batch)
            asked = []
            for question, prompt in zip(batch, prompts, strict=True):
                if len(prompt.token_ids) < self.policy.context:
                    asked.append((question, prompt))
                else:  # nothing can be said, and one item must not end the evaluation
                    yield question, Answer("", len(prompt.token_ids), 0, truncated=True)
            if not asked:
                continue
            seeds = [question.draw_seed for question, _ in asked]
            for place, rollout in self.engine.responses([prompt for _, prompt in asked], sampling, seeds):
                question, prompt = asked[place]
                n = len(rollout.token_ids)
                yield question, Answer(rollout.text, len(prompt.token_ids), n, rollout.is_truncated)

    def _encoded(self, questions: Sequence[Question]) -> list[EncodedPrompt]:
        features = self.policy.look([question.images for question in questions])
        prompts = [Prompt(question.messages) for question in questions]
        return [self.policy.encode(prompt, seen) for prompt, seen in zip(prompts, features, strict=True)]


def local_answerer(model: str | None, adapter: Path | None) -> LocalAnswerer:
    """The model that `--model` and `--adapter` name, loaded."""
    return LocalAnswerer(load_policy(resolve(model, adapter)))
