"""The local engine: batched sampling with the trainer's own model, for CPUs, tests and small runs.

Prompts are prefilled once and unpadded through the packed forward, and a group's rollouts share its keys and values.
Those of the responses have buffers that grow, one row a rollout, and finished rows leave the batch. LoRA adapters are
merged into the weights meanwhile.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from core.engines.key_values import KeyValues, PromptStates
from core.head import log_distribution
from core.policy import Policy
from core.rollouts import Rollout
from core.sampling import Draws, Sampling, drawn, filtered_log_probs
from core.scoring import EncodedPrompt, Sheaf, pack

COMPACT_BELOW = 0.75
"""Share of unfinished rows below which the buffers are compacted: copying them costs about one token."""

ROOM = 256
"""Tokens of a response that the buffers have room for at first; the room doubles when it is used up."""


class Chooser(Protocol):
    """Decides every row's next token."""

    def __call__(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and their log-probabilities, [rows], from the final hidden states [rows, H]."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Forget finished rows."""
        ...


def _precise_head(policy: Policy) -> Tensor:
    """The head in the type its logits are computed in, so that not every token casts it anew."""
    return policy.head.detach().to(torch.promote_types(policy.head.dtype, torch.float32))


class PolicyDraws:
    """Draws from the policy itself at a temperature, all rows from one generator: rollouts to train on.

    The log-probabilities are the policy's own, before special tokens are ruled out.
    """

    def __init__(self, policy: Policy, temperature: float, seed: int) -> None:
        self.head = _precise_head(policy)
        self.temperature = temperature
        self.generator = torch.Generator(policy.device).manual_seed(seed)
        self.unsampled = torch.tensor(policy.unsampled_token_ids, device=policy.device)

    def __call__(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The next tokens."""
        distribution = log_distribution(hidden, self.head, self.temperature)
        allowed = distribution.index_fill(-1, self.unsampled, -torch.inf)
        token = torch.multinomial(allowed.exp(), 1, generator=self.generator)
        return token[:, 0], distribution.gather(-1, token)[:, 0].float()

    def keep(self, rows: Tensor) -> None:
        """Nothing is kept by row."""


class SampledDraws:
    """Draws under sampling parameters, every row from a seed of its own: answers to be graded.

    The log-probabilities are those under the parameters.
    """

    def __init__(self, policy: Policy, sampling: Sampling, seeds: Sequence[int]) -> None:
        self.head = _precise_head(policy)
        self.sampling = sampling
        self.draws = Draws(seeds)
        self.unsampled = torch.tensor(policy.unsampled_token_ids, device=policy.device)
        self.seen = torch.zeros(len(seeds), len(self.head), dtype=torch.bool, device=policy.device)

    def __call__(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The next tokens."""
        logits = log_distribution(hidden, self.head, 1.0).index_fill(-1, self.unsampled, -torch.inf)
        log_p = filtered_log_probs(logits, self.seen, self.sampling)
        token = drawn(log_p, self.draws.next().to(log_p.device))
        self.seen.scatter_(-1, token[:, None], True)
        return token, log_p.gather(-1, token[:, None])[:, 0]

    def keep(self, rows: Tensor) -> None:
        """Forget finished rows."""
        self.draws.keep(rows)
        self.seen = self.seen[rows]


class LocalEngine:
    """Samples with the policy's own weights; deterministic for a seed."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def load_weights(self) -> None:
        """Nothing to do: the policy's weights are the engine's."""

    def rollouts(
        self, prompts: Sequence[EncodedPrompt], group_size: int, max_new_tokens: int, temperature: float, seed: int
    ) -> list[tuple[Rollout, ...]]:
        """Sample `group_size` responses of at most `max_new_tokens` tokens to every prompt."""
        chooser = PolicyDraws(self.policy, temperature, seed)
        with self.policy.merged():
            found = dict(self._decode(prompts, group_size, [max_new_tokens] * len(prompts), chooser))
        rows = [found[row] for row in range(len(prompts) * group_size)]
        return [tuple(rows[i : i + group_size]) for i in range(0, len(rows), group_size)]

    def responses(
        self, prompts: Sequence[EncodedPrompt], sampling: Sampling, seeds: Sequence[int]
    ) -> Iterator[tuple[int, Rollout]]:
        """One response to every prompt, each handed out with its prompt's place as soon as it ends.

        A response depends on its own seed alone, and is cut where the model's context ends; every prompt must be
        shorter than that. LoRA adapters stay merged until the last is taken.
        """
        limits = [min(sampling.max_new_tokens, self.policy.context - len(p.token_ids)) for p in prompts]
        with self.policy.merged():
            yield from self._decode(prompts, 1, limits, SampledDraws(self.policy, sampling, seeds))

    @torch.no_grad()
    def _decode(
        self, prompts: Sequence[EncodedPrompt], group_size: int, limits: Sequence[int], chooser: Chooser
    ) -> Iterator[tuple[int, Rollout]]:
        """The rollout of every row, as soon as it ends; a prompt's rows get at most its limit of tokens."""
        policy, device = self.policy, self.policy.device
        hidden, key_values = self._prefill(prompts, group_size)
        position = torch.tensor([p.next_position for p in prompts], device=device).repeat_interleave(group_size)
        rows = [_Row(i, limits[i // group_size]) for i in range(len(hidden))]
        while True:
            token, log_p = chooser(hidden)
            for row, token_id, log_p_token in zip(rows, token.tolist(), log_p.tolist(), strict=True):
                if not row.is_finished:
                    row.append(token_id, log_p_token, policy.end_token_id)
                    if row.is_finished:
                        yield row.number, self._rollout(row)
            unfinished = [not row.is_finished for row in rows]
            if not any(unfinished):
                return
            if sum(unfinished) / len(rows) < COMPACT_BELOW:
                keep = torch.tensor(unfinished, device=device)
                key_values.keep(keep)
                chooser.keep(keep)
                rows = [row for row in rows if not row.is_finished]
                token, position = token[keep], position[keep]
            key_values.begin_token()
            hidden = policy.decode(token[:, None], position, key_values)
            position = position + 1

    def _prefill(self, prompts: Sequence[EncodedPrompt], group_size: int) -> tuple[Tensor, KeyValues]:
        """Final hidden states [rows, H] that predict the first tokens, and the prompts' keys and values."""
        lengths = [len(p.token_ids) for p in prompts]
        states = PromptStates(pack([(Sheaf(prompt, ()),) for prompt in prompts]))
        last = torch.tensor(lengths, device=self.policy.device).cumsum(0) - 1
        hidden = self.policy.hidden(states.packed, view=states)[last].repeat_interleave(group_size, 0)
        return hidden, KeyValues(states.keys, states.values, lengths, group_size, ROOM)

    def _rollout(self, row: "_Row") -> Rollout:
        token_ids = torch.tensor(row.token_ids, device=self.policy.device)
        log_p = torch.tensor(row.log_p, device=self.policy.device)
        is_truncated = row.token_ids[-1] != self.policy.end_token_id
        return Rollout(token_ids, log_p, self.policy.detokenise(row.token_ids), is_truncated)


@dataclass
class _Row:
    """A response while it grows."""

    number: int
    limit: int
    token_ids: list[int] = field(default_factory=list)
    log_p: list[float] = field(default_factory=list)
    is_finished: bool = False

    def append(self, token_id: int, log_p: float, end_token_id: int) -> None:
        self.token_ids.append(token_id)
        self.log_p.append(log_p)
        self.is_finished = token_id == end_token_id or len(self.token_ids) == self.limit
