"""Runs: what is being trained and what came of it, live; a click on a curve opens Tokens there."""

import streamlit as st

from analysis.curves import Shown
from analysis.store import EXAMPLE
from app import loading
from app.sections import evidence, figures, run_choice, run_status

CURVES = (("accuracy", "reward"), ("delta_fractions", "clips"))

figures.leave_if_asked()
files = loading.store().files()
recordings, unreadable = run_choice.read_all(files)
if not any(not key.startswith(f"{EXAMPLE}/") for key in files):
    run_status.nothing(loading.runs_dir(), has_example=bool(recordings))
if not recordings:
    run_status.unreadable(unreadable)
    st.stop()

address, notices = run_choice.address_of(recordings)
for notice in notices:
    st.info(notice, icon=":material/info:")
keys = run_choice.choose(recordings, address)
status = st.empty()
run_status.unreadable(unreadable)
st.subheader("Over training", anchor=False)
view = run_choice.choose_view(address)
run_choice.write_address(keys, view, run_choice.newest_folder(list(recordings)))
counts = evidence.delta_counts({key: files[key] for key in keys}, recordings, view)
is_live = bool(run_status.live([recordings[key] for key in keys]))


@st.fragment(run_every=run_status.REFRESH_SECONDS if is_live else None)
def follow() -> None:
    """The table and the curves: all that moves while a run is trained, read from its steps alone."""
    figures.leave_if_asked()
    loading.look_again()
    fresh, _ = run_choice.read_all({key: files[key] for key in keys})
    newest = recordings | fresh
    shown = Shown(tuple(newest[key] for key in keys), view, counts)
    with status.container():
        run_status.held()
        listed = [each for key, each in newest.items() if key in keys or run_choice.passes(each)]
        run_status.table(listed, shown.recordings, group_seeds=view.group_seeds)
    for row in CURVES:
        for column, name in zip(st.columns(len(row)), row, strict=True):
            with column:
                figures.show(name, shown)
    figures.show("seconds", shown)
    if is_live and not run_status.live(shown.recordings):
        st.rerun()  # nothing moves any more: stop looking


if keys:
    follow()
    chosen = tuple(recordings[key] for key in keys)
    figures.way_to_tokens(chosen)
    st.subheader("Where the evidence lies", anchor=False)
    evidence.show(Shown(chosen, view, evidence=evidence.counts(files, chosen, view)), files)
    st.subheader("Where the numbers come from", anchor=False)
    run_status.origins(chosen)
else:
    with status.container():
        run_status.table(
            [each for each in recordings.values() if run_choice.passes(each)], [], group_seeds=view.group_seeds
        )
    st.info("No run is chosen; choose some above to see their curves.", icon=":material/check_box:")
