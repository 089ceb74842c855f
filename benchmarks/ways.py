"""Three ways to score a group on the miniature: plain, plain with the logits of responses alone, and packed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from benchmarks import miniature, plain
from core.policy import Policy
from core.scoring import Sheaf

Way = Literal["plain", "plain, response logits", "packed"]
Pass = Literal["score", "update"]
WAYS: tuple[Way, ...] = get_args(Way)
PASSES: tuple[Pass, ...] = get_args(Pass)
HINTS = (12, 9)
"""Tokens that r⁺ and r⁻ add to the prompt."""


@dataclass(frozen=True)
class Work:
    """One group."""

    vocabulary: int = 2816
    group_size: int = 8
    response: int = 128
    image_tokens: int = 256
    text_tokens: int = 44

    @property
    def tokens(self) -> int:
        """Of all responses."""
        return self.group_size * self.response


class Group:
    """The tensors of one group, the same for every way."""

    def __init__(self, work: Work) -> None:
        self.size = miniature.Size(vocabulary=work.vocabulary)
        self.question = miniature.question(self.size, work.image_tokens, work.text_tokens, seed=1)
        self.responses = miniature.responses(self.size, (work.response,) * work.group_size, seed=2)
        self.hints = tuple(miniature.responses(self.size, HINTS, seed=3))
        self.coefficients = torch.randn(work.tokens, generator=torch.Generator().manual_seed(4))


def adapted(vocabulary: int) -> Any:
    """The miniature with LoRA as after some steps: a factor that is zero would hide half of the gradient."""
    model = miniature.with_adapters(miniature.build_model(miniature.Size(vocabulary=vocabulary)))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02, generator=generator)
    return model


@dataclass(frozen=True)
class Side:
    """One way to score, over a model of its own."""

    model: Any
    log_probs: Callable[[Group], Tensor]

    def run(self, group: Group, which: Pass) -> Tensor:
        """Score or update; gradients are dropped again."""
        if which == "score":
            with torch.no_grad():
                return self.log_probs(group)
        log_p = self.log_probs(group)
        (log_p * group.coefficients).sum().backward()
        self.model.zero_grad(set_to_none=True)
        return log_p.detach()


def side(way: Way, vocabulary: int) -> Side:
    """A model of this vocabulary, scored this way."""
    model = adapted(vocabulary)
    if way == "packed":
        policy = Policy(model, tokenizer=None, image_processor=object())
        return Side(model, partial(packed_log_probs, policy))
    logits: plain.Logits = "everything" if way == "plain" else "responses"
    return Side(model, lambda group: plain.log_probs(model, plain.padded(group.question, group.responses), logits))


def packed_log_probs(policy: Policy, group: Group) -> Tensor:
    """Look at the image once, then score the group in one packed row."""
    features = miniature.look(policy, group.question)
    return policy.score([[Sheaf(miniature.encode(policy, group.question, features), group.responses)]])[0]
