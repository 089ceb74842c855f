"""The address of a view of Tokens: all that is shown stands in the URL, and nothing that stands there is trusted."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, get_args

from analysis.heatmap import View
from analysis.whatif import ALTERNATIVES, Alternative
from core.methods import METHODS


@dataclass(frozen=True)
class Address:
    """What the URL asks for; None where it leaves the choice to the page."""

    run: str | None = None
    step: int | None = None
    rollout: int | None = None
    """Place among the rollouts of the step, from 0."""
    tok: int | None = None
    """The pinned token."""
    eps: float | None = None
    lam: float | None = None
    """ε_w and λ; None as they were trained."""
    view: View = "weight"
    left: str = "rlsd"
    right: str = "cepo"
    wrong: Alternative = "recorded"
    marks: tuple[tuple[int, int], ...] = ()
    """First and last token of each callout."""


WHOLE = re.compile(r"\d{1,9}")
NUMBER = re.compile(r"[01]?\.?\d{1,6}")
MARKS = re.compile(r"(\d{1,6}-\d{1,6})(_\d{1,6}-\d{1,6}){0,19}")
CHOICES: dict[str, Sequence[str]] = {
    "view": get_args(View),
    "left": tuple(METHODS),
    "right": tuple(METHODS),
    "wrong": tuple(ALTERNATIVES),
}


def parse(parameters: Mapping[str, str]) -> tuple[Address, list[str]]:
    """Read an address; a value that cannot be is left out, and a notice names its parameter, never the value."""
    found: dict[str, Any] = {}
    notices = []
    for name, text in parameters.items():
        value = _value(name, text)
        if value is not None:
            found[name] = value
        elif name in {field.name for field in fields(Address)}:
            notices.append(f"The address names no usable “{name}”; the default is shown.")
    return Address(**found), notices


def _value(name: str, text: str) -> Any:
    if name == "run":
        return text
    if name in ("step", "rollout", "tok"):
        return int(text) if WHOLE.fullmatch(text) else None
    if name in ("eps", "lam"):
        low, high = (0.01, 0.99) if name == "eps" else (0.0, 1.0)
        return float(text) if NUMBER.fullmatch(text) and low <= float(text) <= high else None
    if name in CHOICES:
        return text if text in CHOICES[name] else None
    if name == "marks" and MARKS.fullmatch(text):
        pairs = tuple(tuple(map(int, part.split("-"))) for part in text.split("_"))
        return pairs if all(first <= last for first, last in pairs) else None
    return None


def to_parameters(address: Address) -> dict[str, str]:
    """The address as URL parameters; what is the default is left out."""
    default = Address()
    texts = {}
    for field in fields(Address):
        value = getattr(address, field.name)
        if value != getattr(default, field.name):
            texts[field.name] = (
                "_".join(f"{first}-{last}" for first, last in value) if field.name == "marks" else _text(value)
            )
    return texts


def _text(value: Any) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def nearest(asked: int | None, there: Sequence[int], default: int, name: str) -> tuple[int, list[str]]:
    """The step or rollout to show: the one asked for, or the nearest there is, with a notice."""
    if asked is None:
        return default, []
    if asked in there:
        return asked, []
    found = min(there, key=lambda number: abs(number - asked))
    return found, [f"There is no {name} {asked} in this run; {name} {found} is shown."]
