"""How the next token is drawn: presence penalty, temperature, top-k, top-p, in vLLM's order; a seed for each row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from core.errors import InputError

GREEDY_BELOW = 1e-5
"""Temperatures below mean the likeliest token, as in vLLM."""


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters; the defaults draw from the model's own distribution.

    Raises:
        InputError: one that is out of its range.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """Only so many of the likeliest tokens; 0 takes all."""
    presence_penalty: float = 0.0
    """Taken off the logit of every token that the response already holds."""

    def __post_init__(self) -> None:
        """Check the ranges, vLLM's."""
        for name, holds, expected in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < math.inf, "a number from 0 on"),
            ("top_p", 0 < self.top_p <= 1, "more than 0 and at most 1"),
            ("top_k", self.top_k >= 0, "at least 0, which takes all tokens"),
            ("presence_penalty", -2 <= self.presence_penalty <= 2, "from -2 to 2"),
        ):
            if not holds:
                raise InputError(f"{name}: expected {expected}, got {getattr(self, name)}")


def filtered_log_probs(
    logits: Float[Tensor, "rows V"], seen: Bool[Tensor, "rows V"], sampling: Sampling
) -> Float[Tensor, "rows V"]:
    """log P of the next token under the sampling parameters; −∞ where it cannot be drawn.

    Args:
        logits: the model's own, at temperature 1.
        seen: tokens that the response of a row already holds.
        sampling: its parameters; a temperature near 0 leaves the likeliest token alone.
    """
    logits = logits.float() - sampling.presence_penalty * seen
    if sampling.temperature < GREEDY_BELOW:
        best = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter(-1, best, 0.0)
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if sampling.top_p < 1:
        ordered, places = logits.sort(dim=-1, descending=True)
        p = ordered.softmax(-1)
        # a token stays while those before it do not reach top_p, so the likeliest always stays
        ordered = ordered.masked_fill(p.cumsum(-1) - p >= sampling.top_p, -torch.inf)
        logits = torch.full_like(logits, -torch.inf).scatter(-1, places, ordered)
    return logits.log_softmax(-1)


def drawn(log_probs: Float[Tensor, "rows V"], uniform: Float64[Tensor, "rows"]) -> Int64[Tensor, "rows"]:
    """Invert the cumulative distribution: the token at which it exceeds `uniform` in [0, 1)."""
    cumulative = log_probs.double().exp().cumsum(-1)
    target = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True)[:, 0]


class Draws:
    """One stream of uniform numbers a row, each from its own seed: a row's response does not depend on its company."""

    BLOCK = 64

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.block = torch.zeros(len(seeds), 0, dtype=torch.float64)
        self.position = 0

    def next(self) -> Float64[Tensor, "rows"]:
        """The next number of every row, in [0, 1)."""
        if self.position == self.block.shape[1]:
            numbers = [torch.rand(self.BLOCK, generator=g, dtype=torch.float64) for g in self.generators]
            self.block, self.position = torch.stack(numbers), 0
        self.position += 1
        return self.block[:, self.position - 1]

    def keep(self, rows: Bool[Tensor, "rows"]) -> None:
        """Drop finished rows."""
        kept = rows.nonzero()[:, 0].tolist()
        self.generators = [self.generators[row] for row in kept]
        self.block = self.block[kept]
