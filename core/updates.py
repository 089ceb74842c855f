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
from core.methods import DistributionMatching
from core.policy import Policy
from core.scoring import Sheaf, pack
from core.surrogate import aggregate, clipped_surrogate, importance_ratio, surrogate_flags
from core.teachers import TeacherWeights, chunks


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
    clipped_low: int = 0
    clipped_high: int = 0
    clippable: int = 0
    drifts: list[float] = field(default_factory=list)
    seconds_teacher: float = 0.0
    """Part of the update's time that teachers' passes took (OPSD, SDPO)."""
    divergence: Float[Tensor, "B T"] | None = None
    """D(P_T ‖ P_S) per token, NaN where no teacher was; None for methods that match no distribution."""

    def count(self, flags: Tensor, ratio: Tensor, *, is_first: bool) -> None:
        """Add a micro-batch's clip flags, and how far its ratios have drifted since the step's first update."""
        self.clippable += len(flags)
        self.clipped_low += int((flags < 0).sum())
        self.clipped_high += int((flags > 0).sum())
        if not is_first:
            self.drifts.append(float((ratio - 1).abs().mean()))

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
        return self.clipped_low / self.clippable if self.clippable else None

    @property
    def ppo_clip_high(self) -> float | None:
        """Share of tokens whose ratio was clipped at 1 + ε_high."""
        return self.clipped_high / self.clippable if self.clippable else None

    @property
    def ratio_drift(self) -> float | None:
        """Mean |ρ − 1| after the step's first update."""
        return sum(self.drifts) / len(self.drifts) if self.drifts else None


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
        token_advantages: Float[Tensor, "B T"],
        log_p_old: Float[Tensor, "B T"],
        statistics: UpdateStatistics,
    ) -> None:
        """PPO-clipped updates with Â_t in place of A; groups with A = 0 cannot change the loss and are left out."""
        for number, groups in enumerate(self.parts(batch)):
            rows = self._rows(batch, groups)
            normaliser = self._normaliser(batch.mask[rows])
            alive = [g for g in groups if bool((token_advantages[self._rows(batch, [g])] != 0).any())]

            def loss_of(some: Sequence[int], normaliser: float = normaliser, number: int = number) -> Tensor:
                mask = batch.mask[self._rows(batch, some)]
                advantages = token_advantages[self._rows(batch, some)]
                old = log_p_old[self._rows(batch, some)]
                flat, _ = self.policy.score(batch.student_trees(some))
                new = torch.zeros_like(old).masked_scatter(mask, flat)
                clip = {"epsilon_low": self.surrogate.epsilon_low, "epsilon_high": self.surrogate.epsilon_high}
                per_token = clipped_surrogate(new, old, advantages, dual_clip=self.surrogate.dual_clip, **clip)
                flags = surrogate_flags(new.detach(), old, advantages, **clip)[mask]
                statistics.count(flags, importance_ratio(new.detach(), old)[mask], is_first=number == 0)
                return aggregate(per_token, mask, per=self.surrogate.per, normaliser=normaliser)

            self._update(chunks(alive, self.config.groups_per_micro_batch), loss_of, statistics)

    def match_teacher(
        self,
        batch: Batch,
        method: DistributionMatching,
        weights: TeacherWeights,
        prompting: Prompting,
        statistics: UpdateStatistics,
    ) -> None:
        """Updates that shrink D(P_T⁺ ‖ P_S) at the tokens of rollouts whose teacher has a hint (Eq. 3)."""
        found = statistics.divergence = torch.full(batch.mask.shape, torch.nan, device=batch.mask.device)
        for groups in self.parts(batch):
            told = {g: batch.teacher_sheaves(self.policy, g, "correct", prompting) for g in groups}
            rows = [row for g in groups for owned in told[g] for row in owned.rows]
            normaliser = self._normaliser(batch.mask[rows])

            def loss_of(some: Sequence[int], told: Told = told, normaliser: float = normaliser) -> Tensor:
                rows = [row for g in some for owned in told[g] for row in owned.rows]
                flat = self._divergence(batch, some, told, method, weights, statistics)
                per_token = torch.zeros(batch.mask[rows].shape, device=flat.device).masked_scatter(
                    batch.mask[rows], flat
                )
                found[rows] = per_token.detach().masked_fill(~batch.mask[rows], torch.nan)
                return aggregate(per_token, batch.mask[rows], per=self.surrogate.per, normaliser=normaliser)

            self._update(
                chunks([g for g in groups if told[g]], self.config.groups_per_micro_batch), loss_of, statistics
            )

    def _divergence(
        self,
        batch: Batch,
        groups: Sequence[int],
        told: Told,
        method: DistributionMatching,
        weights: TeacherWeights,
        statistics: UpdateStatistics,
    ) -> Tensor:
        """D at every token, flat, in the order of the teachers' sheaves; the student reads the same order."""
        policy = self.policy
        teachers = pack([[owned.sheaf for owned in told[g]] for g in groups])
        responses = {g: tuple(r for owned in told[g] for r in owned.sheaf.responses) for g in groups}
        students = pack([[Sheaf(batch.prompts[g], responses[g])] for g in groups])
        started = perf_counter()
        with torch.no_grad(), weights.applied():
            teacher_states = policy.hidden(teachers)[teachers.predicted_from]
            teacher_head = policy.head.detach()
        statistics.seconds_teacher += perf_counter() - started
        student_states = policy.hidden(students)[students.predicted_from]
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
        total = 0.0
        for part in parts:
            loss = loss_of(part)
            loss.backward()
            total += float(loss.detach())
        statistics.losses.append(total)
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

    def _rows(self, batch: Batch, groups: Sequence[int]) -> list[int]:
        return [g * batch.group_size + i for g in groups for i in range(batch.group_size)]
