"""The teachers: the policy itself, told a hint, under weights of a named source (Eq. 2, Table 4)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
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


@dataclass
class TokenScores:
    """What student and teachers have said of a step's tokens so far, [B, T] in nats; each pass adds what it scored."""

    mask: Bool[Tensor, "B T"]
    log_p_student: Float[Tensor, "B T"]
    """0 until it is scored."""
    entropy: Float[Tensor, "B T"]
    log_p_correct: Float[Tensor, "B T"] | None = None
    """None until a teacher is asked; NaN where it was not, or had no hint."""
    log_p_wrong: Float[Tensor, "B T"] | None = None

    @classmethod
    def blank(cls, batch: Batch) -> "TokenScores":
        """Nothing is scored yet."""
        zeros = torch.zeros(batch.mask.shape, device=batch.mask.device)
        return cls(batch.mask, zeros, zeros.clone())

    def add_student(self, batch: Batch, rows: Sequence[int], log_p: Tensor, entropy: Tensor) -> None:
        """The student's word on some rows, flat, row after row."""
        self.log_p_student[rows] = batch.place(log_p.detach().float(), rows)[rows]
        self.entropy[rows] = batch.place(entropy.detach().float(), rows)[rows]

    def evidence(self, rows: Sequence[int] | slice = slice(None)) -> Evidence:
        """Eq. 2 for some rows; a teacher that said nothing gives way to the student: P_T⁻ := P_S where 𝒢⁻ = ∅."""
        student = self.log_p_student[rows]
        teachers = (None if x is None else x[rows] for x in (self.log_p_correct, self.log_p_wrong))
        return Evidence(student, *(None if x is None else x.where(~x.isnan(), student) for x in teachers))


@torch.no_grad()
def score_student(
    policy: Policy, batch: Batch, groups: Sequence[int], scores: TokenScores, groups_per_pass: int
) -> None:
    """Add log P_S(y_t) and the entropy of P_S at every response token of some groups."""
    for some in chunks(groups, groups_per_pass):
        scores.add_student(batch, batch.rows(some), *policy.score(batch.student_trees(some)))


@dataclass(frozen=True)
class Asked:
    """Which groups' responses each teacher is asked to score."""

    correct: tuple[int, ...] = ()
    wrong: tuple[int, ...] = ()


@torch.no_grad()
def ask_teachers(
    policy: Policy,
    weights: TeacherWeights,
    batch: Batch,
    asked: Asked,
    scores: TokenScores,
    prompting: Prompting,
    groups_per_pass: int,
) -> None:
    """Add log P_T⁺ and log P_T⁻ of the sampled tokens (Eq. 2); one forward reads both hints of a group."""
    roles: dict[Teacher, tuple[int, ...]] = {"correct": asked.correct, "wrong": asked.wrong}
    known: dict[Teacher, Tensor | None] = {"correct": scores.log_p_correct, "wrong": scores.log_p_wrong}
    unsaid = torch.full_like(scores.log_p_student, torch.nan)
    found: dict[Teacher, Tensor] = {
        role: unsaid.clone() if x is None else x for role, x in known.items() if roles[role]
    }
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
            found[owned.role][list(owned.rows)] = batch.place(flat, owned.rows)[list(owned.rows)]
    scores.log_p_correct = found.get("correct", scores.log_p_correct)
    scores.log_p_wrong = found.get("wrong", scores.log_p_wrong)
