"""Line 10 of Algorithm 1: the optimizer's updates of one step, from token advantages or from a divergence."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import torch
from jaxtyping import Float
from torch import Tensor

from core.batch import Batch, OwnedSheaf, Prompting
from core.config import OptimizerConfig, SurrogateConfig
from core.head import divergence as head_divergence
from core.head import sampled_log_probs
from core.methods import Credit, DistributionMatching
from core.policy import Policy
from core.scoring import Packed, Sheaf, pack
from core.surrogate import aggregate, clipped_surrogate, importance_ratio, surrogate_flags
from core.teachers import TeacherWeights, TokenScores, chunks


def learning_rate(step: int, peak: float, steps: int, config: OptimizerConfig) -> float:
    """Learning rate of a step: linear warm-up to `peak`, then cosine to 0 after the last step, or constant."""
    if step <= config.warmup_steps:
        return peak * step / config.warmup_steps
    if config.schedule == "constant":
        return peak
    progress = (step - 1 - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))


Told = Mapping[int, Sequence[OwnedSheaf]]
"""Each group's teacher prompts, with the responses below them."""


@dataclass
class UpdateStatistics:
    """What a step's updates did."""

    learning_rate: float
    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    grad_skipped: int = 0
    flags: list[Tensor] = field(default_factory=list)
    """PPO's clip flags of each micro-batch; kept where they are computed, for counting would wait for the device."""
    drifts: list[Tensor] = field(default_factory=list)
    """Mean |ρ − 1| of each micro-batch after the step's first update."""
    seconds_teacher: float = 0.0
    """Part of the update's time that teachers' passes took (OPSD, SDPO)."""
    divergence: Float[Tensor, "B T"] | None = None
    """D(P_T ‖ P_S) per token, NaN where no teacher was; None for methods that match no distribution."""

    def count(self, flags: Tensor, ratio: Tensor, *, is_first: bool) -> None:
        """Add a micro-batch's clip flags, and how far its ratios have drifted since the step's first update."""
        self.flags.append(flags)
        if not is_first:
            self.drifts.append((ratio - 1).abs().mean())

    @property
    def loss(self) -> float:
        """Mean loss of the updates."""
        return sum(self.losses) / len(self.losses)

    @property
    def grad_norm(self) -> float | None:
        """Mean gradient norm before clipping, over updates that were made."""
        return sum(self.grad_norms) / len(self.grad_norms) if self.grad_norms else None

    @property
    def ppo_clip_low(self) -> float | None:
        """Share of tokens whose ratio was clipped at 1 − ε_low."""
        return self._share(-1)

    @property
    def ppo_clip_high(self) -> float | None:
        """Share of tokens whose ratio was clipped at 1 + ε_high."""
        return self._share(1)

    def _share(self, flag: int) -> float | None:
        return float((torch.cat(self.flags) == flag).float().mean()) if self.flags else None

    @property
    def ratio_drift(self) -> float | None:
        """Mean |ρ − 1| after the step's first update."""
        return float(torch.stack(self.drifts).mean()) if self.drifts else None


