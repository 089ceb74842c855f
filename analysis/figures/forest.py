"""Differences from a baseline, benchmark by benchmark, around a zero line."""

from html import escape

import pandas as pd
import plotly.graph_objects as go

from analysis.comparison import column_name, p_text, signed
from analysis.style import INK, Theme, look, styled


def forest(comparison: pd.DataFrame, baseline: str, theme: Theme = "light") -> go.Figure:
    """Forest plot of a comparison (`analysis.comparison.compare`): points and 95 % intervals, in percentage points.

    Filled markers are separated from the baseline (Holm), open ones are not. Every point carries its method and column
    as customdata.
    """
    known = comparison.loc[comparison["difference"].notna()]
    columns = [column for column in dict.fromkeys(comparison["column"]) if column in set(known["column"])]
    labels = list(dict.fromkeys(known["label"]))
    figure = go.Figure()
    for i, label in enumerate(labels):
        rows = known.loc[known["label"] == label]
        each = look(str(rows["method"].iloc[0]))
        color = each.on(theme)
        offset = (i - (len(labels) - 1) / 2) * 0.7 / max(len(labels), 1)
        mean, low, high = (100 * rows[f"difference{end}"] for end in ("", "_low", "_high"))
        symbol = "pentagon" if each.marker == "line-ew" else each.marker  # a dash would vanish in its own interval
        figure.add_scatter(
            x=mean,
            y=[columns.index(column) + offset for column in rows["column"]],
            mode="markers",
            name=escape(str(label), quote=False),
            marker={
                "color": color,
                "size": 9,
                "symbol": [symbol if apart else f"{symbol}-open" for apart in rows["separated"]],
                "line": {"color": color, "width": 2},
            },
            error_x={"type": "data", "array": high - mean, "arrayminus": mean - low, "color": color, "thickness": 1.5},
            customdata=rows[["label", "column"]].to_numpy(),
            text=[escape(_hover(row, baseline), quote=False) for row in rows.to_dict("records")],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.add_vline(x=0, line={"color": INK[theme], "width": 1.5})
    figure.update_layout(
        title={"text": f"Difference from {escape(baseline, quote=False)} with 95 % interval"},
        xaxis={"title": {"text": "percentage points (filled: separated after Holm's correction)"}, "zeroline": False},
        yaxis={
            "tickvals": list(range(len(columns))),
            "ticktext": [escape(column_name(str(column)), quote=False) for column in columns],
            "range": [len(columns) - 0.4, -0.6],
            "showgrid": False,
        },
        height=150 + max(len(columns), 1) * (30 + 14 * len(labels)),
        showlegend=True,
    )
    return styled(figure, theme)


def _hover(row: dict[str, object], baseline: str) -> str:
    low, mean, high = (signed(float(str(row[f"difference{end}"]))) for end in ("_low", "", "_high"))
    apart = "separated" if row["separated"] else "not separated"
    return (
        f"{row['label']} − {baseline}, {column_name(str(row['column']))}: {mean} [{low}, {high}], "
        f"{apart}, p (Holm) {p_text(float(str(row['p_holm'])))}"
    )
