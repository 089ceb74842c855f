"""The packed forward: prompts once, their responses below them, one row of tokens without padding.

A group's G responses share their prompt, and its teachers share the prompt up to the hint. So a group is a tree: the
common prefix of its prompts is the root, what is left of each prompt hangs below the root, and the responses hang
below their prompt. All trees of a batch lie in one packed row; the linear layers see each token once, and attention
runs segment by segment over a segment's own tokens and its ancestors'. The log-probabilities are those of the ordinary
padded forward (tests/core/test_scoring.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface

ATTENTION = "credence"
"""Name under which the attention of this module is registered with transformers."""


@dataclass(frozen=True)
class ImageFeatures:
    """What the frozen vision tower made of a problem's images: computed once, shared by every pass that sees them."""

    grid_thw: Tensor
    """[images, 3]: patches over time, height and width."""
    embeddings: Tensor
    """[image tokens, hidden], fed to the first layer."""
    deepstack: tuple[Tensor, ...]
    """[image tokens, hidden] each, added to the hidden states after the first layers."""


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as token ids with rotary positions; image tokens are those at `image_positions`, never found by id.

    A policy can sample the image placeholder itself: matching ids would then look for features that do not exist.
    """

    token_ids: Tensor
    positions: Tensor
    """[3, P] for multimodal rotary embeddings (time, height, width), [1, P] for text models."""
    image_positions: Tensor
    features: ImageFeatures | None

    @property
    def next_position(self) -> int:
        """Rotary position of the first response token."""
        return int(self.positions.max()) + 1


@dataclass(frozen=True)
class Sheaf:
    """Responses scored under one prompt."""

    prompt: EncodedPrompt
    responses: tuple[Tensor, ...]


@dataclass(frozen=True)
class Segment:
    """Adjacent rows of the packed sequence that attend to the same ancestors, and each to its own past."""

    start: int
    lengths: tuple[int, ...]
    ancestors: tuple[tuple[int, int], ...]
    """(start, end) of every stretch above this segment, root first."""


class AttentionView(Protocol):
    """Who may attend to whom; handed to every attention layer of a forward."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attend; heads-first [1, H, T, D] in, [1, T, H, D] out."""
        ...


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    view: AttentionView | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    if view is None:
        raise ValueError(
            "a policy's model runs only through core.scoring and core.engines: no attention view was given"
        )
    return view.attend(module.layer_idx, query, key, value, scaling), None


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, lambda *args, **kwargs: None)  # the view is the mask


@dataclass(frozen=True)
class TreeView:
    """Tree attention over a packed row: one call a segment, the ancestors' keys and values shared by its rows."""

    segments: tuple[Segment, ...]
    device: torch.device
    _masks: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attend along the tree; `layer` is not used, every layer sees the same tree."""
        sizes = [sum(s.lengths) for s in self.segments]
        queries, keys, values = (x[0].split(sizes, 1) for x in (query, key, value))
        place = {s.start: i for i, s in enumerate(self.segments)}
        attended = []
        for own, segment in enumerate(self.segments):
            above = [place[start] for start, _ in segment.ancestors]
            q = _rows(queries[own], segment.lengths)
            k, v = (
                torch.cat([*(x[i].expand(len(q), -1, -1, -1) for i in above), _rows(x[own], segment.lengths)], 2)
                for x in (keys, values)
            )
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=self._mask(q.shape[2], k.shape[2]), scale=scaling, enable_gqa=True
            )
            attended += [row[:n] for row, n in zip(out.transpose(1, 2), segment.lengths, strict=True)]
        return torch.cat(attended)[None]

    def _mask(self, queries: int, keys: int) -> Tensor:
        """A row's tokens see all that is above them, and of their own those that came before."""
        if (queries, keys) not in self._masks:
            if self.device.type == "cuda":
                mask = causal_lower_right(queries, keys)  # names the mask, so that flash attention needs none
            else:
                mask = torch.ones(queries, keys, dtype=torch.bool, device=self.device).tril(keys - queries)
            self._masks[queries, keys] = mask
        return self._masks[queries, keys]


