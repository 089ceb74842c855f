"""Tokens: one rollout under two methods, and what stands around it."""

import streamlit as st

from app import loading
from app.address import parse
from app.components.heatmap import heatmap
from app.sections import classes, exports, find, problem, rollouts, values, wrong_hint
from app.sections.where import choose_rollout, choose_run, choose_step
from app.shown import adopt, shown

address, notices = parse(st.query_params)
files = loading.store().files()
if not files:
    st.info(f"No runs in {loading.runs_dir()}/. Train one, and look at it while it trains:")
    st.code("python -m core.train", language="bash")
    st.stop()

bar = st.columns([6, 2, 2], vertical_alignment="bottom", gap="medium")
with bar[0]:
    run, notice = choose_run(files, address.run)
outline = loading.outline(run)
if not outline.steps:
    st.info("This run has recorded no step yet; the first one appears here when it is done.")
    st.code(f"run file {run.path}, status {outline.info.status}", language=None)
    st.stop()
with bar[1]:
    step, step_notice = choose_step(outline.steps, address.step)
rollout = loading.rollout(run, step, address.rollout)
with bar[2]:
    rollout_notice = choose_rollout(rollout, address.rollout)

for each in (*notices, *notice, *step_notice, *rollout_notice):
    st.info(each, icon=":material/info:")
if loading.held() is not None:
    st.info("The trainer is writing; this is what was read last.", icon=":material/hourglass:")

view, view_notices = shown(rollout, outline.info, address)
for each in view_notices:
    st.info(each, icon=":material/info:")
problem.show(rollout, outline.info, address)
heatmap(view, key="heatmap", on_change=adopt)
classes.clip_rates(run, rollout, view)

names = ["By token class", "Find tokens", "What if r⁻", "Rollouts", "Values", "Export"]
tabs = st.tabs(names, key="tab", on_change="rerun", bind="query-params")
parts = (
    lambda: classes.show(run, rollout, view),
    lambda: find.show(run),
    lambda: wrong_hint.show(run, outline.info, rollout, view, address),
    lambda: rollouts.show(loading.rollout_list(run, step), rollout.index),
    lambda: values.show(view),
    lambda: exports.show(run, rollout, view),
)
for tab, part in zip(tabs, parts, strict=True):
    if tab.open:
        with tab:
            part()
