"""The address of a view of Runs: which runs, and how they are drawn; nothing that stands in a URL is trusted."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import quote, unquote

from analysis.curves import DEFAULT_VIEW, Axis, View
from analysis.measures import DeltaKind, Sign, Weighting

NUMBER = re.compile(r"\d{1,2}(\.\d{1,3})?")
MOST_TAU = 10.0
"""Nats; a token that the hint makes 22,000 times as probable."""
CHOICES: dict[str, tuple[str, ...]] = {
    "x": get_args(Axis),
    "delta": get_args(DeltaKind),
    "sign": get_args(Sign),
    "weighting": get_args(Weighting),
    "seeds": ("grouped", "single"),
}
"""What each parameter may say; its first is the default."""


@dataclass(frozen=True)
class RunsAddress:
    """What the URL asks for."""

    runs: tuple[str, ...] | None = None
    """Keys of runs; None leaves the choice to the page."""
    view: View = DEFAULT_VIEW


def parse(parameters: Mapping[str, str], there: Collection[str]) -> tuple[RunsAddress, list[str]]:
    """Read an address; what cannot be is left out, with a notice that names the parameter, never its value.

    Args:
        parameters: of the URL.
        there: keys of the runs there are.
    """
    notices = []
    chosen: dict[str, Any] = {}
    for name, allowed in CHOICES.items():
        value = parameters.get(name, allowed[0])
        if value not in allowed:
            notices.append(f"The address names no usable “{name}”; the default is shown.")
            value = allowed[0]
        chosen[name] = value
    tau = parameters.get("tau", "0")
    if not NUMBER.fullmatch(tau) or float(tau) > MOST_TAU:
        notices.append("The address names no usable “tau”; the default is shown.")
        tau = "0"
    runs, run_notices = _runs(parameters.get("runs"), there)
    grouped = chosen.pop("seeds") == "grouped"
    return RunsAddress(runs, View(**chosen, tau=float(tau), group_seeds=grouped)), notices + run_notices


def _runs(text: str | None, there: Collection[str]) -> tuple[tuple[str, ...] | None, list[str]]:
    if text is None:
        return None, []
    asked = dict.fromkeys(unquote(part) for part in text.split(",") if part)
    known = tuple(key for key in asked if key in there)
    missing = len(asked) - len(known)
    if not missing:
        return known, []
    which = "1 run that is" if missing == 1 else f"{missing} runs that are"
    instead = "the others are shown" if known else "the newest are shown"
    return known or None, [f"The address names {which} not among the runs found here; {instead}."]


def to_parameters(address: RunsAddress) -> dict[str, str]:
    """The address as URL parameters; what is the default is left out."""
    view = address.view
    texts = {
        "x": view.x,
        "delta": view.delta,
        "sign": view.sign,
        "weighting": view.weighting,
        "seeds": "grouped" if view.group_seeds else "single",
    }
    kept = {name: text for name, text in texts.items() if text != CHOICES[name][0]}
    if view.tau:
        kept["tau"] = f"{view.tau:.3f}".rstrip("0").rstrip(".")
    if address.runs is not None:
        # a folder's name may hold a comma itself
        kept["runs"] = ",".join(quote(key, safe="/") for key in address.runs)
    return kept
