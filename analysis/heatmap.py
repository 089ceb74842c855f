"""What a token heatmap shows: one rollout's recorded evidence, credited by two methods side by side.

Nothing here draws. The page's script and the SVG both start from a `Heatmap`; numbers come from `core.methods`.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch

from analysis import style
from analysis.heatmap_words import ABSENT, FALLBACKS, NOTES, NOTICES, Legend, legends, rate_text
from analysis.pieces import Piece, display_pieces
from analysis.recredit import recredit
from core import credit
from core.errors import InputError
from core.methods import METHODS, Evidence

View = Literal["weight", "delta", "advantage", "difference"]

BINS = 21
"""Colour classes: 0 is the least credit, 10 none more or less, 20 the most."""
HATCHED = -1
"""Class of a token that has no finite number."""
EVIDENCE = ("log_p_student", "log_p_correct", "log_p_wrong")
NEEDS = {
    "grpo": (),
    "opsd": ("log_p_student", "log_p_correct"),
    "sdpo": ("log_p_student", "log_p_correct"),
    "rlsd": ("log_p_student", "log_p_correct"),
    "cepo": ("log_p_correct", "log_p_wrong"),
}
"""The log-probabilities a method's numbers are made of."""


@dataclass(frozen=True)
class Tokens:
    """What a run file holds about the sampled tokens of one rollout, in order; NaN means NULL."""

    position: np.ndarray
    token_id: np.ndarray
    log_p_student: np.ndarray
    log_p_correct: np.ndarray
    log_p_wrong: np.ndarray
    delta: np.ndarray
    weight: np.ndarray
    clipped: np.ndarray
    token_advantage: np.ndarray
    divergence: np.ndarray
    entropy: np.ndarray
    pieces: tuple[str, ...]
    piece_bytes: tuple[bytes | None, ...]
    """Bytes of a token that is no text by itself, else None."""
    classes: tuple[str, ...]
    """digit, operator, word, format or special."""

    def __post_init__(self) -> None:
        """Every column describes the same tokens."""
        lengths = {name: len(column) for name, column in vars(self).items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of one rollout must be equally long, got {lengths}; read them in one query")

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.position)

    @cached_property
    def display(self) -> tuple[Piece, ...]:
        """What is drawn for each."""
        return display_pieces(self.pieces, self.piece_bytes)


@dataclass(frozen=True)
class Panel:
    """One method's credit of the tokens, as float32; None where the method has no such number."""

    method: str
    delta: np.ndarray | None = None
    """Δ_t, or the signed teacher-student term of a method that matches distributions."""
    weight: np.ndarray | None = None
    """w_t before clipping."""
    clipped: np.ndarray | None = None
    token_advantage: np.ndarray | None = None
    missing: str = ""
    """Why there are no numbers at all."""

    @property
    def label(self) -> str:
        """The method's name as written."""
        return style.label(self.method)

    @property
    def clip_rates(self) -> tuple[float, float] | None:
        """Share of tokens raised to 1 − ε_w and lowered to 1 + ε_w; None without weights."""
        if self.delta is None or self.weight is None or self.clipped is None:
            return None
        flags = self.clipped[np.isfinite(self.weight)]
        return (float((flags < 0).mean()), float((flags > 0).mean())) if len(flags) else None

    @property
    def rate(self) -> str:
        """How often its weights are clipped, and how many tokens have no finite number."""
        numbers = self.delta if self.weight is None else self.weight
        return "" if numbers is None else rate_text(self.clip_rates, int((~np.isfinite(numbers)).sum()))


