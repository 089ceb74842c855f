"""Runs side by side: how they stand, where they come from, and in which settings they differ."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

import pandas as pd

from analysis.alerts import Alert, duration, is_live, seconds_since
from analysis.curves import Recording, configuration, seed_groups
from analysis.style import label
from core.intervals import mean_interval

DASH = "–"
LONGEST = 80
"""Characters of a setting that are shown."""
WARNING = "▲"


def run_table(
    recordings: Sequence[Recording], alerts: Mapping[str, tuple[Alert, ...]], now: datetime, shown: Sequence[str]
) -> pd.DataFrame:
    """One row a run: columns shown, run, method, seed, step, status, held-out, evidence clip, alerts; all text.

    Args:
        recordings: the runs, in order.
        alerts: of each run, by key.
        now: the time, UTC and naive as in the run file.
        shown: keys of the runs that the figures show.
    """
    rows = []
    for recording in recordings:
        info = recording.info
        rows.append(
            {
                "run": f"{'☑' if recording.key in shown else '☐'} {recording.key}",
                "method": label(info.method),
                "seed": str(info.seed),
                "step": f"{info.last_step}/{info.steps_planned}",
                "status": status(recording, now),
                "held-out accuracy": accuracy(recording),
                "evidence clip": share(_last_clip(recording)),
                "alerts": badges(alerts.get(recording.key, ())),
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


COLUMNS = ["run", "method", "seed", "step", "status", "held-out accuracy", "evidence clip", "alerts"]


def seed_table(
    recordings: Sequence[Recording], alerts: Mapping[str, tuple[Alert, ...]], now: datetime, shown: Sequence[str]
) -> pd.DataFrame:
    """`run_table` with the seeds of one configuration in one row: means, ± a 95 % t-interval from three seeds on."""
    rows = []
    for group in seed_groups(recordings):
        if len(group) == 1:
            rows += run_table(group, alerts, now, shown).to_dict("records")
            continue
        ends = [value for value in map(_last_accuracy, group) if value is not None]
        clips = [value for value in map(_last_clip, group) if value is not None]
        interval = mean_interval([value for value, _ in ends]) if ends else None
        marked = {recording.key in shown for recording in group}
        states = pd.Series([status(recording, now) for recording in group]).value_counts(sort=False)
        rows.append(
            {
                "run": f"{'☑' if marked == {True} else '☐' if marked == {False} else '◪'} "
                f"{group[0].key} and {len(group) - 1} more",
                "method": label(group[0].info.method),
                "seed": ", ".join(str(recording.info.seed) for recording in group),
                "step": f"{min(r.info.last_step for r in group)}/{group[0].info.steps_planned}",
                "status": ", ".join(f"{count} × {state}" for state, count in states.items()),
                "held-out accuracy": DASH
                if interval is None
                else f"{interval.estimate:.1%}"
                + (f" ± {100 * interval.half_width:.1f}" if len(ends) >= 3 else "")
                + f" ({len(ends)} seeds)",
                "evidence clip": share(sum(clips) / len(clips) if clips else None),
                "alerts": badges(tuple(alert for r in group for alert in alerts.get(r.key, ()))),
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def status(recording: Recording, now: datetime) -> str:
    """How a run stands, with a sign that needs no colour."""
    info = recording.info
    if info.status == "running":
        return "● running" if is_live(info, now) else f"▲ stale, silent for {duration(seconds_since(info, now))}"
    reason = f": {info.reason}" if info.reason and info.status != "finished" else ""
    return f"{info.status}{short(reason)}"


def accuracy(recording: Recording) -> str:
    """The newest held-out accuracy, with its number of responses and its step."""
    last = _last_accuracy(recording)
    if last is None:
        return DASH
    point = recording.validation.iloc[-1]
    return f"{last[0]:.1%} (n = {int(point.n)}, step {int(point.step)})"


def badges(alerts: Sequence[Alert]) -> str:
    """The kinds of some alerts."""
    kinds = dict.fromkeys(alert.kind for alert in alerts)
    return f"{WARNING} {', '.join(kinds)}" if kinds else DASH


def share(value: float | None) -> str:
    """A share in percent."""
    return DASH if value is None else f"{value:.1%}"


def short(text: str) -> str:
    """A text that may be long."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _last_accuracy(recording: Recording) -> tuple[float, int] | None:
    if recording.validation.empty:
        return None
    point = recording.validation.iloc[-1]
    return float(point.accuracy), int(point.n)


def _last_clip(recording: Recording) -> float | None:
    rates = (recording.steps.evidence_clip_low + recording.steps.evidence_clip_high).dropna()
    return float(rates.iloc[-1]) if len(rates) else None


def provenance(recordings: Sequence[Recording]) -> pd.DataFrame:
    """Where each run's numbers come from, one row a run: what decides the credit first, then what it ran on."""
    return pd.DataFrame([{"run": recording.key} | _origin(recording) for recording in recordings])


