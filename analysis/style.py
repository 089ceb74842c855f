"""One look for every figure: a method has the same colour, marker and dash wherever it is drawn.

Colours are told apart with any colour vision; where they cannot be, marker and dash still are.
"""

from dataclasses import dataclass
from typing import Literal

import plotly.graph_objects as go
import plotly.io as pio

Theme = Literal["light", "dark"]


@dataclass(frozen=True)
class Look:
    """How a method is drawn."""

    label: str
    color: str
    dark_color: str
    marker: str
    dash: str

    def on(self, theme: Theme) -> str:
        """The colour on a background."""
        return self.color if theme == "light" else self.dark_color


LOOKS: dict[str, Look] = {
    "base": Look("Base", "#6e6e6e", "#a8a8a8", "line-ew", "dash"),
    "grpo": Look("GRPO", "#D55E00", "#ff8a3d", "square", "solid"),
    "opsd": Look("OPSD", "#009E73", "#2fc79a", "diamond", "dot"),
    "sdpo": Look("SDPO", "#b5588c", "#e39ac4", "x", "dashdot"),
    "rlsd": Look("RLSD", "#666666", "#bdbdbd", "triangle-up", "longdash"),
    "cepo": Look("CEPO", "#0072B2", "#56b4e9", "circle", "solid"),
}
"""By method name, in the order of the paper's tables."""

OTHER = Look("other", "#8a6d00", "#d8b53a", "star", "longdashdot")
"""A method these tables do not know."""

MORE = {"light": "#7fb3e6", "dark": "#1f5f9e"}
LESS = {"light": "#f2a65a", "dark": "#9a5200"}
"""Ends of the diverging scale: more credit than the rollout's advantage, and less."""

INK = {"light": "#1b1f24", "dark": "#e8eaed"}
GRID = {"light": "#e3e6ea", "dark": "#3a3f47"}


def look(method: str) -> Look:
    """How a method is drawn, by its name."""
    return LOOKS.get(method, OTHER)


def label(method: str) -> str:
    """How a method is written."""
    return LOOKS[method].label if method in LOOKS else method


def translucent(color: str, alpha: float) -> str:
    """A #rrggbb colour, seen through."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def _template(theme: Theme) -> go.layout.Template:
    axis = {"gridcolor": GRID[theme], "linecolor": GRID[theme], "zeroline": False, "automargin": True}
    return go.layout.Template(
        layout=go.Layout(
            font={"family": "Source Sans, system-ui, sans-serif", "size": 13, "color": INK[theme]},
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            colorway=[each.on(theme) for name, each in LOOKS.items() if name != "base"],
            xaxis=axis,
            yaxis=axis,
            margin={"l": 8, "r": 8, "t": 40, "b": 8},
            title={"font": {"size": 15}, "x": 0, "xanchor": "left", "xref": "container", "pad": {"l": 8}},
            legend={"orientation": "h", "yanchor": "top", "y": -0.18, "x": 0},
            hovermode="closest",
        )
    )


TEMPLATES: dict[Theme, go.layout.Template] = {
    "light": pio.templates.merge_templates("none", _template("light")),
    "dark": pio.templates.merge_templates("none", _template("dark")),
}


def styled(figure: go.Figure, theme: Theme = "light") -> go.Figure:
    """The figure in the project's look."""
    figure.update_layout(template=TEMPLATES[theme])
    return figure
