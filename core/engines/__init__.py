"""Engines sample responses; which one runs is the configuration's choice."""

from collections.abc import Sequence
from typing import Protocol

from core.rollouts import Rollout
from core.scoring import EncodedPrompt


class RolloutEngine(Protocol):
    """Samples responses from the policy's current weights."""

    def rollouts(
        self, prompts: Sequence[EncodedPrompt], group_size: int, max_new_tokens: int, temperature: float, seed: int
    ) -> list[tuple[Rollout, ...]]:
        """`group_size` responses to each prompt; the same arguments and weights give the same responses."""
        ...

    def load_weights(self) -> None:
        """Take over the policy's weights after an update."""
        ...
