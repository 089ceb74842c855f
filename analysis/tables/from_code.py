"""Tables 1, 6 and 7: what the classes and the shipped configurations are, beside what the paper prints."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from analysis.reported import reported
from analysis.style import label
from analysis.tables.paper_table import PaperTable
from analysis.tables.words import DASH, rate_text, sentences
from core import methods
from core.config import CONFIGS, TrainConfig, load_config
from core.methods import METHODS, TeacherSource

NOT_KNOWN = "not known"
MARKS: dict[bool | None, str] = {True: "✓", False: "✗", None: DASH}

PRINTED_TABLE_1 = {"GRPO": "✗–✗✓", "OPSD": "✓✗✗✓", "SDPO": "✓✗✗✓", "RLSD": "✓✓✗✓", "CEPO": "✓✓✓✓"}
"""The columns Priv., Leak-free, Contr. and No Aux. of Table 1, arXiv 2605.19436v1, as printed."""


def table1() -> PaperTable:
    """Table 1: what each method needs and rules out, as it follows from its class, beside the printed marks."""
    rows, n_same, n_marks = [], 0, 0
    for safety in methods.table1():
        computed = [
            MARKS[value] for value in (safety.privileged, safety.leak_free, safety.contrastive, safety.no_auxiliary)
        ]
        printed = list(PRINTED_TABLE_1[safety.method])
        n_same += sum(ours == theirs for ours, theirs in zip(computed, printed, strict=True))
        n_marks += len(printed)
        rows.append([safety.method, *computed, " ".join(printed), MARKS[computed == printed]])
    columns = ["method", "told a hint", "leak-free", "contrastive", "no second network", "paper", "agrees"]
    verdict = f"All {n_marks} marks agree" if n_same == n_marks else f"{n_same} of {n_marks} marks agree"
    return PaperTable(
        pd.DataFrame(rows, columns=columns),
        f"What a method's teacher is told, and what its gradient rules out, computed from the classes. {verdict} with "
        "the printed table, whose four columns (Priv., Leak-free, Contr., No Aux.) stand together under paper. "
        f"{DASH}: does not apply. The printed rows of methods that are not implemented here (PPO, VinePPO, SPO, PRM, "
        "DPO/cDPO, HDPO) are left out.",
    )


@dataclass(frozen=True)
class Setting:
    """Where a row of Table 6 stands in a configuration."""

    read: Callable[[TrainConfig], str] | None
    """None: no field holds it."""
    methods: tuple[str, ...] = tuple(METHODS)
    """For whom it is read."""
    remark: str = ""


def _schedule(config: TrainConfig) -> str:
    optimizer = config.optimizer
    return f"{optimizer.schedule} after {optimizer.warmup_steps} steps of linear warm-up"


TABLE_6: dict[str, Setting] = {
    "model": Setting(lambda c: PurePosixPath(c.model.path).name),
    "framework": Setting(None, remark="its own training loop"),
    "LoRA rank": Setting(lambda c: str(c.model.lora_rank)),
    "LoRA alpha": Setting(lambda c: str(c.model.lora_alpha)),
    "LoRA dropout": Setting(None, remark="no option: nothing is ever dropped"),
    "optimizer": Setting(None, remark="no option: always AdamW"),
    "learning rate": Setting(lambda c: rate_text(c.method.learning_rate), tuple(m for m in METHODS if m != "cepo")),
    "learning rate of CEPO": Setting(lambda c: rate_text(c.method.learning_rate), ("cepo",)),
    "learning rate schedule": Setting(_schedule),
    "steps": Setting(lambda c: str(c.steps)),
    "batch size": Setting(lambda c: str(c.rollouts.problems_per_step), remark="problems a step"),
    "rollouts per problem": Setting(lambda c: str(c.rollouts.group_size)),
    "maximum length": Setting(lambda c: str(c.rollouts.max_new_tokens), remark="of a response; prompts come on top"),
    "clip range low": Setting(lambda c: str(c.surrogate.epsilon_low)),
    "clip range high": Setting(lambda c: str(c.surrogate.epsilon_high)),
    "KL penalty": Setting(None, remark="no such term"),
    "entropy bonus": Setting(None, remark="no such term"),
    "verifier": Setting(None, remark="no option: always rule-based"),
}
"""By the paper's name, in its order."""
TABLE_6_FILES = ("qwen3vl_2b.yaml", "qwen3vl_4b.yaml")


