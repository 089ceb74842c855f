"""Where the evidence of whole runs lies: by class of token, and where CEPO is sharper than RLSD."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import pandas as pd
import streamlit as st

from analysis.curves import Recording, Shown, View
from analysis.measures import against_of, class_table
from analysis.store import RunFile
from analysis.tables.export import to_html
from analysis.tables.runs import class_words, sharper_words
from analysis.tokens import EvidenceCounts
from app import loading
from app.sections import figures
from core.errors import InputError
from core.methods import CEPO

T = TypeVar("T")


def counts(files: Mapping[str, RunFile], shown: Sequence[Recording], view: View) -> dict[str, EvidenceCounts]:
    """Evidence by token class, of each run that is asked for some."""
    found = {}
    for recording in shown:
        against = against_of(recording.info.method, view.delta)
        if against is not None:
            both = _read(loading.evidence_counts, files[recording.key])
            if both is not None:
                found[recording.key] = both[against]
    return found


def delta_counts(
    files: Mapping[str, RunFile], recordings: Mapping[str, Recording], view: View
) -> dict[str, pd.DataFrame]:
    """Signs of Δ by rollout where the view asks for more than the steps recorded; {} where they suffice."""
    if not view.needs_tokens:
        return {}
    if (view.delta, view.tau) == ("own", 0.0):
        return {key: recordings[key].counts for key in files}
    found = {
        key: _read(loading.delta_counts, run, recordings[key].info.method, view.delta, view.tau)
        for key, run in files.items()
    }
    return {key: each for key, each in found.items() if each is not None}


def _read(read: Callable[..., T], run: RunFile, *arguments: object) -> T | None:
    """What a run's tokens say, or None with the reason on the page: the rest of it needs no tokens."""
    try:
        return read(run, *arguments)
    except InputError as error:
        st.warning("The tokens of a run could not be read; it is left out here.", icon=":material/warning:")
        st.code(str(error), language=None, wrap_lines=True)
        return None


def show(shown: Shown, files: Mapping[str, RunFile]) -> None:
    """The figure, its numbers, and Proposition 1 counted."""
    figures.show("token_classes", shown)
    with st.expander("The numbers by class, and where CEPO is sharper than RLSD", icon=":material/table:"):
        for recording in shown.recordings:
            found = shown.evidence.get(recording.key)
            if found is not None and found.n.sum():
                _classes(recording, found)
        _sharper({recording.key: files[recording.key] for recording in shown.recordings})


def _classes(recording: Recording, found: EvidenceCounts) -> None:
    recorded = recording.steps.epsilon_w.dropna()
    epsilon_w = float(recorded.iloc[-1]) if len(recorded) else CEPO().epsilon_w
    caption = f"{recording.key}: Δ in nats, weights clipped at ε_w = {epsilon_w:g}"
    st.html(to_html(class_words(class_table(found, epsilon_w)), caption))


def _sharper(files: Mapping[str, RunFile]) -> None:
    found = {key: _read(loading.sharper_counts, run) for key, run in files.items()}
    table = sharper_words({key: each for key, each in found.items() if each is not None})
    if table.empty:
        st.caption("No wrong teacher's evidence is recorded, so Proposition 1 has nothing to count.")
    else:
        caption = "Proposition 1: tokens at which CEPO's weight, before clipping, is above RLSD's"
        st.html(to_html(table, caption))
