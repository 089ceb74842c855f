"""Find decisive tokens across a run."""

from dataclasses import replace
from typing import get_args

import streamlit as st

from analysis.search import PRESETS, Found, Search, Verdict
from analysis.store import RunFile
from analysis.tokens import CLASSES
from app import loading
from app.going import go

LIMIT = 100
ANY = "any"
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
LOG_W = "log w = sign(A) · Δ in nats: above 0 the token gets more credit (A > 0) or more blame (A < 0) than its rollout"


def show(run: RunFile) -> None:
    """Ask, list, open."""
    what = asked()
    with st.spinner("reading the tokens of the run"):
        found = loading.found(run, what, LIMIT)
    if found.rows.empty:
        st.info("No token of this run fits. Loosen a bound, or choose another class.")
        return
    results(found)


def asked() -> Search:
    """The question: a preset, and what it is narrowed down to."""
    left, right = st.columns([2, 3], gap="medium")
    preset = left.selectbox(
        "Question", list(PRESETS), key="preset", help="log w = sign(A) · Δ; above 0 is more credit or more blame"
    )
    what = PRESETS[preset or next(iter(PRESETS))]
    with right.expander("Narrow it down"), st.form(f"narrow {preset}", border=False):
        first, second, third = st.columns(3)
        token_class = first.selectbox("Class", [ANY, *CLASSES], index=[ANY, *CLASSES].index(what.token_class or ANY))
        text = second.text_input("Token contains", value=what.text, max_chars=64)
        verdict = third.selectbox(
            "Rollouts", ["any", "right", "wrong"], index=["any", "right", "wrong"].index(what.verdict)
        )
        bounds = {
            name: column.number_input(title, value=getattr(what, name), format="%.3f", placeholder="none")
            for column, name, title in zip(
                st.columns(4),
                ("cepo_at_least", "cepo_at_most", "rlsd_at_least", "rlsd_at_most"),
                ("log w, CEPO ≥", "log w, CEPO ≤", "log w, RLSD ≥", "log w, RLSD ≤"),
                strict=True,
            )
        }
        st.form_submit_button("Find", icon=":material/search:")
    return replace(what, token_class=None if token_class == ANY else token_class, text=text, verdict=verdict, **bounds)


def results(found: Found) -> None:
    """What was found, strongest first, and a way to each without a mouse."""
    shown = f"the {len(found.rows)} strongest of " if found.total > len(found.rows) else ""
    st.caption(f"{shown}{found.total:,} tokens. A click on a row opens it, as does the button.")
    chosen = st.dataframe(
        found.rows,
        key="found",
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "token": st.column_config.TextColumn("token"),
            "advantage": st.column_config.NumberColumn("A", format="%+.3f"),
            "is_correct": st.column_config.CheckboxColumn("right"),
            **{
                name: st.column_config.NumberColumn(title, format="%+.3f")
                for name, title in (
                    ("delta_cepo", "Δ CEPO"),
                    ("delta_rlsd", "Δ RLSD"),
                    ("log_w_cepo", "log w CEPO"),
                    ("log_w_rlsd", "log w RLSD"),
                )
            },
        },
        alt="Tokens found in the whole run, strongest first",
    )
    number, button = st.columns([1, 3], vertical_alignment="bottom")
    place = number.number_input("Result", 1, len(found.rows), key="result")
    picked = chosen["selection"]["rows"]
    if button.button("Open this result", icon=":material/open_in_new:"):
        open_result(found, place - 1)
    elif picked and st.session_state.get("opened") != picked[0]:
        st.session_state["opened"] = picked[0]
        open_result(found, picked[0])


def open_result(found: Found, place: int) -> None:
    """Show a token that was found."""
    row = found.rows.iloc[place]
    go(step=int(row.step), rollout=int(row.rollout), tok=int(row.position), eps=None, lam=None, marks=())
    st.rerun()
