"""Where the credit goes, by token class: in this rollout, this step, or the whole run."""

import streamlit as st

from analysis.heatmap import Heatmap
from analysis.measures import class_table
from analysis.store import RunFile
from analysis.style import label
from analysis.tables import credit
from analysis.tables.runs import class_words
from analysis.tokens import Against, Rollout, Scope
from app import loading, markup

AGAINST: dict[str, Against] = {"rlsd": "student", "cepo": "wrong"}
SCOPES = ("this rollout", "this step", "whole run")


def scope_of(name: str, rollout: Rollout) -> Scope:
    """The part of the run a name stands for."""
    if name == SCOPES[0]:
        return Scope(rollout.step, rollout.group_id, rollout.rollout_id)
    return Scope(rollout.step) if name == SCOPES[1] else Scope()


def clip_rates(run: RunFile, rollout: Rollout, view: Heatmap) -> None:
    """How many weights ε_w clips, here and in the whole run."""
    methods = [method for method in dict.fromkeys((view.left, view.right)) if method in AGAINST]
    if not methods:
        return
    parts = {name: loading.evidence_counts(run, scope_of(name, rollout)) for name in SCOPES}
    counts = {name: {method: part[AGAINST[method]] for method in methods} for name, part in parts.items()}
    markup.table(credit.clip_rates(counts, view.epsilon_w), caption=credit.CLIPPED)


def show(run: RunFile, rollout: Rollout, view: Heatmap) -> None:
    """One table a method."""
    name = st.segmented_control("Tokens of", SCOPES, default=SCOPES[0], key="scope", required=True) or SCOPES[0]
    for method in dict.fromkeys((view.left, view.right)):
        show_method(run, method, name, rollout, view.epsilon_w)


def show_method(run: RunFile, method: str, name: str, rollout: Rollout, epsilon_w: float) -> None:
    """Credit by token class under one method."""
    if method not in AGAINST:
        st.caption(f"{label(method)} gives no token a weight of its own.")
        return
    counts = loading.evidence_counts(run, scope_of(name, rollout))[AGAINST[method]]
    table = class_words(class_table(counts, epsilon_w))
    if table.empty:
        st.caption(f"{label(method)}: no token here has A ≠ 0 and recorded evidence.")
        return
    markup.table(table, caption=f"{label(method)}, {name}; Δ in nats, ε_w = {epsilon_w:g}")
