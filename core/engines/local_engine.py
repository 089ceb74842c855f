"""The local engine: batched sampling with the trainer's own model, for CPUs, tests and small runs.

Prompts are prefilled once and unpadded through the packed forward; their keys and values are copied into buffers that
grow with the responses, one row a rollout, and finished rows leave the batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from core.head import log_distribution
from core.policy import Policy
from core.rollouts import Rollout
from core.sampling import Draws, Sampling, drawn, filtered_log_probs
from core.scoring import EncodedPrompt, Packed, Sheaf, pack

COMPACT_BELOW = 0.75
"""Share of unfinished rows below which the buffers are compacted: copying them costs about one token."""

ROOM = 256
"""Tokens of a response that the buffers have room for at first; the room doubles when it is used up."""


@dataclass
class KeyValueBuffers:
    """Keys and values of all rows: prompts end at column P, so every row's next token goes to the same column.

    Until `decoding`, a forward is the prefill: it attends along the packed row and fills the buffers.
    """

    packed: Packed
    group_size: int
    decoding: bool = False
    column: int = 0
    visible: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    """[rows, 1, 1, columns]: False left of a prompt that is shorter than the longest."""
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Prefill: fill the buffers of this layer. Decoding: append one column, attend to all so far."""
        if not self.decoding:
            self.keys.append(self._spread(key))
            self.values.append(self._spread(value))
            return self.packed.view.attend(layer, query, key, value, scaling)
        end = self.column + 1
        if end > self.keys[layer].shape[2]:
            self._grow(layer)
        self.keys[layer][:, :, self.column : end] = key
        self.values[layer][:, :, self.column : end] = value
        k, v = self.keys[layer][:, :, :end], self.values[layer][:, :, :end]
        mask = self.visible[..., :end]
        return F.scaled_dot_product_attention(query, k, v, attn_mask=mask, scale=scaling, enable_gqa=True).transpose(
            1, 2
        )

    def _grow(self, layer: int) -> None:
        """Double the room for responses."""
        more = self.keys[layer].shape[2] - self.prompt_columns
        self.keys[layer] = F.pad(self.keys[layer], (0, 0, 0, more))
        self.values[layer] = F.pad(self.values[layer], (0, 0, 0, more))
        missing = self.keys[layer].shape[2] - self.visible.shape[-1]
        self.visible = F.pad(self.visible, (0, missing), value=True)

    def _spread(self, packed_states: Tensor) -> Tensor:
        """[1, H, T, D] of the packed prompts to [rows, H, P + room, D], every prompt right-aligned and repeated."""
        spans = [(s.start, s.start + s.lengths[0]) for s in self.packed.view.segments]
        _, heads, _, size = packed_states.shape
        shape = (len(spans), self.group_size, heads, self.prompt_columns + ROOM, size)
        buffer = packed_states.new_zeros(shape)
        for group, (start, end) in enumerate(spans):
            buffer[group, :, :, self.prompt_columns - (end - start) : self.prompt_columns] = packed_states[
                0, :, start:end
            ]
        return buffer.flatten(0, 1)

    @property
    def prompt_columns(self) -> int:
        """Columns the longest prompt takes."""
        return max(s.lengths[0] for s in self.packed.view.segments)

    def start_decoding(self) -> None:
        """The prompts are in the buffers; hide the columns left of the shorter ones."""
        lengths = torch.tensor([s.lengths[0] for s in self.packed.view.segments], device=self.keys[0].device)
        columns = torch.arange(self.prompt_columns + ROOM, device=lengths.device)
        visible = columns >= self.prompt_columns - lengths.repeat_interleave(self.group_size)[:, None]
        self.visible = visible[:, None, None]
        self.column = self.prompt_columns
        self.decoding = True

    def keep(self, rows: Tensor) -> None:
        """Drop finished rows."""
        self.keys = [k[rows] for k in self.keys]
        self.values = [v[rows] for v in self.values]
        self.visible = self.visible[rows]


