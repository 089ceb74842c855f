"""How the runs stand: the table, what to look at, where the numbers come from."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import streamlit as st

from analysis.alerts import alerts, duration, is_live, seconds_since
from analysis.curves import Recording
from analysis.tables.export import to_html
from analysis.tables.runs import drift, provenance, run_table, seed_table
from app import loading
from app.markup import plain

REFRESH_SECONDS = 3.0
"""Between two looks at runs that are being trained."""


def now() -> datetime:
    """The time as run files tell it: UTC, naive."""
    return datetime.now(UTC).replace(tzinfo=None)


def live(shown: Sequence[Recording]) -> list[Recording]:
    """The runs that are being trained right now."""
    return [recording for recording in shown if is_live(recording.info, now())]


def held() -> None:
    """A trainer keeps one of the files, and what was read last is shown."""
    key = loading.held()
    if key is not None:
        st.info("The trainer is writing; what was read last is shown.", icon=":material/hourglass:")
        st.code(key, language=None)


def table(listed: Sequence[Recording], shown: Sequence[Recording], *, group_seeds: bool) -> None:
    """The runs, how they stand, and every alert of those shown in full."""
    time, keys = now(), [recording.key for recording in shown]
    found = alerts(shown, time)
    found = alerts([recording for recording in listed if recording.key not in keys], time) | found
    make = seed_table if group_seeds else run_table
    active = live(shown)
    if active:
        newest = min(seconds_since(recording.info, time) for recording in active)
        st.html(f'<p role="status" style="margin:0"><strong>● live</strong>, {duration(newest)} ago</p>')
    caption = f"{len(shown)} of {len(listed)} runs shown (☑). Held-out: one response a problem, newest validation."
    st.html(to_html(make(listed, found, time, keys), caption))
    sentences = [(key, alert.sentence) for key in keys for alert in found[key]]
    if sentences:
        items = "".join(f"<li><strong>{plain(key)}</strong>: {plain(sentence)}</li>" for key, sentence in sentences)
        st.html(
            '<section aria-label="Alerts" style="border-left:4px solid #b26a00;padding:.1rem 0 .1rem .9rem">'
            f'<strong>▲ To look at</strong><ul style="margin:.2rem 0 0 1.1rem;padding:0">{items}</ul></section>'
        )


def origins(shown: Sequence[Recording]) -> None:
    """Provenance of each run, and the settings in which they differ."""
    with st.expander("Provenance", icon=":material/history_edu:", expanded=True):
        st.html(to_html(provenance(shown), "Where the numbers come from; ▲ marks teachers that do not see the image"))
    if len(shown) < 2:
        return
    different = drift(shown)
    count = len(different)
    heading = "No setting differs" if not count else f"{count} setting{'s' if count > 1 else ''} differ"
    with st.expander(f"{heading} besides method and seed", icon=":material/difference:", expanded=0 < count <= 6):
        if count:
            st.html(to_html(different, "Settings in which the runs shown differ; – where a method has no such setting"))
        else:
            st.caption("What was compared: the whole configuration, model, problems, commit, device, library versions.")


def unreadable(reasons: Mapping[str, str]) -> None:
    """Files that look like runs and cannot be read, each with why."""
    if not reasons:
        return
    count = len(reasons)
    st.warning(
        f"{count} file{'s' if count > 1 else ''} could not be read; all others are shown.", icon=":material/warning:"
    )
    for reason in reasons.values():
        st.code(reason, language=None, wrap_lines=True)


def nothing(runs_dir: Path, *, has_example: bool) -> None:
    """No run was found."""
    more = (
        "; until then, this is the recorded example that comes with Credence."
        if has_example
        else ", and watch it here:"
    )
    st.info(f"No runs yet. Train one{more}", icon=":material/model_training:")
    st.code("python -m core.train", language="bash")
    st.text(f"Searched: {runs_dir.resolve()}/*/run.duckdb and one folder deeper.")
