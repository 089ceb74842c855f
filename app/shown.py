"""The heatmap an address asks for, and the address a heatmap was changed to."""

import streamlit as st

from analysis.heatmap import Heatmap
from analysis.tokens import Rollout
from analysis.whatif import fallback_of, with_wrong_hint
from app.address import Address
from app.going import go
from core.methods import CEPO
from core.schema import RunRow


def shown(rollout: Rollout, info: RunRow, address: Address) -> tuple[Heatmap, list[str]]:
    """The heatmap of a rollout; what the address asks for and the rollout has not is left out, with a notice."""
    last = len(rollout.tokens) - 1
    notices = []
    token, marks = address.tok, address.marks
    if token is not None and token > last:
        token, notices = None, [f"This rollout has no token {address.tok}; its last one is {last}."]
    if any(end > last for _, end in marks):
        marks = tuple(mark for mark in marks if mark[1] <= last)
        notices.append("A marked region ends beyond this rollout; it is left out.")
    lam = CEPO().lambda_0 if rollout.lam is None else rollout.lam
    epsilon_w = CEPO().epsilon_w if rollout.epsilon_w is None else rollout.epsilon_w
    st.session_state["trained"] = {"eps": rollout.epsilon_w, "lam": rollout.lam}
    view = Heatmap(
        tokens=with_wrong_hint(rollout.tokens, address.wrong),
        advantage=rollout.advantage,
        left=address.left,
        right=address.right,
        lam=lam if address.lam is None else address.lam,
        epsilon_w=epsilon_w if address.eps is None else address.eps,
        trained_lam=rollout.lam,
        trained_epsilon_w=rollout.epsilon_w,
        view=address.view,
        token=token,
        callouts=marks,
        title=f"{info.run_id}, step {rollout.step}, rollout {rollout.index}",
        caption=f"r⁺ {rollout.hint_correct}, r⁻ {rollout.hint_wrong or 'none'}; reward {rollout.reward:g}, "
        f"A {rollout.advantage:+.3f}",
        fallback=fallback_of(info) if rollout.fallback else None,
    )
    return view, notices


def adopt() -> None:
    """Take over into the address what was changed in the heatmap."""
    state = st.session_state["heatmap"]["state"]
    if not state:
        return
    trained = st.session_state.get("trained", {})
    go(
        eps=None if state["eps"] == trained.get("eps") else state["eps"],
        lam=None if state["lam"] == trained.get("lam") else state["lam"],
        view=state["view"],
        left=state["left"],
        right=state["right"],
        tok=state["token"],
        marks=tuple((first, last) for first, last in state["callouts"]),
    )
