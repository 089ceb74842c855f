"""Algorithm 1, for all five methods: sample, judge, ask the teachers, credit the tokens, update."""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from core import credit
from core.batch import Batch, Prompting, collate
from core.config import TrainConfig
from core.engines import RolloutEngine
from core.errors import InputError
from core.hints import Hints, choose_hints
from core.methods import CEPO, GRPO, Credit, Evidence, Method, Teacher, TokenCredit
from core.policy import Policy
from core.problems import ProblemSource
from core.prompts import student_prompt
from core.records import StepResult, Stopwatch, step_record
from core.rollouts import Group, Problem, Rollout
from core.schema import StepRecord, ValidationRow
from core.scoring import EncodedPrompt, ImageFeatures
from core.teachers import Asked, TeacherWeights, TokenScores, ask_teachers, score_student
from core.updates import Updater, UpdateStatistics, learning_rate
from core.verifier import Verifier, reward

Encode = Callable[[Sequence[Problem], Sequence[ImageFeatures | None]], list[EncodedPrompt]]
"""From problems, and what the policy saw of each, to its prompts."""


@dataclass(frozen=True)
class Trainer:
    """Everything a step needs; a step is a function of these, the weights and its number."""

    config: TrainConfig
    policy: Policy
    engine: RolloutEngine
    problems: ProblemSource
    verifier: Verifier
    teacher: TeacherWeights
    updater: Updater

    def step(self, step: int) -> StepRecord:
        """One iteration of Algorithm 1."""
        config, method, time = self.config, self.config.method, Stopwatch()
        problems = self.problems.batch(step, config.rollouts.problems_per_step, config.seed)
        with time.stage("rollout"):
            features = self.policy.look([p.images for p in problems])
            groups = self.sample(problems, features, step)  # line 4: y ~ π_θ(· | x)
        with time.stage("verify"):
            groups = tuple(self.judge(problem, rollouts) for problem, rollouts in zip(problems, groups, strict=True))
            advantages = self.advantages(groups)  # Eq. 1
            batch = collate(self.policy, groups, features, self.hints(groups, step))  # line 5: r⁺, r⁻
        alive = tuple((advantages.view(len(groups), -1) != 0).any(1).nonzero()[:, 0].tolist())
        used, probed = self.asked(batch, alive, step)
        scores = TokenScores.blank(batch)
        with time.stage("score"):
            in_update = self.scored_in_update(batch, alive)
            others = [g for g in range(len(groups)) if g not in in_update]
            score_student(self.policy, batch, others, scores, self.groups_per_pass)
        for stage, asked in (("teacher", used), ("probe", probed)):
            with time.stage(stage):  # Eq. 2
                ask_teachers(self.policy, self.teacher, batch, asked, scores, self.prompting, self.groups_per_pass)

        statistics = UpdateStatistics(learning_rate(step, method.learning_rate, config.steps, config.optimizer))
        if isinstance(method, TokenCredit):

            def credit_of(rows: Sequence[int] | slice) -> Credit:  # lines 7-8: Δ_t, w_t, Â_t
                return method.credit(advantages[rows], self.evidence(batch, scores, rows), step)

            with time.stage("update"):  # line 10
                self.updater.follow_advantages(batch, alive, credit_of, scores, statistics)
            credited = credit_of(slice(None))
        else:
            with time.stage("update"):
                self.updater.match_teacher(batch, method, self.teacher, self.prompting, scores, statistics)
            credited = None
        self.teacher.after_step(step)
        self.engine.load_weights()
        with time.stage("validate"):
            validation = self.validate(step) if self.validates_at(step) else ()
        scored = Asked(used.correct + probed.correct, used.wrong + probed.wrong)
        evidence = self.evidence(batch, scores)
        result = StepResult(
            step, method, batch, advantages, evidence, scored, credited, scores.entropy, statistics, validation
        )
        return step_record(result, time)

    def sample(self, problems: Sequence[Problem], features: Sequence[ImageFeatures | None], step: int) -> list:
        """G rollouts of every problem, from the policy as it is."""
        rollouts = self.config.rollouts
        prompts = self.encode(problems, features)
        seed = derived_seed(self.config.seed, step, "rollouts")
        return self.engine.rollouts(prompts, rollouts.group_size, rollouts.max_new_tokens, rollouts.temperature, seed)

    def encode(self, problems: Sequence[Problem], features: Sequence[ImageFeatures | None]) -> list[EncodedPrompt]:
        """The student's prompts; one longer than the limit is refused, for nothing is ever cut silently."""
        prompts, limit = [], self.config.problems.max_prompt_tokens
        for problem, seen in zip(problems, features, strict=True):
            prompt = self.policy.encode(student_prompt(problem), seen)
            if len(prompt.token_ids) > limit:
                raise InputError(
                    f"problem {problem.problem_id!r}: its prompt has {len(prompt.token_ids)} tokens, "
                    f"problems.max_prompt_tokens is {limit}; raise the limit or leave the problem out"
                )
            prompts.append(prompt)
        return prompts

    def judge(self, problem: Problem, rollouts: tuple[Rollout, ...]) -> Group:
        """Verify every response against the answer; R(x, y)."""
        verdicts = tuple(self.verifier.verify(r.text, problem.answer) for r in rollouts)
        return Group(problem, rollouts, verdicts, tuple(reward(v, self.config.reward.scheme) for v in verdicts))

    def advantages(self, groups: Sequence[Group]) -> Tensor:
        """A of every rollout, [B] (Eq. 1)."""
        rewards = torch.tensor([g.rewards for g in groups], device=self.policy.device)
        return credit.group_advantages(rewards, std=self.config.reward.std, floor=self.config.reward.floor).flatten()

    def hints(self, groups: Sequence[Group], step: int) -> list[Hints]:
        """r⁺ and r⁻ of every group, from the sources the method names (Algorithm 1, line 5; Table 5)."""
        rng = random.Random(derived_seed(self.config.seed, step, "hints"))
        roles, observer = self.observed_roles, self.observer
        correct = observer.hint_correct if "correct" in roles else None
        wrong = observer.hint_wrong if "wrong" in roles else None
        detokenise = self.policy.detokenise
        return [choose_hints(group, correct, wrong, self.verifier, detokenise, rng) for group in groups]

    @cached_property
    def observer(self) -> CEPO:
        """What the record's evidence is read through."""
        return observer_of(self.config.method)

    @cached_property
    def prompting(self) -> Prompting:
        """How the teachers are told their hints."""
        return Prompting(self.observer.teacher_style, self.observer.teacher_sees_image)

    @cached_property
    def observed_roles(self) -> tuple[Teacher, ...]:
        """Teachers that are read at all: the method's, and both where all evidence is recorded."""
        return CEPO.teachers if self.config.record.evidence == "all" else self.config.method.teachers

    @property
    def groups_per_pass(self) -> int:
        """Groups scored in one forward."""
        return self.config.optimizer.groups_per_micro_batch

    def scored_in_update(self, batch: Batch, alive: Sequence[int]) -> set[int]:
        """Groups of the step's first update: its forward runs with the weights that sampled them, so it scores them."""
        first = self.updater.parts(batch)[0]
        if isinstance(self.config.method, TokenCredit):
            return {*first} & {*alive}
        return {g for g in first if None not in batch.hints[g].correct}

    def asked(self, batch: Batch, alive: tuple[int, ...], step: int) -> tuple[Asked, Asked]:
        """Which groups the teachers score for the method, and which for the record alone.

        The method needs them only where A ≠ 0 and only while λ > 0. After that a method's own evidence is still probed
        every `record.probe_every` steps (Figure 4), or at every step, with both teachers, where all evidence is kept.
        """
        method, record = self.config.method, self.config.record
        credits_tokens = isinstance(method, TokenCredit)
        needed = alive if credits_tokens and method.mixing(step) > 0 else ()
        used = Asked(**dict.fromkeys(method.teachers, needed) if credits_tokens else {})
        if record.evidence == "all":
            everyone = range(len(batch.groups))
            return used, Asked(
                tuple(g for g in everyone if g not in used.correct), tuple(g for g in everyone if g not in used.wrong)
            )
        probes = credits_tokens and not needed and step % record.probe_every == 0
        return used, Asked(**dict.fromkeys(method.teachers, alive) if probes else {})

    def evidence(self, batch: Batch, scores: TokenScores, rows: Sequence[int] | slice = slice(None)) -> Evidence:
        """Eq. 2 for some rows; where 𝒢⁻ = ∅ and the method says so, P_T⁻ := P_T⁺, the released code's choice."""
        evidence = scores.evidence(rows)
        correct, wrong = evidence.log_p_correct, evidence.log_p_wrong
        if self.observer.empty_wrong == "rlsd" or correct is None or wrong is None:
            return evidence
        empty = torch.tensor([h.fallback for h in batch.hints], device=batch.mask.device)
        return replace(
            evidence, log_p_wrong=correct.where(empty.repeat_interleave(batch.group_size)[rows, None], wrong)
        )

    def validates_at(self, step: int) -> bool:
        """Every `validation.every` steps and after the last one."""
        return step % self.config.validation.every == 0 or step == self.config.steps

    def validate(self, step: int, encode: Encode | None = None) -> list[ValidationRow]:
        """One response to each held-out problem, by the policy as it is; None asks as the student is asked."""
        config, size = self.config.validation, self.config.rollouts.problems_per_step * self.config.rollouts.group_size
        problems, rows = self.problems.validation(config.problems), []
        for start in range(0, len(problems), size):
            some = problems[start : start + size]
            features = self.policy.look([p.images for p in some])
            prompts = (encode or self.encode)(some, features)
            seed = derived_seed(self.config.seed, step, "validation", start)
            limit = self.config.rollouts.max_new_tokens
            responses = self.engine.rollouts(prompts, 1, limit, config.temperature, seed)
            for problem, (rollout,) in zip(some, responses, strict=True):
                verdict = self.verifier.verify(rollout.text, problem.answer)
                rows.append(
                    ValidationRow(
                        step=step,
                        problem_id=problem.problem_id,
                        response=rollout.text,
                        answer=verdict.answer,
                        is_correct=verdict.is_correct,
                    )
                )
        return rows


def observer_of(method: Method) -> CEPO:
    """CEPO with a method's own teacher and hints; CEPO's own where the method has none."""
    if isinstance(method, CEPO):
        return method
    if isinstance(method, GRPO):
        return CEPO()
    return replace(
        CEPO(),
        teacher=method.teacher,
        teacher_style=method.teacher_style,
        teacher_sees_image=method.teacher_sees_image,
        hint_correct=method.hint_correct,
    )


def derived_seed(*parts: int | str) -> int:
    """A seed for one use of randomness: a pure function of the run's seed, the step and the use."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7])
