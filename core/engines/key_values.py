"""Keys and values while a batch is sampled: a group's prompt once, its responses row by row.

Attention runs over the two parts apart, the prompt's as one product for all rows of a group, and one softmax over both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from core.scoring import Packed


@dataclass(frozen=True)
class PromptStates:
    """The prefill's view: attends along the packed row as ever, and keeps each layer's keys and values, [KV, T, D]."""

    packed: Packed
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attend; layers come in their order."""
        self.keys.append(key[0])
        self.values.append(value[0])
        return self.packed.view.attend(layer, query, key, value, scaling)


class KeyValues:
    """The view of decoding: each forward is one token a row, which sees its group's prompt and its own past.

    Shapes: KV heads that share keys, `rows` unfinished rollouts, sorted by group, P columns of the longest prompt, D of
    a head.

    Args:
        keys: every layer's [KV, T, D] of the prompts, packed one after another.
        values: the same.
        lengths: of every prompt.
        group_size: rows that each prompt has at first.
        room: tokens of a response there is memory for at first; doubled when it is used up.
    """

    def __init__(
        self, keys: Sequence[Tensor], values: Sequence[Tensor], lengths: Sequence[int], group_size: int, room: int
    ) -> None:
        self.prompt_keys = [_by_prompt(states, lengths) for states in keys]
        self.prompt_values = [_by_prompt(states, lengths) for states in values]
        heads, groups, columns, size = self.prompt_keys[0].shape
        device = self.prompt_keys[0].device
        hidden = torch.arange(columns, device=device) >= torch.tensor(lengths, device=device)[:, None]
        self.bias = self.prompt_keys[0].new_zeros(groups, 1, columns).masked_fill(hidden[:, None], -torch.inf)
        """[groups, 1, P]: −∞ at the padding of shorter prompts."""
        shape = heads, groups * group_size, room, size
        self.keys = [states.new_empty(shape) for states in self.prompt_keys]
        self.values = [states.new_empty(shape) for states in self.prompt_values]
        self.length = 0
        """Tokens of every response that have keys and values, the one of this forward included."""
        self.group = torch.arange(groups, device=device).repeat_interleave(group_size)
        self.width = group_size
        """Rows of the largest group."""
        self.slots: Tensor | None = None
        """[rows]: place of every row if each group had `width` rows; None where each has."""

    def begin_token(self) -> None:
        """Make place for the next token of every row."""
        if self.length == self.keys[0].shape[2]:
            self.keys = [F.pad(states, (0, 0, 0, self.length)) for states in self.keys]
            self.values = [F.pad(states, (0, 0, 0, self.length)) for states in self.values]
        self.length += 1

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Add the token's key and value; [rows, H, 1, D] in, [rows, 1, H, D] out."""
        rows, all_heads, _, size = query.shape
        heads, columns = len(self.keys[layer]), self.prompt_keys[layer].shape[2]
        self.keys[layer][:, :, self.length - 1] = key[:, :, 0].transpose(0, 1)
        self.values[layer][:, :, self.length - 1] = value[:, :, 0].transpose(0, 1)
        own_keys, own_values = self.keys[layer][:, :, : self.length], self.values[layer][:, :, : self.length]
        query = (query * scaling).view(rows, heads, all_heads // heads, size).transpose(0, 1)
        above = self._by_group(query) @ self.prompt_keys[layer].transpose(-1, -2) + self.bias
        weights = torch.cat([self._by_row(above), query @ own_keys.transpose(-1, -2)], -1).softmax(-1)
        above = self._by_group(weights[..., :columns]) @ self.prompt_values[layer]
        attended = self._by_row(above) + weights[..., columns:] @ own_values
        return attended.transpose(0, 1).reshape(rows, 1, all_heads, size)

    def _by_group(self, states: Tensor) -> Tensor:
        """[KV, rows, n, ·] to [KV, groups, width · n, ·]."""
        heads, _, n, _ = states.shape
        groups = len(self.bias)
        if self.slots is not None:
            padded = states.new_zeros(heads, groups * self.width, *states.shape[2:])
            padded[:, self.slots] = states
            states = padded
        return states.reshape(heads, groups, self.width * n, -1)

    def _by_row(self, states: Tensor) -> Tensor:
        """The reverse."""
        heads, groups, both, _ = states.shape
        states = states.view(heads, groups * self.width, both // self.width, -1)
        return states if self.slots is None else states[:, self.slots]

    def keep(self, rows: Tensor) -> None:
        """Drop finished rows, and prompts without rows.

        Args:
            rows: [rows], True for those that stay.
        """
        room = self.keys[0].shape[2]
        self.keys = [self._kept(states, rows, room) for states in self.keys]
        self.values = [self._kept(states, rows, room) for states in self.values]
        present, group, counts = torch.unique_consecutive(self.group[rows], return_inverse=True, return_counts=True)
        if len(present) < len(self.bias):
            self.prompt_keys = [states[:, present] for states in self.prompt_keys]
            self.prompt_values = [states[:, present] for states in self.prompt_values]
            self.bias = self.bias[present]
        self.group, self.width = group, int(counts.max())
        rank = torch.arange(len(group), device=group.device) - (counts.cumsum(0) - counts)[group]
        is_even = self.width * len(present) == len(group)
        self.slots = None if is_even else group * self.width + rank

    def _kept(self, states: Tensor, rows: Tensor, room: int) -> Tensor:
        """Buffers of the rows that stay; only columns in use are copied."""
        used = states[:, rows, : self.length]
        kept = states.new_empty(len(used), used.shape[1], room, used.shape[3])
        kept[:, :, : self.length] = used
        return kept


def _by_prompt(states: Tensor, lengths: Sequence[int]) -> Tensor:
    """[KV, T, D] of packed prompts to [KV, prompts, P, D], zeros after the end of a shorter one."""
    pieces = [piece.transpose(0, 1) for piece in states.split(list(lengths), dim=1)]
    return pad_sequence(pieces, batch_first=True).permute(2, 0, 1, 3).contiguous()
