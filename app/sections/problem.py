"""The problem, what its teachers were told, how the rollout was judged, and what the method promises of it."""

import io

import streamlit as st
from PIL import Image, UnidentifiedImageError

from analysis.tables.runs import teacher_kind
from analysis.tokens import Rollout
from analysis.whatif import ALTERNATIVES, Check, sign_anchored, stored_is_recomputed
from app import markup
from app.address import Address
from core.schema import RunRow


def show(rollout: Rollout, info: RunRow, address: Address) -> None:
    """All of it in one row."""
    picture, said, judged = st.columns([1, 2.2, 2.2], gap="medium")
    with picture:
        show_picture(rollout.image)
    with said:
        markup.facts(
            {
                "question": rollout.question,
                "r⁺, told correct": rollout.hint_correct or "none",
                "r⁻, told wrong": wrong_hint(rollout, info, address),
                "answered": rollout.answer if rollout.answer is not None else "nothing boxed",
            },
            label="Problem and hints",
        )
    with judged:
        markup.facts(
            {
                "reward": f"{rollout.reward:g} ({'right' if rollout.is_correct else 'wrong'})",
                "A": f"{rollout.advantage:+.4f}" + ("" if rollout.advantage else " (no gradient from this rollout)"),
                "trained with": trained_with(rollout, info),
                "teachers": teachers(info),
            },
            label="Verdict and provenance",
        )
        for check in (
            sign_anchored(rollout.tokens, rollout.advantage),
            stored_is_recomputed(rollout.tokens, rollout.advantage, info.method, rollout.lam, rollout.epsilon_w),
        ):
            badge(check)
    if rollout.truncated:
        st.info("This response was cut at the token limit: it has no end token.", icon=":material/content_cut:")


def show_picture(png: bytes | None) -> None:
    """The problem's picture, unless what was recorded is none."""
    if png is None:
        st.caption("no picture")
        return
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            image.load()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        st.caption(f"The picture cannot be shown: it is no PNG ({type(error).__name__}).")
        return
    st.image(png, width="stretch", alt="The picture of the problem")


def wrong_hint(rollout: Rollout, info: RunRow, address: Address) -> str:
    """r⁻ and where it came from."""
    if address.wrong != "recorded":
        return f"what if: {ALTERNATIVES[address.wrong]}"
    if rollout.hint_wrong is None:
        return "none in this group" if rollout.fallback else "not asked for"
    if rollout.hint_wrong_rollout is None:
        return rollout.hint_wrong
    source = rollout.group[rollout.group.rollout_id == rollout.hint_wrong_rollout]
    reward = f", reward {source.reward.iloc[0]:g}" if len(source) else ""
    first = rollout.index - rollout.rollout_id
    return f"{rollout.hint_wrong} (from rollout {first + rollout.hint_wrong_rollout}{reward})"


def trained_with(rollout: Rollout, info: RunRow) -> str:
    """The method and its parameters at this step."""
    if rollout.lam is None:
        return f"{info.method.upper()}, seed {info.seed}"
    at = f"λ = {rollout.lam:.3g} at step {rollout.step}, ε_w = {rollout.epsilon_w:g}"
    return f"{info.method.upper()}, seed {info.seed}, {at}"


def teachers(info: RunRow) -> str:
    """Whose weights the teachers read with, and whether they see the picture."""
    if not info.teacher_source:
        return "none"
    return f"{teacher_kind(info.teacher_source)}, picture seen: {'yes' if info.teacher_sees_image else 'NO ▲'}"


def badge(check: Check) -> None:
    """A promise, kept or broken."""
    if check.holds is None:
        st.badge(check.sentence, icon=":material/remove:", color="gray")
    elif check.holds:
        st.badge(check.sentence, icon=":material/check:", color="blue")
    else:
        st.badge(check.sentence, icon=":material/warning:", color="orange")
