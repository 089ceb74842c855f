"""The local engine: batched sampling with the trainer's own model, for CPUs, tests and small runs.

Prompts are prefilled once and unpadded through the packed forward; their keys and values are copied into buffers that
already have room for the whole response, one row a rollout, and finished rows leave the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from core.head import log_distribution
from core.policy import Policy
from core.rollouts import Rollout
from core.scoring import EncodedPrompt, Packed, Sheaf, pack

COMPACT_BELOW = 0.75
"""Share of unfinished rows below which the buffers are compacted: copying them costs about one token."""


@dataclass
class KeyValueBuffers:
    """Keys and values of all rows: prompts end at column P, so every row's next token goes to the same column.

    Until `decoding`, a forward is the prefill: it attends along the packed row and fills the buffers.
    """

    packed: Packed
    group_size: int
    max_new_tokens: int
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
        self.keys[layer][:, :, self.column : end] = key
        self.values[layer][:, :, self.column : end] = value
        k, v = self.keys[layer][:, :, :end], self.values[layer][:, :, :end]
        mask = self.visible[..., :end]
        return F.scaled_dot_product_attention(query, k, v, attn_mask=mask, scale=scaling, enable_gqa=True).transpose(
            1, 2
        )

    def _spread(self, packed_states: Tensor) -> Tensor:
        """[1, H, T, D] of the packed prompts to [rows, H, P + new, D], every prompt right-aligned and repeated."""
        spans = [(s.start, s.start + s.lengths[0]) for s in self.packed.view.segments]
        _, heads, _, size = packed_states.shape
        shape = (len(spans), self.group_size, heads, self.prompt_columns + self.max_new_tokens, size)
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
        columns = torch.arange(self.prompt_columns + self.max_new_tokens, device=lengths.device)
        visible = columns >= self.prompt_columns - lengths.repeat_interleave(self.group_size)[:, None]
        self.visible = visible[:, None, None]
        self.column = self.prompt_columns
        self.decoding = True

    def keep(self, rows: Tensor) -> None:
        """Drop finished rows."""
        self.keys = [k[rows] for k in self.keys]
        self.values = [v[rows] for v in self.values]
        self.visible = self.visible[rows]


class LocalEngine:
    """Samples with the policy's own weights; deterministic for a seed."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def load_weights(self) -> None:
        """Nothing to do: the policy's weights are the engine's."""

    @torch.no_grad()
    def rollouts(
        self, prompts: Sequence[EncodedPrompt], group_size: int, max_new_tokens: int, temperature: float, seed: int
    ) -> list[tuple[Rollout, ...]]:
        """Sample `group_size` responses of at most `max_new_tokens` tokens to every prompt.

        `log_p_sampler` is the model's own log-probability at this temperature, before special tokens are ruled out.
        """
        ids, log_p = self._sample(prompts, group_size, max_new_tokens, temperature, seed)
        end = self.policy.end_token_id
        rows = []
        for row, row_log_p in zip(ids, log_p, strict=True):
            ends = (row == end).nonzero()
            length = int(ends[0]) + 1 if len(ends) else len(row)
            tokens = row[:length].clone()
            text = self.policy.detokenise(tokens.tolist())
            rows.append(Rollout(tokens, row_log_p[:length].clone(), text, is_truncated=not len(ends)))
        return [tuple(rows[i : i + group_size]) for i in range(0, len(rows), group_size)]

    def _sample(
        self, prompts: Sequence[EncodedPrompt], group_size: int, max_new_tokens: int, temperature: float, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Token ids and log-probabilities, [rows, new tokens]; what follows an end token has no meaning."""
        policy, device = self.policy, self.policy.device
        generator = torch.Generator(device).manual_seed(seed)
        packed = pack([(Sheaf(prompt, ()),) for prompt in prompts])
        buffers = KeyValueBuffers(packed, group_size, max_new_tokens)
        prompt_ends = torch.tensor([len(p.token_ids) for p in prompts], device=device).cumsum(0) - 1
        hidden = policy.hidden(packed, view=buffers)[prompt_ends].repeat_interleave(group_size, 0)
        buffers.start_decoding()

        position = torch.tensor([p.next_position for p in prompts], device=device).repeat_interleave(group_size)
        alive = torch.arange(len(position), device=device)
        ids = torch.full((len(position), max_new_tokens), policy.end_token_id, device=device)
        log_p = torch.zeros(ids.shape, device=device)
        unsampled = torch.tensor(policy.unsampled_token_ids, device=device)
        finished = torch.zeros(len(position), dtype=torch.bool, device=device)
        for step in range(max_new_tokens):
            distribution = log_distribution(hidden, policy.head, temperature)
            allowed = distribution.index_fill(-1, unsampled, -torch.inf)
            token = torch.multinomial(allowed.exp(), 1, generator=generator)
            ids[alive, step] = token[:, 0].masked_fill(finished, policy.end_token_id)
            log_p[alive, step] = distribution.gather(-1, token)[:, 0].float()
            finished |= token[:, 0] == policy.end_token_id
            if bool(finished.all()) or step == max_new_tokens - 1:
                break
            if (~finished).float().mean() < COMPACT_BELOW:
                keep = ~finished
                buffers.keep(keep)
                alive, token, position, finished = alive[keep], token[keep], position[keep], finished[keep]
            hidden = policy.decode(token, position, buffers)
            buffers.column += 1
            position = position + 1
        return ids[:, : step + 1], log_p[:, : step + 1]