@dataclass(frozen=True)
class Updater:
    """Applies a step's updates: its prompts are split into `updates_per_step` equal parts, one update each.

    Each part's loss is the mean over all its tokens, whatever the size of the forwards it is computed in.
    """

    policy: Policy
    optimizer: torch.optim.Optimizer
    config: OptimizerConfig
    surrogate: SurrogateConfig

    def parts(self, batch: Batch) -> list[Sequence[int]]:
        """The groups of each update."""
        return chunks(range(len(batch.groups)), math.ceil(len(batch.groups) / self.config.updates_per_step))

    def follow_advantages(
        self,
        batch: Batch,
        alive: Sequence[int],
        credit_of: Callable[[Sequence[int]], Credit],
        scores: TokenScores,
        statistics: UpdateStatistics,
    ) -> None:
        """PPO-clipped updates with Â_t in place of A.

        Groups of the first update are touched once: its forward also gives log π_old, which the credit is made of.

        Args:
            batch: the step's rollouts.
            alive: groups with A ≠ 0; the others cannot change the loss and are left out.
            credit_of: what some rows' tokens are credited with, once the student has scored them.
            scores: the student's, of all alive groups of later updates; those of the first are added here.
            statistics: told what the updates did.
        """
        for number, groups in enumerate(self.parts(batch)):
            normaliser = self._normaliser(batch.mask[batch.rows(groups)])

            def loss_of(some: Sequence[int], normaliser: float = normaliser, number: int = number) -> Tensor:
                rows = batch.rows(some)
                mask = batch.mask[rows]
                flat, entropy = self.policy.score(batch.student_trees(some))
                if number == 0:
                    scores.add_student(batch, rows, flat, entropy)
                old = scores.log_p_student[rows]
                advantages = credit_of(rows).token_advantages
                new = torch.zeros_like(old).masked_scatter(mask, flat)
                clip = {"epsilon_low": self.surrogate.epsilon_low, "epsilon_high": self.surrogate.epsilon_high}
                per_token = clipped_surrogate(new, old, advantages, dual_clip=self.surrogate.dual_clip, **clip)
                flags = surrogate_flags(new.detach(), old, advantages, **clip)[mask]
                statistics.count(flags, importance_ratio(new.detach(), old)[mask], is_first=number == 0)
                return aggregate(per_token, mask, per=self.surrogate.per, normaliser=normaliser)

            trained = [g for g in groups if g in alive]
            self._update(chunks(trained, self.config.groups_per_micro_batch), loss_of, statistics)

    def match_teacher(
        self,
        batch: Batch,
        method: DistributionMatching,
        weights: TeacherWeights,
        prompting: Prompting,
        scores: TokenScores,
        statistics: UpdateStatistics,
    ) -> None:
        """Updates that shrink D(P_T⁺ ‖ P_S) at the tokens of rollouts whose teacher has a hint (Eq. 3).

        What the student says of the first update's tokens is added to the scores on the way.
        """
        found = statistics.divergence = torch.full(batch.mask.shape, torch.nan, device=batch.mask.device)
        for number, groups in enumerate(self.parts(batch)):
            told = {g: batch.teacher_sheaves(self.policy, g, "correct", prompting) for g in groups}
            rows = [row for g in groups for owned in told[g] for row in owned.rows]
            normaliser = self._normaliser(batch.mask[rows])

            def loss_of(
                some: Sequence[int], told: Told = told, normaliser: float = normaliser, number: int = number
            ) -> Tensor:
                rows = [row for g in some for owned in told[g] for row in owned.rows]
                students, teachers = self._packed(batch, some, told)
                states = self.policy.hidden(students)[students.predicted_from]
                if number == 0:
                    head, temperature = self.policy.head, self.policy.temperature
                    with torch.no_grad():
                        scored = sampled_log_probs(states, head, students.targets, temperature)
                    scores.add_student(batch, rows, *scored)
                flat = self._divergence(states, teachers, method, weights, statistics)
                per_token = torch.zeros(batch.mask[rows].shape, device=flat.device).masked_scatter(
                    batch.mask[rows], flat
                )
                found[rows] = per_token.detach().masked_fill(~batch.mask[rows], torch.nan)
                return aggregate(per_token, batch.mask[rows], per=self.surrogate.per, normaliser=normaliser)

            self._update(
                chunks([g for g in groups if told[g]], self.config.groups_per_micro_batch), loss_of, statistics
            )

    def _packed(self, batch: Batch, groups: Sequence[int], told: Told) -> tuple[Packed, Packed]:
        """The responses that have a teacher under the student's and under the teachers' prompts, in one order."""
        responses = {g: tuple(r for owned in told[g] for r in owned.sheaf.responses) for g in groups}
        students = pack([[Sheaf(batch.prompts[g], responses[g])] for g in groups])
        return students, pack([[owned.sheaf for owned in told[g]] for g in groups])

    def _divergence(
        self,
        student_states: Tensor,
        teachers: Packed,
        method: DistributionMatching,
        weights: TeacherWeights,
        statistics: UpdateStatistics,
    ) -> Tensor:
        """D at every token, flat, in the packed order."""
        policy = self.policy
        started = perf_counter()
        with torch.no_grad(), weights.applied():
            teacher_states = policy.hidden(teachers)[teachers.predicted_from]
            teacher_head = policy.head.detach()
        statistics.seconds_teacher += perf_counter() - started
        return head_divergence(
            (student_states, policy.head), (teacher_states, teacher_head), method.divergence, policy.temperature
        )

    def _update(
        self, parts: Sequence[Sequence[int]], loss_of: Callable[[Sequence[int]], Tensor], statistics: UpdateStatistics
    ) -> None:
        """Accumulate the gradients of all parts and step, unless the gradient is not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = statistics.learning_rate
        self.optimizer.zero_grad(set_to_none=False)
        losses = []
        for part in parts:
            loss = loss_of(part)
            loss.backward()
            losses.append(loss.detach())
        statistics.losses.append(float(torch.stack(losses).sum()) if losses else 0.0)
        if not parts:
            return
        norm = torch.nn.utils.clip_grad_norm_(self.policy.trainable.values(), self.config.max_grad_norm)
        if torch.isfinite(norm):
            statistics.grad_norms.append(float(norm))
            self.optimizer.step()
        else:
            statistics.grad_skipped += 1

    def _normaliser(self, mask: Tensor) -> float:
        """What a whole update's sum is divided by: its tokens, or its responses."""
        return float(mask.sum()) if self.surrogate.per == "token" else float(len(mask))