@dataclass(frozen=True)
class Heatmap:
    """All that is drawn of one rollout. Tokens are named by their place in `tokens`, from 0."""

    tokens: Tokens
    advantage: float
    """A of the rollout (Eq. 1)."""
    left: str = "rlsd"
    right: str = "cepo"
    lam: float = 0.5
    epsilon_w: float = 0.5
    trained_lam: float | None = None
    trained_epsilon_w: float | None = None
    view: View = "weight"
    token: int | None = None
    """The pinned one."""
    callouts: tuple[tuple[int, int], ...] = ()
    """First and last token of each numbered region."""
    title: str = ""
    caption: str = ""
    fallback: Literal["rlsd", "grpo"] | None = None
    """What the run did in this group if it had no r⁻."""

    def __post_init__(self) -> None:
        """Every choice is one of those that can be drawn."""
        _require("epsilon_w", self.epsilon_w, "a number in [0.01, 0.99]", 0.01 <= self.epsilon_w <= 0.99)
        _require("lam", self.lam, "a number in [0, 1]", 0 <= self.lam <= 1)
        _require("view", self.view, f"one of {', '.join(get_args(View))}", self.view in get_args(View))
        for method in (self.left, self.right):
            _require("method", method, f"one of {', '.join(METHODS)}", method in METHODS)
        last = len(self.tokens) - 1
        whole = self.token is None or 0 <= self.token <= last
        _require("token", self.token, f"a token from 0 to {last}", whole)
        for first, end in self.callouts:
            _require("callout", (first, end), f"first and last token from 0 to {last}", 0 <= first <= end <= last)

    @cached_property
    def panels(self) -> tuple[Panel, Panel]:
        """Credit by the left and by the right method."""
        return self.panel(self.left), self.panel(self.right)

    @cached_property
    def evidence(self) -> dict[str, np.ndarray]:
        """The recorded log-probabilities as float32, NaN where one is not a finite number."""
        columns = {name: np.asarray(getattr(self.tokens, name), np.float32) for name in EVIDENCE}
        return {name: np.where(np.isfinite(column), column, np.float32(np.nan)) for name, column in columns.items()}

    def missing(self, method: str) -> str:
        """Why a method has no numbers for this rollout; empty where it has."""
        absent = [name for name in NEEDS[method] if not np.isfinite(self.evidence[name]).any()]
        if not absent or not len(self.tokens):
            return ""
        if absent == ["log_p_wrong"] and self.fallback is not None:
            return f"{style.label(method)} has nothing to contrast here: {FALLBACKS[self.fallback]}."
        return f"{style.label(method)} cannot be shown: {ABSENT[absent[0]]}."

    def panel(self, method: str) -> Panel:
        """The tokens credited by a method at this λ and ε_w, by the very functions that train."""
        count = len(self.tokens)
        if missing := self.missing(method):
            return Panel(method, missing=missing)
        log_p = {name: torch.from_numpy(column)[None] for name, column in self.evidence.items()}
        advantages = torch.tensor([self.advantage], dtype=torch.float32)
        given = recredit(method, advantages, Evidence(**log_p), self.lam, self.epsilon_w)
        if given is None:
            return Panel(method, credit.evidence_delta(log_p["log_p_correct"], log_p["log_p_student"])[0].numpy())
        uniform = np.full(count, self.advantage, np.float32)
        if given.weighted is None:
            return Panel(method, None, np.ones(count, np.float32), np.zeros(count, np.int8), uniform)
        delta, weight, clipped = (values[0].numpy() for values in given.weighted)
        # λ = 0 and A = 0 need no evidence; by arithmetic 0 · NaN would be NaN.
        needs_none = self.lam == 0 or self.advantage == 0
        share = uniform if needs_none else given.token_advantages[0].numpy()
        return Panel(method, delta, weight, clipped, share)

    def clipped_weight(self, panel: Panel) -> np.ndarray | None:
        """The weights as they act: within 1 ± ε_w."""
        if panel.weight is None:
            return None
        return panel.weight.clip(np.float32(1 - self.epsilon_w), np.float32(1 + self.epsilon_w))

    @cached_property
    def delta_scale(self) -> float:
        """Largest finite |Δ| of both panels: where the colours of Δ end."""
        sizes = [np.abs(p.delta[np.isfinite(p.delta)]).max(initial=0) for p in self.panels if p.delta is not None]
        return float(max(sizes, default=0.0))

    @property
    def notice(self) -> str:
        """What there is to say of the whole rollout; mostly nothing."""
        if not len(self.tokens):
            return NOTICES["empty"]
        return NOTICES["zero"] if self.advantage == 0 else NOTICES["unused"] if self.lam == 0 else ""

    @property
    def difference_missing(self) -> str:
        """Why the two panels have no difference of weights; empty where they have."""
        for panel in self.panels:
            if panel.weight is None:
                return panel.missing or f"{panel.label} gives no weights, so there is no difference to show."
        return ""

    @property
    def legends(self) -> list[Legend]:
        """The colour scales in use."""
        weighs = any(panel.weight is not None for panel in self.panels)
        matches = any(panel.weight is None and panel.delta is not None for panel in self.panels)
        used = [self.view, "delta"] if weighs and matches else [self.view if weighs else "delta"]
        own = [self.view] if self.view in ("delta", "difference") else used
        scales = legends(self.epsilon_w, abs(self.advantage), self.delta_scale)
        return [scales[name] for name in own]

    def shares(self, panel: Panel) -> np.ndarray | None:
        """Where each token stands on the colour scale, from −1 to 1; NaN without a number, None without any.

        The weight counts by its logarithm, Δ by log(1 + |Δ|): both spread the many tokens near the middle.
        """
        weight = self.clipped_weight(panel)
        if self.view == "difference":
            left, right = (self.clipped_weight(p) for p in self.panels)
            if left is None or right is None:
                return None
            return (right.astype(float) - left) / (2 * self.epsilon_w)
        if self.view == "advantage" and panel.token_advantage is not None:
            end = abs(self.advantage) * (1 + self.epsilon_w)
            return panel.token_advantage.astype(float) / end if end else np.zeros(len(self.tokens))
        if self.view == "weight" and weight is not None:
            logs = np.log(weight.astype(float))
            return np.where(logs < 0, logs / -np.log(1 - self.epsilon_w), logs / np.log(1 + self.epsilon_w))
        if panel.delta is None:
            return None if panel.missing else np.zeros(len(self.tokens))
        delta = panel.delta.astype(float)
        end = np.log1p(self.delta_scale)
        return np.sign(delta) * np.log1p(np.abs(delta)) / end if end else delta

    def bins(self, panel: Panel) -> np.ndarray | None:
        """Colour class of every token, 0 to 20, or `HATCHED`; None where the panel has no numbers."""
        shares = self.shares(panel)
        if shares is None:
            return None
        middle = BINS // 2
        classes = np.floor(middle * np.nan_to_num(shares).clip(-1, 1) + middle + 0.5)
        return np.where(np.isfinite(shares), classes, HATCHED).astype(np.int8)

    def payload(self) -> dict[str, Any]:
        """The same for the page's script, as JSON: null stands for what is not a finite number."""
        tokens = self.tokens
        content = {
            "advantage": _numbers(np.array([self.advantage]))[0],
            "position": tokens.position.tolist(),
            "pieces": [[[part.text, int(part.is_marker)] for part in piece.parts] for piece in tokens.display],
            "classes": list(tokens.classes),
            "evidence": {name: _numbers(getattr(tokens, name)) for name in EVIDENCE},
            "divergence": _numbers(tokens.divergence),
            "entropy": _numbers(tokens.entropy),
            "labels": {name: style.label(name) for name in METHODS},
            "notes": NOTES,
            "notices": NOTICES,
            "missing": {name: self.missing(name) for name in METHODS},
            "trained": {"eps": self.trained_epsilon_w, "lam": self.trained_lam},
        }
        return content | {"id": hashlib.sha256(repr(content).encode()).hexdigest()[:16], "state": self.state()}

    def state(self) -> dict[str, Any]:
        """The choices a person can change, as the page sends them back."""
        return {
            "eps": self.epsilon_w,
            "lam": self.lam,
            "view": self.view,
            "left": self.left,
            "right": self.right,
            "token": self.token,
            "callouts": [list(each) for each in self.callouts],
        }


def token_table(view: Heatmap) -> pd.DataFrame:
    """Every number of a heatmap, one row a token."""
    tokens = view.tokens
    columns: dict[str, Any] = {
        "position": tokens.position,
        "token": [piece.text for piece in tokens.display],
        "class": list(tokens.classes),
        **view.evidence,
        "entropy": tokens.entropy,
    }
    for side, panel in zip(("left", "right"), view.panels, strict=True):
        name = panel.method if view.left != view.right else f"{panel.method}_{side}"
        numbers = {"delta": panel.delta, "weight": panel.weight, "clipped": panel.clipped}
        numbers["token_advantage"] = panel.token_advantage
        columns |= {f"{name}_{key}": np.nan if column is None else column for key, column in numbers.items()}
    return pd.DataFrame(columns)


def _numbers(column: np.ndarray) -> list[float | None]:
    """float32 as JSON numbers: nine digits are enough to give back the same float32."""
    return [float(f"{x:.9g}") if np.isfinite(x) else None for x in np.asarray(column, np.float32).tolist()]


def _require(name: str, value: object, expected: str, fulfilled: bool) -> None:
    if not fulfilled:
        raise InputError(f"heatmap: {name} must be {expected}, got {value!r}; choose another")