def table6() -> PaperTable:
    """Table 6: the shared settings of the shipped Qwen configurations beside the paper's."""
    configs = {method: [load_config([CONFIGS / name], method=method) for name in TABLE_6_FILES] for method in METHODS}
    rows = []
    for name, value, confidence in reported("table6")[["name", "value", "confidence"]].to_numpy().tolist():
        setting = TABLE_6[name]
        here = None if setting.read is None else _read(setting.read, setting.methods, configs)
        rows.append([name, value, confidence, here or DASH, _agrees(value, here), setting.remark or DASH])
    columns = ["setting", "paper", "paper's value is", "here", "agrees", "remark"]
    return PaperTable(
        pd.DataFrame(rows, columns=columns),
        sentences(
            f"Settings shared by the methods: the paper's, and those of {' and '.join(TABLE_6_FILES)}, read from the "
            "configurations of all five methods; where these differ, every value is listed.",
            _tally(rows),
            SOURCES,
        ),
    )


def _read(
    read: Callable[[TrainConfig], str], methods: Sequence[str], configs: Mapping[str, Sequence[TrainConfig]]
) -> str:
    return ", ".join(dict.fromkeys(read(each) for method in methods for each in configs[method]))


SOURCES = "printed: in the paper or its repository; note: quoted by a reader of its PDF."

DIVERGENCES = {"forward_kl": "D_KL", "reverse_kl": "reversed D_KL", "jensen_shannon": "D_JS"}
"""Measures as the paper writes them."""


def _decay(teacher: TeacherSource) -> str | None:
    return str(teacher.decay) if teacher.kind == "ema" else None


TABLE_7: dict[str, tuple[str, Callable[[Any], str | None]]] = {
    "divergence": ("measure", DIVERGENCES.__getitem__),
    "EMA beta": ("teacher", _decay),
    "lambda_0": ("lambda_0", str),
    "T_warm": ("warmup_steps", str),
    "epsilon_w": ("epsilon_w", str),
}
"""By the paper's name: a field of the method, and how its value is written; None where it does not apply."""


def table7() -> PaperTable:
    """Table 7: each method's own settings, its class's defaults, beside the paper's where they are known."""
    defaults = methods.table7()
    table = reported("table7")[["method", "name", "value", "confidence"]].to_numpy().tolist()
    printed = {(method, name): (value, confidence) for method, name, value, confidence in table}
    rows = []
    for method in METHODS:
        for name, (field, write) in TABLE_7.items():
            here = write(defaults[field][method]) if method in defaults[field] else None
            value, confidence = printed.get((method, name), (None, DASH))
            if here is None and value is None:
                continue
            title = f"{label(method)}, {name}"
            rows.append([title, value or NOT_KNOWN, confidence, here or DASH, _agrees(value, here)])
    others = [field for field in defaults if field not in {"learning_rate", *(field for field, _ in TABLE_7.values())}]
    return PaperTable(
        pd.DataFrame(rows, columns=["setting", "paper", "paper's value is", "here", "agrees"]),
        sentences(
            "Settings of single methods: the paper's, and the defaults of the classes here.",
            _tally(rows),
            SOURCES,
            f"{NOT_KNOWN}: not among what is quoted of the printed table, whose body is not at hand.",
            f"Further fields of the classes, not in the table as quoted: {', '.join(others)}.",
        ),
    )


def _agrees(paper: str | None, here: str | None) -> str:
    """Whether two texts say the same, numbers by value."""
    if paper is None or here is None:
        return DASH
    try:
        return MARKS[float(paper) == float(here)]
    except ValueError:
        return MARKS[paper.casefold() == here.casefold()]


def _tally(rows: list[list[str]]) -> str:
    verdicts = [agrees for _, _, _, _, agrees, *_ in rows]
    both = len(verdicts) - verdicts.count(DASH)
    return f"{verdicts.count(MARKS[True])} of the {both} that both sides have agree."
