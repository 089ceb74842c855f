"""Problems, rollouts and groups: the frozen records that travel through one training step."""

from dataclasses import dataclass

from jaxtyping import Float32, Int64
from PIL.Image import Image
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """A question x with its verifiable answer r⁺ and the images it refers to."""

    problem_id: str
    question: str
    answer: str
    images: tuple[Image, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What the verifier says of one response: R(x, y), and the answer it read."""

    is_correct: bool
    is_formatted: bool
    answer: str | None
    """Content of the last balanced ``\\boxed{}``, stripped; None when there is none."""


@dataclass(frozen=True)
class Rollout:
    """One sampled response y to a problem, with the end token when it was sampled."""

    token_ids: Int64[Tensor, "T"]
    log_p_sampler: Float32[Tensor, "T"]
    """The engine's own log-probability of each sampled token, in nats."""
    text: str
    is_truncated: bool
    """True when the token limit cut the response before its end token."""


@dataclass(frozen=True)
class Group:
    """The G rollouts of one problem, judged."""

    problem: Problem
    rollouts: tuple[Rollout, ...]
    verdicts: tuple[Verdict, ...]
    rewards: tuple[float, ...]
    """R(x, y⁽ⁱ⁾), in the order the rollouts were generated."""