def _origin(recording: Recording) -> dict[str, str]:
    info, settings = recording.info, configuration(recording.info)

    def setting(name: str) -> str:
        return short(str(settings[name])) if settings.get(name) is not None else DASH

    lam = DASH
    if "method.lambda_0" in settings:
        course = f" → 0 in {setting('method.warmup_steps')} steps"
        lam = f"{setting('method.lambda_0')}{course if setting('method.schedule') == 'linear' else ', constant'}"
    sees = ("YES" if info.teacher_sees_image else f"NO {WARNING}") if info.teacher_source else DASH
    return {
        "ε_w": setting("method.epsilon_w"),
        "λ": lam,
        "teachers": teacher_kind(info.teacher_source),
        "image seen by teachers": sees,
        "r⁺ from": setting("method.hint_correct.source"),
        "r⁻ from": setting("method.hint_wrong.source"),
        "learning rate": setting("method.learning_rate"),
        "seed": str(info.seed),
        "model": short(info.model),
        "problems": short(info.problems),
        "commit": info.git_commit[:7] or DASH,
        "device": short(info.device),
        "tokens": f"{recording.n_tokens:,}",
        "started, UTC": f"{info.started_at:%Y-%m-%d %H:%M}",
        "libraries": ", ".join(f"{name} {value}" for name, value in _versions(recording).items()) or DASH,
    }


def teacher_kind(teacher_source: str) -> str:
    """The teachers' weights: `actor` out of {"kind": "actor", ...}."""
    try:
        source = json.loads(teacher_source)
    except ValueError:
        return short(teacher_source) or DASH
    return short(str(source.get("kind", DASH))) if isinstance(source, dict) else DASH


def _versions(recording: Recording) -> dict[str, str]:
    try:
        versions = json.loads(recording.info.versions)
    except ValueError:
        return {}
    return {short(str(k)): short(str(v)) for k, v in versions.items()} if isinstance(versions, dict) else {}


CLASS_COLUMNS: dict[str, tuple[str, str]] = {
    "token_class": ("class", "{}"),
    "n": ("tokens", "{:,}"),
    "share": ("share", "{:.1%}"),
    "delta_mean": ("mean Δ", "{:+.4f}"),
    "abs_delta_mean": ("mean |Δ|", "{:.4f}"),
    "positive": ("Δ > 0", "{:.1%}"),
    "negative": ("Δ < 0", "{:.1%}"),
    "clip_low": ("clipped low", "{:.2%}"),
    "clip_high": ("clipped high", "{:.2%}"),
    "weight_mean": ("mean weight, clipped", "{:.3f}"),
}
"""How the columns of `analysis.measures.class_table` are called and written."""


def class_words(rows: pd.DataFrame) -> pd.DataFrame:
    """A table by token class as text."""
    columns = CLASS_COLUMNS.items()
    return pd.DataFrame({title: [form.format(value) for value in rows[name]] for name, (title, form) in columns})


def sharper_words(counts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Where CEPO's weight is above RLSD's (Proposition 1), as text: one row a run with a wrong teacher's evidence.

    Args:
        counts: of each run by key, as of `analysis.recordings.sharper_counts`.
    """
    rows = []
    for key, found in counts.items():
        by_sign = {int(sign): (n, sharper) for sign, n, sharper in found.itertuples(index=False)}
        if by_sign:
            rows.append({"run": key} | {name: _sharper(by_sign.get(sign)) for sign, name in SIDES.items()})
    return pd.DataFrame(rows, columns=["run", *SIDES.values()])


SIDES = {1: "A > 0: P_T⁻ < P_S", -1: "A < 0: P_T⁻ > P_S"}


def _sharper(counted: tuple[int, int] | None) -> str:
    if counted is None:
        return DASH
    n, sharper = counted
    return f"{sharper / n:.1%} of {n:,} tokens"


def drift(recordings: Sequence[Recording]) -> pd.DataFrame:
    """The settings in which runs differ besides method, seed and name: column setting, then one a run.

    A setting that only some methods have counts where those that have it differ.
    """
    tables = {recording.key: _comparable(recording) for recording in recordings}
    names = dict.fromkeys(name for table in tables.values() for name in table)
    rows = []
    for name in names:
        values = {key: table.get(name) for key, table in tables.items()}
        if len({value for value in values.values() if value is not None}) > 1:
            rows.append({"setting": name} | {key: DASH if value is None else value for key, value in values.items()})
    return pd.DataFrame(rows, columns=["setting", *tables])


def _comparable(recording: Recording) -> dict[str, str]:
    info = recording.info
    settings = {k: short(str(v)) for k, v in configuration(info).items() if k not in ("seed", "method.name")}
    origin = {"model": info.model, "problems": info.problems, "commit": info.git_commit[:7], "device": info.device}
    # all methods read the same hints where a run only observes; who sees the picture is no setting of theirs
    seen = {"image seen by teachers": str(info.teacher_sees_image)} if info.teacher_source else {}
    versions = {f"{name} version": value for name, value in _versions(recording).items()}
    return settings | {name: short(value) for name, value in origin.items()} | seen | versions
