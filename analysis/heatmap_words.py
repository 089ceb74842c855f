"""What a heatmap says in words: notes, reasons, clip rates and legends."""

MATCHING_NOTE = "Distribution matching: not a weight. Colours show log P_T⁺ − log P_S of the sampled token."
NOTES = {"grpo": "Uniform: every token gets the advantage A.", "opsd": MATCHING_NOTE, "sdpo": MATCHING_NOTE}
ABSENT = {
    "log_p_student": "log P_S was not recorded for this rollout",
    "log_p_correct": "no teacher read this rollout with r⁺, so log P_T⁺ is missing",
    "log_p_wrong": "no teacher read this rollout with r⁻, so log P_T⁻ is missing",
}
NOTICES = {
    "empty": "This rollout has no recorded tokens.",
    "zero": "A = 0: no gradient from this rollout, whatever its tokens.",
    "unused": "λ = 0: no evidence is used, every method here credits like GRPO.",
}
FALLBACKS = {
    "rlsd": "its group had no usable r⁻, and the run fell back to RLSD (P_T⁻ := P_S)",
    "grpo": "its group had no usable r⁻, and the run fell back to GRPO (P_T⁻ := P_T⁺)",
}

Legend = tuple[str, str, str, str]
"""The lowest, the middle and the highest number of a colour scale, and what they are."""


def rate_text(clip_rates: tuple[float, float] | None, gaps: int) -> str:
    """How often weights are clipped (low, high), and how many tokens have no finite number."""
    texts = []
    if clip_rates is not None:
        low, high = (100 * rate for rate in clip_rates)
        texts.append(f"clipped {low + high:.1f} % (↓ {low:.1f} % ↑ {high:.1f} %)")
    if gaps:
        texts.append(f"{gaps} {'token has' if gaps == 1 else 'tokens have'} no finite number (hatched)")
    return " · ".join(texts)


def legends(epsilon_w: float, advantage: float, reach: float) -> dict[str, Legend]:
    """The colour scale of each view, for |A| and the largest |Δ| shown."""
    end, bound, reached = _short(advantage * (1 + epsilon_w)), _short(2 * epsilon_w), _short(reach)
    weight = "weight, from 1−ε to 1+ε: orange less credit, blue more"
    return {
        "weight": (f"{1 - epsilon_w:.2f}", "1", f"{1 + epsilon_w:.2f}", weight),
        "delta": (f"−{reached}", "0", reached, "Δ in nats: orange against r⁺, blue for r⁺"),
        "advantage": (f"−{end}", "0", end, "token advantage: orange blamed, blue credited"),
        "difference": (f"−{bound}", "0", bound, "weight, right minus left, from −2ε to 2ε"),
    }


def _short(number: float) -> str:
    return f"{number:.2f}" if number == 0 or number >= 0.005 else f"{number:.1e}".replace("e-0", "e−")
