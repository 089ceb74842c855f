"""Where evidence lies, by kind of token: the sizes of both Δ, and where CEPO is sharper than RLSD (Proposition 1)."""

import math
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.evidence import DECISIVE, FILLER, KINDS, METHODS, evidence_runs, pooled
from analysis.figures.panels import LEGEND
from analysis.recorded import RecordedStudy
from analysis.style import INK, LOOKS, Theme, label, look, styled

NAMES = {
    "read_digit": "digit read off", "rule": "choice of rule", "rule_name": "rest of the rule's name",
    "operand_digit": "digit of an operand", "result_digit": "digit of a result", "answer_digit": "digit of the answer",
    "end": "end token",
}  # fmt: skip
"""Kinds that their own name does not explain."""
NOTHING = "no run of this study has recorded both teachers' log-probabilities"
CONDITIONS = {1: "A > 0: P_T⁻ < P_S", -1: "A < 0: P_T⁻ > P_S"}
HOW_TO_READ = (
    "Bold: what decides a chain. In brackets: tokens, those of rollouts with A ≠ 0, all steps pooled. Bars: 95 % "
    "t-interval over the steps of the runs named above, the tokens of a step standing or falling together; it says "
    "nothing about other runs."
)
CAPTIONS = {
    "token_kinds": (
        "Mean |Δ| in nats, log scale: by RLSD log P_T⁺ − log P_S, by CEPO log P_T⁺ − log P_T⁻, of the same tokens. "
        f"{HOW_TO_READ} A bar that reaches the left edge goes below what a log scale can show. In groups without an r⁻ "
        "CEPO's Δ is RLSD's."
    ),
    "proposition1": (
        "Left and middle: the share of a kind's tokens at which CEPO's weight is above RLSD's before clipping, however "
        "little (filled), and at which RLSD's is also not below 1, so that CEPO amplifies it (open); dotted: half. "
        "Right: how the tokens, and the nats by which CEPO's log w is above RLSD's, spread over the kinds, both "
        f"signs of A together. Only groups with an r⁻. {HOW_TO_READ} The right panel has no intervals."
    ),
}
"""By figure: how to read it."""
ROW, GAP, FOOT = 24, 70, 110
"""Pixels of a kind's row, between two panels, and below the last."""


def kind_name(kind: str) -> str:
    """A kind of token in words."""
    return NAMES.get(kind, kind)


def kinds_of(rows: pd.DataFrame) -> list[str]:
    """The kinds that occur: those that decide first, filler last."""
    others = [kind for kind in KINDS if kind not in DECISIVE + FILLER]
    present = set(rows["kind"])
    return [kind for kind in (*DECISIVE, *others, *FILLER) if kind in present]


def whose(method: str, rows: pd.DataFrame) -> str:
    """What some evidence was measured in: the method that trained, its runs and steps."""
    seeds = sorted(rows["seed"].unique().tolist())
    plural = "s" if len(seeds) > 1 else ""
    text = f"n = {len(seeds)} run{plural}, seed{plural} {', '.join(map(str, seeds))}; {rows['step'].nunique()} steps"
    return f"{label(method)} ({text})"


def without_evidence(found: dict[str, pd.DataFrame]) -> str:
    """Which of the five methods have none, in words; empty where all have."""
    names = [label(method) for method in LOOKS if method != "base" and method not in found]
    return f"not recorded: {', '.join(names)}" if names else ""