class Chooser(Protocol):
    """Decides every row's next token."""

    def __call__(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and their log-probabilities, [rows], from the final hidden states [rows, H]."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Forget finished rows."""
        ...


class PolicyDraws:
    """Draws from the policy itself at a temperature, all rows from one generator: rollouts to train on.

    The log-probabilities are the policy's own, before special tokens are ruled out.
    """

    def __init__(self, policy: Policy, temperature: float, seed: int) -> None:
        self.policy = policy
        self.temperature = temperature
        self.generator = torch.Generator(policy.device).manual_seed(seed)
        self.unsampled = torch.tensor(policy.unsampled_token_ids, device=policy.device)

    def __call__(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The next tokens."""
        distribution = log_distribution(hidden, self.policy.head, self.temperature)
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
        self.policy = policy
        self.sampling = sampling
        self.draws = Draws(seeds)
        self.unsampled = torch.tensor(policy.unsampled_token_ids, device=policy.device)
        self.seen = torch.zeros(len(seeds), len(policy.head), dtype=torch.bool, device=policy.device)

    def __call__(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The next tokens."""
        logits = log_distribution(hidden, self.policy.head, 1.0).index_fill(-1, self.unsampled, -torch.inf)
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
        found = dict(self._decode(prompts, group_size, [max_new_tokens] * len(prompts), chooser))
        rows = [found[row] for row in range(len(prompts) * group_size)]
        return [tuple(rows[i : i + group_size]) for i in range(0, len(rows), group_size)]

    def responses(
        self, prompts: Sequence[EncodedPrompt], sampling: Sampling, seeds: Sequence[int]
    ) -> Iterator[tuple[int, Rollout]]:
        """One response to every prompt, each handed out with its prompt's place as soon as it ends.

        A response depends on its own seed alone, and is cut where the model's context ends; every prompt must be
        shorter than that.
        """
        limits = [min(sampling.max_new_tokens, self.policy.context - len(p.token_ids)) for p in prompts]
        yield from self._decode(prompts, 1, limits, SampledDraws(self.policy, sampling, seeds))

    @torch.no_grad()
    def _decode(
        self, prompts: Sequence[EncodedPrompt], group_size: int, limits: Sequence[int], chooser: Chooser
    ) -> Iterator[tuple[int, Rollout]]:
        """The rollout of every row, as soon as it ends; a prompt's rows get at most its limit of tokens."""
        policy, device = self.policy, self.policy.device
        packed = pack([(Sheaf(prompt, ()),) for prompt in prompts])
        buffers = KeyValueBuffers(packed, group_size)
        prompt_ends = torch.tensor([len(p.token_ids) for p in prompts], device=device).cumsum(0) - 1
        hidden = policy.hidden(packed, view=buffers)[prompt_ends].repeat_interleave(group_size, 0)
        buffers.start_decoding()

        position = torch.tensor([p.next_position for p in prompts], device=device).repeat_interleave(group_size)
        limit = torch.tensor(limits, device=device).repeat_interleave(group_size)
        alive = torch.arange(len(position), device=device)
        ids = torch.full((len(position), max(limits)), policy.end_token_id, device=device)
        log_p = torch.zeros(ids.shape, device=device)
        finished = torch.zeros(len(position), dtype=torch.bool, device=device)
        for step in range(max(limits)):
            token, log_p_token = chooser(hidden)
            token = token.masked_fill(finished, policy.end_token_id)
            ids[alive, step], log_p[alive, step] = token, log_p_token
            ends = ~finished & ((token == policy.end_token_id) | (limit == step + 1))
            for row in alive[ends].tolist():
                yield row, self._rollout(ids[row, : step + 1].clone(), log_p[row, : step + 1].clone())
            finished |= ends
            if bool(finished.all()):
                return
            if (~finished).float().mean() < COMPACT_BELOW:
                keep = ~finished
                buffers.keep(keep)
                chooser.keep(keep)
                alive, token, position, limit = alive[keep], token[keep], position[keep], limit[keep]
                finished = finished[keep]
            hidden = policy.decode(token[:, None], position, buffers)
            buffers.column += 1
            position = position + 1

    def _rollout(self, token_ids: Tensor, log_p: Tensor) -> Rollout:
        text = self.policy.detokenise(token_ids.tolist())
        return Rollout(token_ids, log_p, text, is_truncated=int(token_ids[-1]) != self.policy.end_token_id)
