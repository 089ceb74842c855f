"""Take the heatmap away: as a page, a drawing, a document, or numbers."""

from typing import get_args

import streamlit as st

from analysis.heatmap import Heatmap, token_table
from analysis.heatmap_svg import Palette, heatmap_svg
from analysis.store import RunFile
from analysis.style import Theme
from analysis.tables.export import to_csv
from analysis.tokens import Rollout
from app.components.heatmap import page_html
from app.exports import find_chromium, pdf_of

THEMES: tuple[Theme, ...] = get_args(Theme)
PALETTES: tuple[Palette, ...] = get_args(Palette)
PALETTE_HELP = "safe: told apart with any colour vision; paper: red and green, as Figure 5 prints them"


def show(run: RunFile, rollout: Rollout, view: Heatmap) -> None:
    """A button a format; what it gives is made when it is pressed."""
    name = f"{run.key.replace('/', '-')}-step{rollout.step}-rollout{rollout.index}"
    left, right = st.columns(2)
    palette = left.selectbox("Colours of the drawing", PALETTES, key="palette", help=PALETTE_HELP)
    theme = right.selectbox("Background of the drawing", THEMES, key="drawn on")
    chromium = find_chromium()
    missing = None if chromium else "no Chromium or Chrome was found on this machine, and it is what prints a PDF"
    formats = (
        ("HTML, works offline", "html", "text/html", lambda: page_html(view, rollout.image), None),
        ("SVG", "svg", "image/svg+xml", lambda: heatmap_svg(view, theme, palette), None),
        (
            "PDF",
            "pdf",
            "application/pdf",
            lambda: pdf_of(page_html(view, rollout.image), chromium) if chromium else b"",
            missing,
        ),
        ("CSV", "csv", "text/csv", lambda: to_csv(token_table(view)), None),
    )
    for column, (title, suffix, mime, make, reason) in zip(st.columns(4), formats, strict=True):
        column.download_button(
            title,
            make,
            f"{name}.{suffix}",
            mime,
            icon=":material/download:",
            disabled=reason is not None,
            help=reason,
            on_click="ignore",  # a rerun would take away the file that is still being made
        )
    if missing:
        st.caption(f"PDF: {missing}.")
    st.caption("A region marked in the heatmap (shift-click its first and its last token) is numbered in every format.")
