"""The rollouts of a step, to sort and to open."""

import pandas as pd
import streamlit as st

from app.going import go

COLUMNS = {
    "rollout": st.column_config.NumberColumn("rollout"),
    "group": st.column_config.NumberColumn("group"),
    "question": st.column_config.TextColumn("question"),
    "answer": st.column_config.TextColumn("answered"),
    "true_answer": st.column_config.TextColumn("r⁺"),
    "reward": st.column_config.NumberColumn("reward", format="%.2g"),
    "is_correct": st.column_config.CheckboxColumn("right"),
    "advantage": st.column_config.NumberColumn("A", format="%+.3f"),
    "n_tokens": st.column_config.NumberColumn("tokens"),
    "truncated": st.column_config.CheckboxColumn("cut"),
    "fallback": st.column_config.CheckboxColumn("no r⁻"),
    "max_cepo": st.column_config.NumberColumn("largest |Δ|, CEPO", format="%.3f"),
    "max_rlsd": st.column_config.NumberColumn("largest |Δ|, RLSD", format="%.3f"),
}


def show(listed: pd.DataFrame, index: int) -> None:
    """Choose one; the arrows above do the same."""
    kept = st.segmented_control("Show", ["all", "right", "wrong", "A ≠ 0"], default="all", key="kept", required=True)
    rows = {
        "all": listed,
        "right": listed[listed.is_correct],
        "wrong": listed[~listed.is_correct],
        "A ≠ 0": listed[listed.advantage != 0],
    }[kept or "all"]
    st.caption(f"{len(rows)} of {len(listed)} rollouts; rollout {index} is shown above. A click on a row opens it.")
    chosen = st.dataframe(
        rows,
        key="rollout list",
        hide_index=True,
        column_config=COLUMNS,
        on_select="rerun",
        selection_mode="single-row",
        alt="The rollouts of this step with reward, advantage and strongest evidence",
    )
    picked = chosen["selection"]["rows"]
    if picked and (target := int(rows.rollout.iloc[picked[0]])) != index:
        go(rollout=target, tok=None, marks=())
        st.rerun()
