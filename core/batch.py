"""A step's rollouts as one batch: padded ids and masks for the maths, trees of prompts for the passes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from core.hints import Hints
from core.methods import Teacher
from core.policy import Policy
from core.prompts import TeacherStyle, student_prompt, teacher_prompt
from core.rollouts import Group
from core.scoring import EncodedPrompt, ImageFeatures, Sheaf


@dataclass(frozen=True)
class Prompting:
    """How a teacher is told its hint."""

    style: TeacherStyle
    sees_image: bool


@dataclass(frozen=True)
class OwnedSheaf:
    """A teacher's prompt with responses below it, and the rows of the batch they are."""

    role: Teacher
    rows: tuple[int, ...]
    sheaf: Sheaf


@dataclass(frozen=True)
class Batch:
    """A step's groups with everything the passes over them share. Rows are rollouts, group after group."""

    groups: tuple[Group, ...]
    features: tuple[ImageFeatures | None, ...]
    prompts: tuple[EncodedPrompt, ...]
    """The student's prompt, one a group."""
    hints: tuple[Hints, ...]
    token_ids: Int[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    """True at response tokens, the end token included."""

    @property
    def group_size(self) -> int:
        """G."""
        return len(self.groups[0].rollouts)

    def responses(self, group: int) -> tuple[Tensor, ...]:
        """The token ids of a group's rollouts, where the policy is."""
        return tuple(self.token_ids[row, self.mask[row]] for row in self.rows([group]))

    def rows(self, groups: Sequence[int]) -> list[int]:
        """The rollouts of some groups."""
        return [g * self.group_size + i for g in groups for i in range(self.group_size)]

    def place(self, flat: Float[Tensor, "N"], rows: Sequence[int]) -> Float[Tensor, "B T"]:
        """Put flat per-token values, row after row in the given order, where they belong; 0 elsewhere."""
        out = flat.new_zeros(self.mask.shape)
        index = torch.tensor(rows, dtype=torch.long, device=flat.device)
        placed = flat.new_zeros(len(rows), self.mask.shape[1]).masked_scatter(self.mask[index], flat)
        return out.index_copy(0, index, placed)

    def student_trees(self, groups: Sequence[int]) -> list[list[Sheaf]]:
        """Every group's responses under the student's prompt."""
        return [[Sheaf(self.prompts[g], self.responses(g))] for g in groups]

    def teacher_sheaves(self, policy: Policy, group: int, role: Teacher, prompting: Prompting) -> list[OwnedSheaf]:
        """One sheaf a distinct hint, with the rows of the batch below it; rows without a hint are left out."""
        hints = self.hints[group].correct if role == "correct" else self.hints[group].wrong
        responses = self.responses(group)
        sheaves = []
        for hint in dict.fromkeys(h for h in hints if h is not None):
            members = [i for i, h in enumerate(hints) if h == hint]
            prompt = teacher_prompt(self.groups[group].problem, hint, prompting.style, prompting.sees_image)
            encoded = policy.encode(prompt, self.features[group] if prompting.sees_image else None)
            rows = tuple(group * self.group_size + i for i in members)
            sheaves.append(OwnedSheaf(role, rows, Sheaf(encoded, tuple(responses[i] for i in members))))
        return sheaves


def collate(
    policy: Policy, groups: Sequence[Group], features: Sequence[ImageFeatures | None], hints: Sequence[Hints]
) -> Batch:
    """Pad a step's responses into one batch, and encode the student's prompts."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    token_ids = torch.nn.utils.rnn.pad_sequence([r.token_ids for r in rollouts], batch_first=True)
    lengths = torch.tensor([len(r.token_ids) for r in rollouts], device=token_ids.device)
    prompts = tuple(policy.encode(student_prompt(g.problem), f) for g, f in zip(groups, features, strict=True))
    mask = torch.arange(token_ids.shape[1], device=token_ids.device) < lengths[:, None]
    return Batch(tuple(groups), tuple(features), prompts, tuple(hints), token_ids, mask)
