"""The teachers: the policy itself, told a hint, under weights of a named source (Eq. 2, Table 4)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from core.batch import Batch, Prompting
from core.methods import Evidence, Teacher, TeacherSource
from core.policy import Policy


class TeacherWeights:
    """Whose weights the teacher reads with: the actor's own, or a snapshot that follows it by a rule (Table 4).

    actor: the policy as it is. reference: as it was before training. periodic: as it was at the last multiple of
    `every` steps. ema: an exponential moving average, decay ρ: θ_T ← ρ θ_T + (1 − ρ) θ after every step. With LoRA the
    average is taken of the adapter's two factors, which is not the average of their product.
    """

    def __init__(self, source: TeacherSource, policy: Policy) -> None:
        self.source = source
        self.policy = policy
        self.snapshot = {} if source.kind == "actor" else self._copy()

    def _copy(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.policy.trainable.items()}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the policy computes with the teacher's weights; swapped by pointer, so leaving is exact."""
        own = {name: self.policy.trainable[name].data for name in self.snapshot}
        for name, value in self.snapshot.items():
            self.policy.trainable[name].data = value
        try:
            yield
        finally:
            for name, value in own.items():
                self.policy.trainable[name].data = value

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Follow the policy, once its updates of this step are done."""
        if self.source.kind == "periodic" and step % self.source.every == 0:
            self.snapshot = self._copy()
        if self.source.kind == "ema":
            for name, value in self.snapshot.items():
                value.lerp_(self.policy.trainable[name], 1 - self.source.decay)


def chunks(groups: Sequence[int], size: int) -> list[Sequence[int]]:
    """Groups that share one forward."""
    return [groups[i : i + size] for i in range(0, len(groups), size)]


@torch.no_grad()
def score_student(policy: Policy, batch: Batch, groups_per_pass: int) -> tuple[Tensor, Tensor]:
    """log P_S(y_t) and the entropy of P_S at every response token, both [B, T]; 0 outside the mask."""
    log_p, entropy = [], []
    for groups in chunks(range(len(batch.groups)), groups_per_pass):
        for values, scored in zip((log_p, entropy), policy.score(batch.student_trees(groups)), strict=True):
            values.append(scored)
    rows = range(len(batch.mask))
    return batch.place(torch.cat(log_p), rows), batch.place(torch.cat(entropy), rows)


@dataclass(frozen=True)
class Asked:
    """Which groups' responses each teacher is asked to score."""

    correct: tuple[int, ...] = ()
    wrong: tuple[int, ...] = ()


@torch.no_grad()
def gather_evidence(
    policy: Policy,
    weights: TeacherWeights,
    batch: Batch,
    evidence: Evidence,
    asked: Asked,
    prompting: Prompting,
    groups_per_pass: int,
) -> Evidence:
    """Add log P_T⁺ and log P_T⁻ of the sampled tokens to what is known (Eq. 2); one forward reads a group's both hints.

    A row without a hint keeps the student's log-probability: P_T⁻ := P_S where 𝒢⁻ = ∅ (Algorithm 1, line 5).
    """
    roles: dict[Teacher, tuple[int, ...]] = {"correct": asked.correct, "wrong": asked.wrong}
    known: dict[Teacher, Tensor | None] = {"correct": evidence.log_p_correct, "wrong": evidence.log_p_wrong}
    found: dict[Teacher, Tensor] = {}
    for role, groups in roles.items():
        if groups:
            before = known[role]
            found[role] = (evidence.log_p_student if before is None else before).clone()
    for groups in chunks(sorted({*asked.correct, *asked.wrong}), groups_per_pass):
        trees = [
            [s for role in found if group in roles[role] for s in batch.teacher_sheaves(policy, group, role, prompting)]
            for group in groups
        ]
        trees = [tree for tree in trees if tree]
        if not trees:
            continue
        with weights.applied():
            log_p, _ = policy.score([[owned.sheaf for owned in tree] for tree in trees])
        owners = [owned for tree in trees for owned in tree]
        sizes = [sum(len(r) for r in owned.sheaf.responses) for owned in owners]
        for owned, flat in zip(owners, log_p.split(sizes), strict=True):
            rows = list(owned.rows)
            found[owned.role][rows] = batch.place(flat, rows)[rows]
    known.update(found)
    return Evidence(evidence.log_p_student, known["correct"], known["wrong"])
