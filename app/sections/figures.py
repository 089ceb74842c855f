"""The figures of the Runs page: each with its caption, its way to Tokens and its exports."""

from collections.abc import Sequence
from functools import partial

import streamlit as st

from analysis.catalogue import EXHIBITS, Exhibit
from analysis.curves import Recording, Shown
from analysis.figures.panels import alternative, plotted
from analysis.tables.export import to_csv
from app import loading

CONFIG = {"displaylogo": False, "toImageButtonOptions": {"format": "svg"}, "responsive": True}


def show(name: str, shown: Shown) -> None:
    """A figure of the catalogue; a click on one of its points opens Tokens there."""
    exhibit = EXHIBITS[name]
    figure = loading.exhibit(name, shown, loading.theme())
    with st.container(border=True):
        st.plotly_chart(
            figure,
            key=f"figure {name}",
            theme=None,
            on_select=partial(ask_for_point, f"figure {name}") if exhibit.opens_steps else "ignore",
            selection_mode="points",
            config=CONFIG | {"toImageButtonOptions": {"format": "svg", "filename": name}},
            alt=alternative(figure),
        )
        with st.container(horizontal=True, vertical_alignment="top", wrap=False):
            st.caption(exhibit.caption + (f" As {exhibit.reference}." if exhibit.reference else ""))
            with st.popover("Export", icon=":material/download:", key=f"export {name}"):
                _exports(name, exhibit, shown)


def _exports(name: str, exhibit: Exhibit, shown: Shown) -> None:
    """What is downloaded is drawn when it is asked for."""

    def html() -> str:
        return exhibit.build(shown, "light").to_html(include_plotlyjs=True, config=CONFIG)

    def csv() -> str:
        return to_csv(plotted(exhibit.build(shown, "light")))

    st.download_button("HTML, works offline", html, f"{name}.html", "text/html", key=f"html {name}", on_click="ignore")
    st.download_button("CSV of its points", csv, f"{name}.csv", "text/csv", key=f"csv {name}", on_click="ignore")
    st.caption("SVG: the camera above the figure.")


def ask_for_tokens(key: str, step: int | None) -> None:
    """Leave for Tokens at a run and a step, at the next look at this page and before anything of it is drawn again."""
    place = {"run": str(key)} if step is None else {"run": str(key), "step": str(int(step))}
    st.session_state["tokens asked for"] = place


def ask_for_point(figure: str) -> None:
    """Leave for the run and the step of the point that was clicked."""
    for point in st.session_state[figure]["selection"]["points"]:
        if "customdata" in point:
            ask_for_tokens(point["customdata"][0], point["customdata"][1])


def ask_for_choice() -> None:
    """Leave for the run and the step chosen below the figures, as they are when the button is pressed."""
    key = st.session_state["tokens of"]
    ask_for_tokens(key, st.session_state.get(f"at step of {key}"))  # none yet for a run chosen just before


def leave_if_asked() -> None:
    """Go where somebody asked to go."""
    place = st.session_state.pop("tokens asked for", None)
    if place is not None:
        st.switch_page("views/tokens.py", query_params=place)


def way_to_tokens(shown: Sequence[Recording]) -> None:
    """The same way without a pointer: a run, a step, a button."""
    started = {recording.key: recording for recording in shown if recording.info.last_step}
    if not started:
        return
    row = st.columns([3, 1, 1.2, 3], vertical_alignment="bottom")
    key = row[0].selectbox("Look at the tokens of", list(started), key="tokens of")
    last = started[key].info.last_step
    row[1].number_input("at step", 1, last, value=last, key=f"at step of {key}")
    row[2].button("Open tokens", icon=":material/token:", width="stretch", on_click=ask_for_choice)
    row[3].caption("Or click a point of a curve.")