def _rows(packed: Tensor, lengths: Sequence[int]) -> Tensor:
    """[H, tokens, D] of a segment to [rows, H, n, D], shorter rows padded at their end."""
    if len(set(lengths)) == 1:
        return packed.unflatten(1, (len(lengths), lengths[0])).transpose(0, 1)
    rows = [row.transpose(0, 1) for row in packed.split(list(lengths), 1)]
    return pad_sequence(rows, batch_first=True).transpose(1, 2)


@dataclass(frozen=True)
class Packed:
    """A packed row, ready for the language model, and where each response token is predicted from."""

    token_ids: Tensor
    positions: Tensor
    image_positions: Tensor
    features: tuple[ImageFeatures, ...]
    view: TreeView
    predicted_from: Tensor
    """[N]: index of the hidden state that predicts target n; sheaf by sheaf, response by response."""
    targets: Tensor
    """[N]: the response tokens themselves."""


def _shared_length(sheaves: Sequence[Sheaf]) -> int:
    """How many leading tokens the prompts of one tree share, images included."""
    first = sheaves[0].prompt
    if any(s.prompt.features is not first.features for s in sheaves):
        raise ValueError("the prompts of one tree must show the same images: put a teacher without images in its own")
    shared = min(len(s.prompt.token_ids) for s in sheaves)
    for sheaf in sheaves[1:]:
        differs = (sheaf.prompt.token_ids[:shared] != first.token_ids[:shared]).nonzero()
        shared = int(differs[0]) if len(differs) else shared
    if len(first.image_positions) and shared <= int(first.image_positions.max()):
        raise ValueError("the prompts of one tree must share their images' tokens: the hint comes after the images")
    return shared


def pack(trees: Sequence[Sequence[Sheaf]]) -> Packed:
    """Lay out trees of prompts and responses in one row.

    Args:
        trees: one a group; its sheaves' prompts share a prefix that holds the images.
    """
    ids, positions, images, features, segments, predicted_from, targets = [], [], [], [], [], [], []
    length = 0

    def append(token_ids: Tensor, position: Tensor) -> tuple[int, int]:
        nonlocal length
        ids.append(token_ids)
        positions.append(position)
        length += len(token_ids)
        return length - len(token_ids), length

    for tree in trees:
        prompt, shared = tree[0].prompt, _shared_length(tree)
        root = append(prompt.token_ids[:shared], prompt.positions[:, :shared])
        segments.append(Segment(root[0], (shared,), ()))
        if prompt.features is not None:
            images.append(prompt.image_positions + root[0])
            features.append(prompt.features)
        for sheaf in tree:
            ancestors = (root,)
            if len(sheaf.prompt.token_ids) > shared:
                tail = append(sheaf.prompt.token_ids[shared:], sheaf.prompt.positions[:, shared:])
                segments.append(Segment(tail[0], (tail[1] - tail[0],), ancestors))
                ancestors = (root, tail)
            if sheaf.responses:
                segments.append(Segment(length, tuple(len(r) for r in sheaf.responses), ancestors))
            for response in sheaf.responses:
                position = sheaf.prompt.next_position + torch.arange(len(response), device=response.device)
                start, end = append(response, position.expand(len(sheaf.prompt.positions), -1))
                predicted_from += [ancestors[-1][1] - 1, *range(start, end - 1)]
                targets.append(response)

    device = ids[0].device
    no_images = torch.zeros(0, dtype=torch.long, device=device)
    return Packed(
        token_ids=torch.cat(ids),
        positions=torch.cat(positions, 1),
        image_positions=torch.cat(images) if images else no_images,
        features=tuple(features),
        view=TreeView(tuple(segments), device),
        predicted_from=torch.tensor(predicted_from, device=device),
        targets=torch.cat(targets) if targets else no_images,
    )
