"""Every number of the heatmap as a table that can be read aloud."""

import math

import streamlit as st

from analysis.heatmap import Heatmap, token_table
from app import markup

PAGE = 128
"""Tokens shown at once."""


def show(view: Heatmap) -> None:
    """The tokens around the pinned one, or from the start."""
    pages = max(1, math.ceil(len(view.tokens) / PAGE))
    page = 1
    if pages > 1:
        st.session_state.setdefault("page", 1 + (view.token or 0) // PAGE)
        st.session_state["page"] = min(st.session_state["page"], pages)
        page = st.number_input(f"Page (of {pages}, {PAGE} tokens each)", 1, pages, key="page")
    rows = token_table(view).iloc[PAGE * (page - 1) : PAGE * page]
    markup.table(
        rows.map(written).rename(columns=lambda name: name.replace("_", " ")),
        caption=f"Tokens {PAGE * (page - 1)} to {PAGE * (page - 1) + len(rows) - 1} of {len(view.tokens)}; "
        "log-probabilities and Δ in nats",
    )


def written(value: object) -> str:
    """A number to four places, a dash where there is none."""
    if isinstance(value, float):
        return f"{value:.4f}" if math.isfinite(value) else "–"
    return str(value)
