"""The five methods. A method is a frozen record: its fields are Table 7, its one function is its equation.

Two kinds, because they need different amounts of data. `TokenCredit` (GRPO, RLSD, CEPO) turns scalars at the sampled
tokens into token advantages; `DistributionMatching` (OPSD, SDPO) is a loss over the whole vocabulary. Table 1 follows
from the classes. To add a method, write a class of either kind and name it in `METHODS` and `Method`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass as record
from dataclasses import fields
from typing import Annotated, Any, ClassVar, Literal

from jaxtyping import Float, Int8
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from core import credit as token_credit
from core import divergence as divergences
from core.credit import Schedule
from core.divergence import Measure, Support
from core.hints import HintSource
from core.prompts import TeacherStyle

Teacher = Literal["correct", "wrong"]
"""P_T⁺, told r⁺, or P_T⁻, told r⁻ (Eq. 2)."""

STRICT = ConfigDict(extra="forbid")

LearningRate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=STRICT)
class TeacherSource:
    """Whose weights the teachers read with (Table 4)."""

    kind: Literal["actor", "reference", "periodic", "ema"] = "actor"
    every: Count = 25
    """Steps between two copies of the actor (`periodic`)."""
    decay: Share = 0.999
    """Share of the old average kept at a step (`ema`)."""


@record(frozen=True)
class Evidence:
    """What the student and the teachers say of each sampled token (Eq. 2): log-probabilities in nats, no gradient.

    Where a teacher has no hint its place is taken already. Without r⁺, log_p_correct holds log_p_student, so Δ = 0 for
    RLSD. Without r⁻ (𝒢⁻ = ∅), log_p_wrong holds log_p_student, which makes CEPO RLSD, or log_p_correct, which makes it
    GRPO, as `CEPO.empty_wrong` says. None: that teacher was not asked at all.
    """

    log_p_student: Float[Tensor, "B T"]
    log_p_correct: Float[Tensor, "B T"] | None = None
    log_p_wrong: Float[Tensor, "B T"] | None = None


@record(frozen=True)
class Credit:
    """What a method did with each token; delta, weight and clipped are None where it used no evidence."""

    delta: Float[Tensor, "B T"] | None
    weight: Float[Tensor, "B T"] | None
    """w_t before clipping."""
    clipped: Int8[Tensor, "B T"] | None
    """−1 raised to 1 − ε_w, +1 lowered to 1 + ε_w, 0 neither."""
    token_advantages: Float[Tensor, "B T"]

    @property
    def weighted(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """(delta, weight, clipped), or None where the method used no evidence."""
        if self.delta is None or self.weight is None or self.clipped is None:
            return None
        return self.delta, self.weight, self.clipped


class TokenCredit(ABC):
    """A method that gives every sampled token its own advantage; its gradient acts at that token only."""

    teachers: ClassVar[tuple[Teacher, ...]] = ()

    @abstractmethod
    def credit(self, advantages: Float[Tensor, "B"], evidence: Evidence, step: int) -> Credit:
        """Â_t of every token, with the evidence it came from; steps count from 1."""

    @abstractmethod
    def mixing(self, step: int) -> float:
        """Share λ of the evidence at a step."""

    def token_advantages(self, advantages: Float[Tensor, "B"], evidence: Evidence, step: int) -> Float[Tensor, "B T"]:
        """Â_t of every token."""
        return self.credit(advantages, evidence, step).token_advantages


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GRPO(TokenCredit):
    """Group-relative policy optimisation: every token gets its rollout's advantage (Eq. 1)."""

    name: Literal["grpo"] = "grpo"
    learning_rate: LearningRate = 1e-6

    def credit(self, advantages: Float[Tensor, "B"], evidence: Evidence, step: int) -> Credit:
        """Â_t = A."""
        return _uniform(advantages, evidence)

    def mixing(self, step: int) -> float:
        """λ = 0: no evidence is used."""
        return 0.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EvidenceCredit(TokenCredit):
    """What RLSD and CEPO share: A, scaled at each token by a clipped weight; they differ in Δ_t alone."""

    learning_rate: LearningRate = 1e-6
    lambda_0: Share = 0.5
    """λ at step 1."""
    warmup_steps: Count = 25
    """T_warm: steps over which a linear λ falls to 0."""
    schedule: Schedule = "linear"
    epsilon_w: OpenShare = 0.5
    """Half-width of the weights' clip range; (0, 1) is what Theorem 1 asks."""
    teacher: TeacherSource = TeacherSource("actor")
    teacher_style: TeacherStyle = "sample_answer"
    teacher_sees_image: bool = True
    hint_correct: HintSource = HintSource("gt_answer")

    @abstractmethod
    def delta(self, evidence: Evidence) -> Float[Tensor, "B T"] | None:
        """Δ_t, or None where a teacher it needs was not asked."""

    def mixing(self, step: int) -> float:
        """λ of a step."""
        return token_credit.mixing(step, self.lambda_0, self.warmup_steps, self.schedule)

    def credit(self, advantages: Float[Tensor, "B"], evidence: Evidence, step: int) -> Credit:
        """Â_t = A [(1 − λ) + λ clip(w_t, 1 ± ε_w)] with w_t = exp(sign(A) Δ_t) (Eq. 4, Eq. 7).

        A teacher need not have been asked where its evidence cannot matter: λ = 0, or A = 0 everywhere.
        """
        delta, lam = self.delta(evidence), self.mixing(step)
        if delta is None:
            if lam > 0 and advantages.any():
                raise ValueError(
                    f"{type(self).__name__} has λ = {lam:g} at step {step} and needs {self.teachers}; ask them"
                )
            return _uniform(advantages, evidence)
        weight = token_credit.evidence_weight(delta, advantages)
        return Credit(
            delta,
            weight,
            token_credit.clip_flags(weight, self.epsilon_w),
            token_credit.modulate(advantages, weight, lam, self.epsilon_w),
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RLSD(EvidenceCredit):
    """Self-distilled RLVR: does the right answer favour the token more than no answer does (Eq. 4)?"""

    teachers: ClassVar[tuple[Teacher, ...]] = ("correct",)
    name: Literal["rlsd"] = "rlsd"

    def delta(self, evidence: Evidence) -> Float[Tensor, "B T"] | None:
        """Δ_t = sg(log P_T⁺(y_t) − log P_S(y_t)) (Eq. 4)."""
        if evidence.log_p_correct is None:
            return None
        return token_credit.evidence_delta(evidence.log_p_correct, evidence.log_p_student)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CEPO(EvidenceCredit):
    """Contrastive evidence: does the right answer favour the token while a wrong one does not (Eq. 5, Eq. 7)?

    It is RLSD where P_T⁻ = P_S (Theorem 1 iii). Before clipping, it weighs a token of a right rollout more than RLSD
    exactly where P_T⁻(y_t) < P_S(y_t), one of a wrong rollout exactly where P_T⁻(y_t) > P_S(y_t) (Proposition 1).
    """

    teachers: ClassVar[tuple[Teacher, ...]] = ("correct", "wrong")
    name: Literal["cepo"] = "cepo"
    learning_rate: LearningRate = 5e-6
    hint_wrong: HintSource = HintSource("peer_answer", pick="lowest")
    empty_wrong: Literal["rlsd", "grpo"] = "rlsd"
    """What a group without r⁻ falls back to: P_T⁻ := P_S (Algorithm 1) or P_T⁻ := P_T⁺ (the released code)."""

    def delta(self, evidence: Evidence) -> Float[Tensor, "B T"] | None:
        """Δ_t = sg(log P_T⁺(y_t) − log P_T⁻(y_t)) (Eq. 5)."""
        if evidence.log_p_correct is None or evidence.log_p_wrong is None:
            return None
        return token_credit.evidence_delta(evidence.log_p_correct, evidence.log_p_wrong)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DistributionMatching:
    """A method that pulls the whole next-token distribution towards a teacher that saw r⁺ (Eq. 3)."""

    teachers: ClassVar[tuple[Teacher, ...]] = ("correct",)
    learning_rate: LearningRate = 1e-6
    measure: Measure = "forward_kl"
    alpha: OpenShare = 0.5
    """The teacher's share of Jensen-Shannon's mixture."""
    top_k: Count | None = None
    """Vocabulary entries matched one by one, the rest as one bucket; None matches all."""
    support: Support = "teacher"
    """Whose most probable entries those are."""
    entry_clip: Annotated[float, Field(gt=0)] | None = None
    """Most that one vocabulary entry may add to a token's divergence; None for no limit."""
    teacher: TeacherSource = TeacherSource("reference")
    teacher_style: TeacherStyle = "reference_solution"
    teacher_sees_image: bool = True
    hint_correct: HintSource = HintSource("gt_answer")

    def divergence(
        self, log_p_teacher: Float[Tensor, "*tokens V"], log_p_student: Float[Tensor, "*tokens V"]
    ) -> Float[Tensor, "*tokens"]:
        """D(P_T⁺ ‖ P_S) of each token, in nats, to minimise; the gradient goes to the student alone."""
        log_p_teacher = log_p_teacher.detach()
        if self.top_k is not None:
            log_p_teacher, log_p_student = divergences.top_k_with_tail(
                log_p_teacher, log_p_student, self.top_k, self.support
            )
        match self.measure:
            case "forward_kl":
                return divergences.forward_kl(log_p_teacher, log_p_student, self.entry_clip)
            case "reverse_kl":
                return divergences.reverse_kl(log_p_teacher, log_p_student, self.entry_clip)
            case "jensen_shannon":
                return divergences.jensen_shannon(log_p_teacher, log_p_student, self.alpha, self.entry_clip)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OPSD(DistributionMatching):
    """On-policy self-distillation: KL to the initial policy that saw the answer (Eq. 3)."""

    name: Literal["opsd"] = "opsd"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SDPO(DistributionMatching):
    """Self-distillation policy optimisation: Jensen-Shannon to an averaged policy that saw a peer's right solution."""

    name: Literal["sdpo"] = "sdpo"
    measure: Measure = "jensen_shannon"
    top_k: Count | None = 100
    support: Support = "student"
    teacher: TeacherSource = TeacherSource("ema", decay=0.999)
    teacher_style: TeacherStyle = "correct_solution"
    hint_correct: HintSource = HintSource("peer_rollout")


Method = Annotated[GRPO | OPSD | SDPO | RLSD | CEPO, Field(discriminator="name")]
METHODS: dict[str, type[GRPO] | type[OPSD] | type[SDPO] | type[RLSD] | type[CEPO]] = {
    "grpo": GRPO,
    "opsd": OPSD,
    "sdpo": SDPO,
    "rlsd": RLSD,
    "cepo": CEPO,
}
"""By name, in the order of the paper's tables."""


@record(frozen=True)
class Safety:
    """One row of Table 1."""

    method: str
    privileged: bool
    """A teacher is told more than the student."""
    leak_free: bool | None
    """No sum over the vocabulary weighted by what the teacher was told; None where it is told nothing."""
    contrastive: bool
    """A right and a wrong hint are held against each other."""
    no_auxiliary: bool
    """No second network."""


def table1() -> tuple[Safety, ...]:
    """Table 1, as it follows from what the classes are."""
    return tuple(
        Safety(
            method=method.__name__,
            privileged=bool(method.teachers),
            leak_free=issubclass(method, TokenCredit) if method.teachers else None,
            contrastive="wrong" in method.teachers,
            # True by construction: every TeacherSource is the policy itself, now or earlier.
            no_auxiliary=True,
        )
        for method in METHODS.values()
    )


def table7() -> dict[str, dict[str, Any]]:
    """Table 7: each hyper-parameter's default by method; a method it does not apply to is left out."""
    table: dict[str, dict[str, Any]] = {}
    for name, method in METHODS.items():
        defaults = method()
        for field in fields(method):
            if field.name != "name":
                table.setdefault(field.name, {})[name] = getattr(defaults, field.name)
    return table


def _uniform(advantages: Float[Tensor, "B"], evidence: Evidence) -> Credit:
    """GRPO's credit: A at every token."""
    tokens = evidence.log_p_student
    return Credit(None, None, None, token_credit.per_token(advantages, tokens).expand_as(tokens))
