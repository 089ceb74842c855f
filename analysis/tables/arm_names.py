"""What the arms of the study are called where a reader sees them (`analysis/study.yaml`)."""

from analysis.style import LOOKS

METHODS = {name: look.label for name, look in LOOKS.items() if name != "base"}
TEACHERS = {
    "actor": "actor (as trained)",
    "reference": "reference (frozen)",
    "every_5": "copy every 5 steps",
    "every_10": "copy every 10 steps",
    "every_25": "copy every 25 steps",
}

ARM_NAMES: dict[str, dict[str, str]] = {
    "methods": METHODS,
    "evidence": METHODS,
    "lambda_constant": {
        "0": "λ = 0 (GRPO)",
        "0.25": "λ = 0.25",
        "0.5": "λ = 0.5",
        "0.75": "λ = 0.75",
        "1": "λ = 1",
    },
    "feedback_source": {
        "answer_answer": "true answer / peer answer",
        "answer_rollout": "true answer / peer rollout",
        "rollout_rollout": "peer rollout / peer rollout",
        "prefix_prefix": "peer prefix / peer prefix",
        "suffix_suffix": "peer suffix / peer suffix",
    },
    "teacher_source": TEACHERS,
    "epsilon_w": {each: f"ε_w = {each}" for each in ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.8", "0.95")},
    "presets": {
        "grpo_paper": "GRPO, paper",
        "grpo_released": "GRPO, released code",
        "rlsd_paper": "RLSD, paper",
        "rlsd_released": "RLSD, released code",
        "cepo_paper": "CEPO, paper",
        "cepo_released": "CEPO, released code",
    },
    "lambda_linear": {each: f"λ falls to 0 in {each} steps" for each in ("10", "25", "50")},
    "deviations": {
        "none": "nothing (as the paper says)",
        "epsilon_w": "ε_w = 0.2",
        "bare_answer": "bare answer before the response",
        "blind_teachers": "teachers without the picture",
        "none_as_wrong_hint": "“None” as a wrong hint",
        "weighted_reward": "a tenth of the reward for the format",
        "constant_rate": "constant learning rate, no warm-up",
    },
    "learning_rate": {
        "grpo": "GRPO, chosen rate",
        "cepo": "CEPO, chosen rate",
        "grpo_fifth": "GRPO, a fifth of it",
        "cepo_fifth": "CEPO, a fifth of it",
    },
    "teacher_source_constant": TEACHERS,
}
"""By group and arm, in the order of the study."""


def arm_name(group: str, arm: str) -> str:
    """How an arm is written; one that a changed study has added goes by its own name."""
    return ARM_NAMES.get(group, {}).get(arm, arm)
