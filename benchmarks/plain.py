"""The plain way to score a group, for comparison: one padded row a response, each with the whole prompt and image.

What trainers do that know nothing of groups. `everything` is EasyR1's way, logits in float32 at every position of
prompt and response; `responses` is transformers' `logits_to_keep`, logits at the responses alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.miniature import IMAGE, Question

Logits = Literal["everything", "responses"]
"""Positions whose logits are computed."""


@dataclass(frozen=True)
class Rows:
    """A group as a model without Credence takes it: rows padded on the right, pixels repeated for every row."""

    token_ids: Tensor
    """[G, P + T]."""
    is_real: Tensor
    """[G, P + T]: 1 at tokens, 0 at padding."""
    is_image: Tensor
    """[G, P + T]: 1 at the prompt's image tokens."""
    pixels: Tensor
    grid: Tensor
    prompt_length: int

    @property
    def mask(self) -> Tensor:
        """[G, T]: True at response tokens."""
        return self.is_real[:, self.prompt_length :].bool()


def padded(asked: Question, responses: tuple[Tensor, ...], hint: Tensor | None = None) -> Rows:
    """A question, with a hint's words after it or without, before each of its responses."""
    prompt = asked.token_ids if hint is None else torch.cat([asked.token_ids, hint])
    longest = max(map(len, responses))
    token_ids = torch.stack([torch.cat([prompt, r, r.new_zeros(longest - len(r))]) for r in responses])
    lengths = len(prompt) + torch.tensor([len(r) for r in responses])
    is_image = torch.zeros_like(token_ids)
    is_image[:, : len(prompt)] = prompt == IMAGE
    return Rows(
        token_ids=token_ids,
        is_real=(torch.arange(token_ids.shape[1]) < lengths[:, None]).long(),
        is_image=is_image.int(),
        pixels=asked.pixels.repeat(len(responses), 1),
        grid=asked.grid.repeat(len(responses), 1),
        prompt_length=len(prompt),
    )


def log_probs(model: Callable[..., Any], rows: Rows, logits: Logits = "everything") -> Tensor:
    """log P of every response token, flat, response after response; nats."""
    start, length = rows.prompt_length, rows.token_ids.shape[1]
    kept = {"logits_to_keep": length - start + 1} if logits == "responses" else {}
    output = model(
        input_ids=rows.token_ids,
        attention_mask=rows.is_real,
        mm_token_type_ids=rows.is_image,
        pixel_values=rows.pixels,
        image_grid_thw=rows.grid,
        use_cache=False,
        **kept,
    ).logits
    precise = output.to(torch.promote_types(output.dtype, torch.float32))
    predicting = precise[:, :-1] if kept else precise[:, start - 1 : -1]
    log_p = torch.log_softmax(predicting, -1).gather(-1, rows.token_ids[:, start:, None])[..., 0]
    return log_p[rows.mask]
