"""What the teachers are told: r⁺ and r⁻ of a group (Algorithm 1 line 5; Table 5 as named sources)."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Literal, Protocol

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from core.errors import InputError
from core.rollouts import Group

Source = Literal["gt_answer", "peer_answer", "peer_rollout", "peer_prefix", "peer_suffix"]


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class HintSource:
    """Where a hint comes from: the true answer, or a rollout of the group that got it right (r⁺) or wrong (r⁻)."""

    source: Source = "gt_answer"
    length: Annotated[int, Field(ge=1)] = 200
    """Tokens of a prefix or suffix."""
    pick: Literal["lowest", "most_frequent", "random"] = "lowest"
    """Which rollout first: the lowest reward (generation order among equals), the commonest answer, or any."""
    unreadable: Literal["skip", "released"] = "skip"
    """`released` takes r⁻ as CEPO's released code does: of the first lowest reward, even "None" for a missing box."""

    def __post_init__(self) -> None:
        """Refuse an option that its source would ignore."""
        if self.unreadable == "released" and (self.source, self.pick) != ("peer_answer", "lowest"):
            raise InputError(
                f"hint: unreadable 'released' goes with source 'peer_answer' and pick 'lowest', "
                f"got {self.source!r} and {self.pick!r}; set those or use unreadable 'skip'"
            )


@dataclass(frozen=True)
class Hints:
    """r⁺ and r⁻ for every rollout of a group; None where that teacher has no hint and falls back to the student."""

    correct: tuple[str | None, ...]
    wrong: tuple[str | None, ...]
    hint_correct: str | None
    """The group's r⁺; a rollout that is itself its source has the next one, or None."""
    hint_wrong: str | None
    """The group's r⁻, likewise."""
    wrong_rollout: int | None
    """Index of the rollout r⁻ was taken from."""
    fallback: bool
    """True where r⁻ was asked for and the group offers none (𝒢⁻ = ∅, or nothing readable in it)."""


class SameAnswer(Protocol):
    """What choosing hints needs of the verifier."""

    def same_answer(self, a: str, b: str) -> bool:
        """Whether answer ``a`` is the true answer ``b``."""
        ...

    def near(self, a: str, b: str) -> bool:
        """Whether both are numbers about 1 % apart at most."""
        ...


Detokenise = Callable[[Sequence[int]], str]
Candidate = tuple[int, str]
"""Index of a rollout, and the hint it offers."""


def choose_hints(
    group: Group,
    correct: HintSource | None,
    wrong: HintSource | None,
    verifier: SameAnswer,
    detokenise: Detokenise,
    rng: random.Random,
) -> Hints:
    """Choose r⁺ and r⁻ for a group (Algorithm 1 line 5); None leaves that teacher without hints.

    A rollout is never hinted with its own text; answers are shared by the whole group. With binary rewards a group
    that is all correct or all wrong has A = 0 throughout, so what its teachers are told cannot change the loss.

    Args:
        group: The judged rollouts of one problem.
        correct: Source of r⁺.
        wrong: Source of r⁻; only wrong rollouts can be, so ``gt_answer`` is refused.
        verifier: Keeps answers that equal the true one, or nearly, from becoming r⁻.
        detokenise: Turns token ids into text, for prefixes and suffixes.
        rng: Drawn from only where a source picks ``random``.
    """
    if wrong is not None and wrong.source == "gt_answer":
        raise InputError("hint_wrong: the true answer cannot be the wrong hint; use source 'peer_answer' or a peer_*")
    n = len(group.rollouts)
    if correct is not None and correct.source == "gt_answer":
        own_correct, all_correct = group.problem.answer, (group.problem.answer,) * n
    else:
        own_correct, all_correct, _ = _shared_out(group, correct, True, verifier, detokenise, rng)
    own_wrong, all_wrong, wrong_rollout = _shared_out(group, wrong, False, verifier, detokenise, rng)
    return Hints(
        correct=all_correct,
        wrong=all_wrong,
        hint_correct=own_correct,
        hint_wrong=own_wrong,
        wrong_rollout=wrong_rollout,
        fallback=wrong is not None and own_wrong is None,
    )


def _shared_out(
    group: Group,
    source: HintSource | None,
    is_correct: bool,
    verifier: SameAnswer,
    detokenise: Detokenise,
    rng: random.Random,
) -> tuple[str | None, tuple[str | None, ...], int | None]:
    """Return the group's hint, the hint of each rollout, and the index of the rollout the group's hint is from."""
    n = len(group.rollouts)
    if source is None:
        return None, (None,) * n, None
    order = _ordered(group, source, is_correct, rng)
    # Two will do: the group's choice, and one for the rollout that is this choice.
    candidates = list(islice(_offers(group, source, order, verifier, detokenise), 2))
    if not candidates:
        return None, (None,) * n, None
    first, hint = candidates[0]
    hints: list[str | None] = [hint] * n
    if source.source != "peer_answer":
        hints[first] = candidates[1][1] if len(candidates) == 2 else None
    return hint, tuple(hints), first


def _ordered(group: Group, source: HintSource, is_correct: bool, rng: random.Random) -> list[int]:
    """Line up the right or the wrong rollouts, the first to be asked first."""
    verdicts = group.verdicts
    members = [i for i, verdict in enumerate(verdicts) if verdict.is_correct == is_correct]
    if source.pick == "random":
        return rng.sample(members, len(members))
    if source.pick == "most_frequent":
        counts = Counter(verdicts[i].answer for i in members if verdicts[i].answer)
        return sorted(members, key=lambda i: -counts[verdicts[i].answer])
    return sorted(members, key=lambda i: group.rewards[i])


def _offers(
    group: Group, source: HintSource, order: list[int], verifier: SameAnswer, detokenise: Detokenise
) -> Iterator[Candidate]:
    """Yield the hints that the rollouts offer, skipping unreadable ones and wrong ones too close to the truth."""
    truth = group.problem.answer
    for i in order:
        rollout, verdict = group.rollouts[i], group.verdicts[i]
        if source.unreadable == "released":
            yield (i, "None" if verdict.answer is None else verdict.answer or rollout.text[:50])
            continue
        if verdict.answer is None and (source.source == "peer_answer" or rollout.is_truncated):
            continue
        if not verdict.is_correct and verdict.answer and _is_close(verdict.answer, truth, verifier):
            continue
        hint = _hint(group, i, source, detokenise)
        if hint.strip():
            yield i, hint


def _is_close(answer: str, truth: str, verifier: SameAnswer) -> bool:
    return verifier.same_answer(answer, truth) or verifier.near(answer, truth)


def _hint(group: Group, i: int, source: HintSource, detokenise: Detokenise) -> str:
    rollout = group.rollouts[i]
    if source.source == "peer_answer":
        return group.verdicts[i].answer or ""
    if source.source == "peer_rollout":
        return rollout.text
    ids = rollout.token_ids.tolist()
    ids = ids if rollout.is_truncated else ids[:-1]  # a response that was not cut ends with its end token
    return detokenise(ids[: source.length] if source.source == "peer_prefix" else ids[-source.length :])
