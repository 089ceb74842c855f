"""Which run, step and rollout are shown."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import streamlit as st

from analysis.store import RunFile
from analysis.tokens import Rollout
from app import loading
from app.address import nearest
from app.going import go_to_widget
from core.errors import InputError

ELSEWHERE = {"rollout": None, "tok": None, "marks": (), "eps": None, "lam": None}
"""What a new run or step leaves to the page."""


def choose_run(files: Mapping[str, RunFile], asked: str | None) -> tuple[RunFile, list[str]]:
    """The run that is asked for, or the first that can be read."""
    key = asked if asked is not None and asked in files else first_readable(files)
    st.session_state["run"] = key
    st.selectbox(
        "Run", list(files), key="run", on_change=go_to_widget, args=("run", "run"), kwargs={"step": None, **ELSEWHERE}
    )
    unknown = asked is not None and asked not in files
    return files[key], ["The address names a run that is not here; another one is shown."] if unknown else []


def first_readable(files: Mapping[str, RunFile]) -> str:
    """The first run to look at; the page of runs lists those that cannot be read, with their reasons."""
    for key, run in files.items():
        with suppress(InputError):
            loading.outline(run)
            return key
    return next(iter(files))


def choose_step(there: Sequence[int], asked: int | None) -> tuple[int, list[str]]:
    """A recorded step; the first one unless another is asked for."""
    step, notices = nearest(asked, there, there[0], "step")
    _stepper(f"Step, to {there[-1]}", "step", step, there[0], there[-1], ELSEWHERE)
    return step, notices


def choose_rollout(rollout: Rollout, asked: int | None) -> list[str]:
    """Another rollout of the step."""
    last = rollout.count - 1
    _stepper(f"Rollout, 0 to {last}", "rollout", rollout.index, 0, last, {"tok": None, "marks": ()})
    return nearest(asked, range(rollout.count), rollout.index, "rollout")[1]


def _stepper(label: str, name: str, value: int, first: int, last: int, changes: dict) -> None:
    """A number with a button on either side."""
    st.session_state[name] = value
    st.number_input(label, first, last, key=name, on_change=go_to_widget, args=(name, name), kwargs=changes)
