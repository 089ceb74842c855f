"""Which runs are shown, and how: the controls of the Runs page and the address they write."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

import streamlit as st

from analysis.curves import Recording, View
from analysis.store import EXAMPLE, RunFile
from analysis.style import label
from app import loading
from app.runs_address import CHOICES, MOST_TAU, RunsAddress, parse, to_parameters
from core.errors import InputError

MOST_SHOWN = 8
"""Runs that are shown when nobody chose."""
NAMES = {"step": "steps", "tokens": "tokens", "seconds": "seconds"}
DELTAS = {"own": "own method", "rlsd": "RLSD", "cepo": "CEPO"}
SIGNS = {"all": "all", "positive": "A > 0", "negative": "A < 0"}
PARAMETERS = (*CHOICES, "tau", "runs")


def read_all(files: Mapping[str, RunFile]) -> tuple[dict[str, Recording], dict[str, str]]:
    """Every run that can be read, and why the others cannot."""
    recordings, unreadable = {}, {}
    for key, run in files.items():
        try:
            recordings[key] = loading.recording(run)
        except InputError as error:
            unreadable[key] = str(error)
    return recordings, unreadable


def newest_folder(keys: Sequence[str]) -> tuple[str, ...]:
    """The runs to show when nobody chose: those beside the newest one, the newest first, at most eight."""
    own = [key for key in keys if not key.startswith(f"{EXAMPLE}/")] or list(keys)
    beside = [key for key in own if PurePosixPath(key).parent == PurePosixPath(own[0]).parent] if own else []
    return tuple(beside[:MOST_SHOWN])


def address_of(recordings: Mapping[str, Recording]) -> tuple[RunsAddress, list[str]]:
    """What the URL asks for, or what was shown when this page was last left."""
    given = {name: text for name, text in st.query_params.items() if name in PARAMETERS}
    return parse(given or st.session_state.get("runs page", {}), recordings)


def choose(recordings: Mapping[str, Recording], address: RunsAddress) -> tuple[str, ...]:
    """Filters, and the runs shown, by key; the default is the newest folder."""
    row = st.columns([5, 1.1, 1.4], vertical_alignment="bottom")
    with row[1].popover("Filter", icon=":material/filter_list:", width="stretch"):
        _filters(recordings)
    chosen = address.runs if address.runs is not None else newest_folder(list(recordings))
    if "runs shown" not in st.session_state:
        st.session_state["runs shown"] = [key for key in chosen if key in recordings]
    kept = [key for key in st.session_state["runs shown"] if key in recordings]
    st.session_state["runs shown"] = kept
    row[0].multiselect(
        "Runs shown",
        [key for key, recording in recordings.items() if key in kept or passes(recording)],
        key="runs shown",
        format_func=_one_line,
        placeholder="Choose the runs to compare",
    )
    _remember("seeds", "grouped" if address.view.group_seeds else "single")
    row[2].segmented_control(
        "Seeds",
        CHOICES["seeds"],
        key="seeds",
        required=True,
        help="Grouped: from three seeds of one configuration on, their mean with a 95 % t-interval.",
    )
    order = list(recordings)
    return tuple(sorted(st.session_state["runs shown"], key=order.index))


def _one_line(key: str) -> str:
    return "".join(char if char.isprintable() else "�" for char in key)


FILTERS: dict[str, Callable[[Recording], str]] = {
    "Method": lambda recording: label(recording.info.method),
    "Model": lambda recording: recording.info.model,
    "Seed": lambda recording: str(recording.info.seed),
}


def _filters(recordings: Mapping[str, Recording]) -> None:
    """Narrow what is listed and offered; a filter without a choice lets every run through."""
    for name, read in FILTERS.items():
        options = sorted({read(recording) for recording in recordings.values()})
        st.multiselect(name, options, key=f"only {name}", placeholder="all", format_func=_one_line)
    count = sum(passes(recording) for recording in recordings.values())
    st.caption(f"{count} of {len(recordings)} runs are listed; those shown stay.")


def passes(recording: Recording) -> bool:
    """Every filter lets the run through."""
    wanted = {name: st.session_state.get(f"only {name}") for name in FILTERS}
    return all(not some or FILTERS[name](recording) in some for name, some in wanted.items())


def choose_view(address: RunsAddress) -> View:
    """What stands along x, and which Δ is counted how."""
    view = address.view
    for name in ("x", "delta", "sign", "weighting"):
        _remember(name, getattr(view, name))
    _remember("tau", view.tau)
    row = st.columns([1.3, 1.3, 1.1, 1.2, 0.8], vertical_alignment="bottom")
    row[0].segmented_control("Along x", CHOICES["x"], format_func=NAMES.__getitem__, key="x", required=True)
    row[1].segmented_control(
        "Δ by", CHOICES["delta"], format_func=DELTAS.__getitem__, key="delta", required=True,
        help="RLSD and CEPO read Δ from recorded log-probabilities, whatever method trained (Eq. 4, Eq. 5).",
    )  # fmt: skip
    row[2].segmented_control(
        "Δ in rollouts with", CHOICES["sign"], format_func=SIGNS.__getitem__, key="sign", required=True
    )
    row[3].segmented_control(
        "Δ weighted by", CHOICES["weighting"], key="weighting", required=True,
        help="Tokens: long rollouts count more. Rollouts: each counts the same.",
    )  # fmt: skip
    row[4].number_input(
        "τ, nats",
        0.0,
        MOST_TAU,
        step=0.05,
        key="tau",
        help="|Δ| must exceed τ to count; the paper's Figure 4 has τ = 0.",
    )
    state = st.session_state
    return View(state.x, state.delta, float(state.tau), state.sign, state.weighting, state.seeds == "grouped")


def _remember(key: str, value: object) -> None:
    if key not in st.session_state:
        st.session_state[key] = value


def write_address(keys: tuple[str, ...], view: View, default: Sequence[str]) -> None:
    """Make the URL say what is shown; the default stays unsaid, so that a bookmark of it follows new runs."""
    wanted = to_parameters(RunsAddress(None if set(keys) == set(default) else keys, view))
    st.session_state["runs page"] = wanted
    for name in PARAMETERS:
        if name in wanted:
            if st.query_params.get(name) != wanted[name]:
                st.query_params[name] = wanted[name]
        elif name in st.query_params:
            del st.query_params[name]