def token_kinds(study: RecordedStudy, theme: Theme = "light") -> go.Figure:
    """Mean |Δ| by kind of token, RLSD's and CEPO's side by side; a panel for each method that trained.

    Bars are 95 % t-intervals over the steps of the runs (`analysis.evidence.pooled`).
    """
    title = "Size of the evidence, by kind of token"
    found = evidence_runs(study)
    panels = [(whose(trained, rows), rows, kinds_of(rows)) for trained, rows in found.items()]
    measured = [
        {name: _points(rows, kinds, f"abs_delta_{name}", f"n_{name}") for name in METHODS} for _, rows, kinds in panels
    ]
    every = pd.concat([points for panel in measured for points in panel.values()] or [NO_POINTS])
    every = every.loc[every["mean"] > 0]  # a logarithm has no place for 0
    if every.empty:
        return _said(title, theme)
    floor = 0.7 * every["low"].where(every["low"] > 0, every["mean"]).min()
    columns = min(len(panels), 2)
    figure = _grid([f"trained by {name}" for name, *_ in panels], columns, max(len(kinds) for *_, kinds in panels))
    for i, (name, rows, kinds) in enumerate(panels):
        row, column = i // columns + 1, i % columns + 1
        for offset, (method, points) in zip((-0.17, 0.17), measured[i].items(), strict=True):
            hover = "{what}: mean |Δ| {mean:.3g} nats{ends}<br>n = {n:,} tokens"
            look_of, drawn = look(method), points.loc[points["mean"] > 0]
            marker = {"color": look_of.on(theme), "symbol": look_of.marker}
            trace = _dots(drawn, f"{label(method)}'s Δ", marker, offset, hover, floor)
            figure.add_trace(trace.update(showlegend=i == 0, meta=name), row=row, col=column)
        figure.update_yaxes(_rows(kinds, rows.groupby("kind")["n"].sum()), row=row, col=column)
    top = 1.4 * every[["mean", "high"]].max(axis=None)
    figure.update_xaxes(type="log", range=[math.log10(floor), math.log10(top)], dtick=1, exponentformat="power")
    for i in range(len(panels))[-columns:]:  # the last of each column
        figure.update_xaxes(title_text="mean |Δ|, nats", row=i // columns + 1, col=i % columns + 1)
    figure.update_layout(title_text=": ".join(filter(None, (title, without_evidence(found)))))
    return styled(figure, theme)


def proposition1(study: RecordedStudy, theme: Theme = "light") -> go.Figure:
    """At which share of tokens CEPO's weight is above RLSD's, and how much of that lies where (Proposition 1).

    Measured in the runs of CEPO, or of the first method that recorded both teachers, in groups that have an r⁻. Bars
    are 95 % t-intervals over the steps of the runs (`analysis.evidence.pooled`).
    """
    title = "Where CEPO is sharper than RLSD"
    found = ((name, rows.loc[rows["n_contrast"] > 0]) for name, rows in evidence_runs(study).items())
    method, rows = next(((name, rows) for name, rows in found if len(rows)), ("", pd.DataFrame()))
    if not method:
        return _said(title, theme)
    kinds, color = kinds_of(rows), look("cepo").on(theme)
    figure = _grid([*CONDITIONS.values(), "where log w rises"], 3, len(kinds), shared=True)
    for column, (sign, condition) in enumerate(CONDITIONS.items(), 1):
        for name, sums, symbol, offset in (
            ("CEPO's weight is above RLSD's", "sharper", "circle", -0.17),
            ("… and RLSD's is not below 1", "joint", "circle-open", 0.17),
        ):
            points = _points(rows.loc[rows["sign"] == sign], kinds, sums, "n_contrast", 100)
            hover = f"{condition}, {{what}}: {{mean:.1f}} %{{ends}}<br>n = {{n:,}} tokens"
            trace = _dots(points, name, {"color": color, "symbol": symbol}, offset, hover)
            figure.add_trace(trace.update(showlegend=column == 1, meta=condition), row=1, col=column)
        figure.update_xaxes(title_text="% of the kind's tokens", range=[0, 100], row=1, col=column)
        half = {"x0": 50, "x1": 50, "y0": 0, "y1": 1, "yref": f"y{column} domain" if column > 1 else "y domain"}
        figure.add_shape(half | {"line": {"color": INK[theme], "width": 1, "dash": "dot"}}, row=1, col=column)
    grouped: Any = rows.groupby("kind")
    sums = grouped[["n_contrast", "sharper_by"]].sum().loc[kinds]
    for name, column, each, symbol in (
        ("share of all tokens", "n_contrast", look("base").on(theme), "square-open"),
        ("share of the rise in log w from RLSD to CEPO", "sharper_by", color, "diamond"),
    ):
        share = 100 * sums[column] / sums[column].sum()
        points = NO_POINTS.reindex(range(len(kinds))).assign(kind=kinds, place=range(len(kinds)), mean=share.tolist())
        trace = _dots(points, name, {"color": each, "symbol": symbol}, 0, f"{{what}}: {{mean:.1f}} %, {name}")
        figure.add_trace(trace.update(meta="where log w rises"), row=1, col=3)
    figure.update_xaxes(title_text="% of all kinds together", range=[-3, 103], row=1, col=3)
    figure.update_yaxes(_rows(kinds, sums["n_contrast"]))
    figure.update_layout(title_text=f"{title}: trained by {whose(method, rows)}")
    return styled(figure, theme)


NO_POINTS = pd.DataFrame(columns=["kind", "place", "mean", "low", "high", "n"], dtype=float)


def _points(rows: pd.DataFrame, kinds: list[str], sums: str, n: str, scale: float = 1) -> pd.DataFrame:
    """One row a kind that has such tokens, as `NO_POINTS`."""
    found = []
    for place, kind in enumerate(kinds):
        of = rows.loc[rows["kind"] == kind]
        if count := int(of[n].sum()):
            value = pooled(of, sums, n)
            found.append((kind, place, scale * value.estimate, scale * value.low, scale * value.high, count))
    return pd.DataFrame(found, columns=NO_POINTS.columns)


def _dots(
    points: pd.DataFrame, name: str, marker: dict[str, str], offset: float, hover: str, floor: float = -math.inf
) -> go.Scatter:
    """A dot a kind with its interval; an interval that goes below the axis ends there."""
    texts = []
    for p in points.to_dict("records"):
        ends = "" if math.isnan(p["low"]) else f" [{p['low']:.3g}, {p['high']:.3g}]"
        texts.append(hover.format(what=f"{name}, {kind_name(p['kind'])}", ends=ends, mean=p["mean"], n=p["n"]))
    above, below = points["high"] - points["mean"], points["mean"] - points["low"].clip(lower=floor)
    return go.Scatter(
        x=points["mean"],
        y=points["place"] + offset,
        name=name,
        mode="markers",
        marker={"size": 8} | marker,
        error_x={"array": above, "arrayminus": below, "thickness": 1.2, "width": 3, "color": marker["color"]},
        text=texts,
        hovertemplate="%{text}<extra></extra>",
    )


def _grid(titles: list[str], columns: int, kinds: int, *, shared: bool = False) -> go.Figure:
    """Empty panels with their titles; `kinds` rows in each."""
    rows = -(-len(titles) // columns)
    cells = [[{} if row * columns + i < len(titles) else None for i in range(columns)] for row in range(rows)]
    height = rows * (ROW * kinds + GAP) + FOOT
    figure = make_subplots(
        rows,
        columns,
        specs=cells,
        subplot_titles=titles,
        shared_yaxes=shared,
        horizontal_spacing=0.03 if shared else 0.2,
        vertical_spacing=GAP / height if rows > 1 else 0,
    )
    figure.update_annotations(font_size=13)
    return figure.update_layout(height=height, margin={"t": 84, "b": FOOT}, legend=LEGEND, showlegend=True)


def _rows(kinds: list[str], counts: Any) -> dict[str, Any]:
    """The axis of kinds, those that decide in bold, each with its tokens."""
    texts = [f"{f'<b>{kind_name(k)}</b>' if k in DECISIVE else kind_name(k)} ({counts[k]:,})" for k in kinds]
    return {"tickvals": list(range(len(kinds))), "ticktext": texts, "range": [len(kinds) - 0.5, -0.5]}


def _said(title: str, theme: Theme) -> go.Figure:
    """A figure that has nothing to show, and says so."""
    centre = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False, "font": {"size": 14}}
    hidden = {"visible": False}
    layout = {"title_text": title, "annotations": [{"text": NOTHING, **centre}], "xaxis": hidden, "yaxis": hidden}
    return styled(go.Figure(layout=go.Layout(layout)), theme)
