"""What the pages read, remembered until the file it came from changes; the only place that caches."""

import argparse
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis import eval_store, recordings, search, tokens
from analysis.catalogue import EXHIBITS
from analysis.comparison import Contest, compare
from analysis.contenders import PairedContest
from analysis.curves import Shown
from analysis.eval_store import EvalFile, EvalStore, Evaluation
from analysis.store import RunFile, Store, Unreadable
from analysis.style import Theme
from core.runfile import FileHeldError

P = ParamSpec("P")
T = TypeVar("T")


def folders() -> argparse.Namespace:
    """The folders named on the command line: `streamlit run app/main.py -- --runs-dir runs --evals-dir evals`."""
    parser = argparse.ArgumentParser(prog="streamlit run app/main.py --", description="The workbench.")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where recorded runs are")
    parser.add_argument("--evals-dir", type=Path, default=Path("evals"), help="where evaluations are")
    return parser.parse_known_args(sys.argv[1:])[0]


def runs_dir() -> Path:
    """Where recorded runs are looked for."""
    return folders().runs_dir


def evals_dir() -> Path:
    """Where evaluations are looked for."""
    return folders().evals_dir


def store() -> Store:
    """The runs there are."""
    return Store(runs_dir())


def theme() -> Theme:
    """The theme the browser shows."""
    return "dark" if st.context.theme.type == "dark" else "light"


def held() -> str | None:
    """The run whose file a trainer keeps at this look at the page, so that what was read last is shown."""
    return st.session_state.get("held")


def look_again() -> None:
    """A new look at the page: wait for a file that was held at the last one."""
    st.session_state.pop("held", None)


def _identity(run: RunFile) -> tuple[str, tuple[int, int]]:
    return str(run.path), run.stamp


def reader(function: Callable[Concatenate[RunFile, P], T]) -> Callable[Concatenate[RunFile, P], T]:
    """Remember what a function read of a run file; while a trainer keeps the file, what was read last still counts."""
    cached = st.cache_data(hash_funcs={RunFile: _identity}, max_entries=256, show_spinner=False)(function)

    @wraps(function)
    def read(run: RunFile, *args: P.args, **kwargs: P.kwargs) -> T:
        place = f"last {function.__name__} of {run.key}"
        given, value = st.session_state.get(place, (None, None))
        if held() == run.key and given == (args, kwargs):
            return value  # this look at the page has waited for the file already
        try:
            value = cached(run, *args, **kwargs)
        except FileHeldError:
            if given != (args, kwargs):
                raise
            st.session_state["held"] = run.key
            return value
        st.session_state[place] = ((args, kwargs), value)
        return value

    return read


outline = reader(RunFile.outline)
rollout = reader(tokens.read_rollout)
rollout_list = reader(tokens.rollout_list)
evidence_counts = reader(tokens.evidence_counts)
found = reader(search.search)
recording = reader(recordings.read_recording)
delta_counts = reader(recordings.read_counts)
sharper_counts = reader(recordings.sharper_counts)


@st.cache_resource(hash_funcs={Shown: lambda shown: shown.identity}, max_entries=64, show_spinner=False)
def exhibit(name: str, shown: Shown, theme: Theme) -> go.Figure:
    """A figure of the catalogue; nobody may change it."""
    return EXHIBITS[name].build(shown, theme)


_evaluation = st.cache_data(
    hash_funcs={EvalFile: lambda file: (str(file.path), file.stamp)}, max_entries=64, show_spinner=False
)(eval_store.read_evaluation)
_comparison = st.cache_data(hash_funcs={PairedContest: PairedContest.identity}, max_entries=64, show_spinner=False)(
    compare
)


def evaluations() -> tuple[list[Evaluation], list[Unreadable]]:
    """The evaluations there are, and the files that cannot be read with the reason."""
    return EvalStore(evals_dir()).read(_evaluation)


def comparison(contest: Contest, baseline: str) -> pd.DataFrame:
    """Methods beside each other on benchmarks, with what the data separate."""
    return _comparison(contest, baseline)
