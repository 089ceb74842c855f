"""Recorded text on the page: always escaped, never read as Markdown, never as HTML."""

from collections.abc import Mapping
from html import escape

import pandas as pd
import streamlit as st

from analysis.pieces import display_pieces
from analysis.tables.export import to_html

ROW = "display:flex;gap:.6rem;padding:.1rem 0"


def plain(value: object) -> str:
    """A recorded text as HTML that shows it literally, invisible and turning characters made visible."""
    return escape(display_pieces([str(value)], [None])[0].text)


def facts(pairs: Mapping[str, object], *, label: str) -> None:
    """Names and values side by side."""
    rows = "".join(
        f'<div style="{ROW}"><dt style="min-width:7.5rem;opacity:.8">{escape(name)}</dt>'
        f'<dd style="margin:0;overflow-wrap:anywhere">{plain(value)}</dd></div>'
        for name, value in pairs.items()
    )
    st.html(f'<dl aria-label="{escape(label)}" style="margin:0;font-size:.9rem">{rows}</dl>')


def table(rows: pd.DataFrame, *, caption: str) -> None:
    """A table that a screen reader can walk; the first column names the row."""
    st.html(to_html(rows, caption))
