"""What if the wrong teacher had been told something else?"""

import io
from dataclasses import replace
from pathlib import Path

import streamlit as st
import torch
from PIL import Image

from analysis.heatmap import Heatmap
from analysis.store import RunFile
from analysis.tokens import Rollout
from analysis.whatif import ALTERNATIVES
from app import markup
from app.address import Address
from app.components.heatmap import heatmap
from app.going import go_to_widget
from core import probe
from core.rollouts import Problem
from core.schema import RunRow

OTHER = "another answer"


def show(run: RunFile, info: RunRow, rollout: Rollout, view: Heatmap, address: Address) -> None:
    """At once from the record, or by asking the run's own model."""
    st.session_state["wrong"] = address.wrong
    st.radio(
        "r⁻ in the heatmap above, at once from the record",
        list(ALTERNATIVES),
        format_func=lambda name: ALTERNATIVES[name],
        key="wrong",
        on_change=go_to_widget,
        args=("wrong", "wrong"),
        horizontal=True,
    )
    ask_the_model(run, rollout, view)


def ask_the_model(run: RunFile, rollout: Rollout, view: Heatmap) -> None:
    """Score the response again, with P_T⁻ told any answer."""
    peers = [
        answer
        for answer in dict.fromkeys(rollout.group[~rollout.group.is_correct].answer.dropna())
        if answer != rollout.hint_wrong
    ]
    choice, text, button = st.columns([2, 2, 2], vertical_alignment="bottom")
    answer = choice.selectbox("or ask the model: r⁻ is", [*peers, OTHER], key="probed answer")
    if answer == OTHER:
        answer = text.text_input("Answer", key="free answer", max_chars=200)
    reason = probe.why_not(run.folder)
    if rollout.hint_correct is None:
        reason = reason or "this rollout had no r⁺"
    button.button(
        "Probe",
        icon=":material/experiment:",
        disabled=reason is not None or not answer,
        help=reason,
        key="probe",
        on_click=keep,
        args=(run, rollout),
    )
    if reason is not None:
        st.caption(f"A free answer cannot be probed: {reason}.")
    elif answer and st.session_state.get("asked") == question(run, rollout, answer):
        probed(run, rollout, view, answer)


def question(run: RunFile, rollout: Rollout, answer: str) -> tuple[str, int, int, str]:
    """What tells one probe from another."""
    return run.key, rollout.step, rollout.index, answer


def keep(run: RunFile, rollout: Rollout) -> None:
    """Go on showing a probe of the answer as it is now, until something else is asked or shown."""
    chosen = st.session_state["probed answer"]
    answer = st.session_state["free answer"] if chosen == OTHER else chosen
    st.session_state["asked"] = question(run, rollout, answer)


def probed(run: RunFile, rollout: Rollout, view: Heatmap, answer: str) -> None:
    """The heatmap with evidence scored now."""
    with st.spinner("scoring the response under P_S, P_T⁺ and P_T⁻"):
        model = probe_of(str(run.folder), run.stamp)
        images = (Image.open(io.BytesIO(rollout.image)),) if rollout.image else ()
        problem = Problem("probe", rollout.question, rollout.true_answer, images)
        token_ids = torch.tensor(rollout.tokens.token_id)
        evidence = model.evidence(problem, token_ids, rollout.hint_correct or "", answer)
    markup.facts(
        {
            "r⁻, told wrong": answer,
            "all three by": f"the weights saved after step {model.step}",
            "sampled in": f"step {rollout.step}",
        },
        label="Probe",
    )
    log_p = {
        "log_p_student": evidence.log_p_student,
        "log_p_correct": evidence.log_p_correct,
        "log_p_wrong": evidence.log_p_wrong,
    }
    tokens = replace(rollout.tokens, **{name: values.numpy() for name, values in log_p.items() if values is not None})
    heatmap(replace(view, tokens=tokens, fallback=None), key="probed")


@st.cache_resource(max_entries=1, show_spinner=False)
def probe_of(folder: str, stamp: tuple[int, int]) -> probe.Probe:
    """The run's model, kept until the run file changes."""
    return probe.load(Path(folder))
