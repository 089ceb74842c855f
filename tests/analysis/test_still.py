"""Figures on paper: what stands where, what is written, what is refused, and that nothing of a figure gets lost."""

import re
import runpy
import warnings
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from analysis.catalogue import EXHIBITS
from analysis.curves import Shown
from analysis.figures.forest import forest
from analysis.figures.panels import traces
from analysis.still import save, still, svg
from analysis.still_axes import written
from analysis.still_reading import plain, rgba
from analysis.style import styled
from analysis.tokens import CLASSES, EvidenceCounts
from core.errors import InputError
from core.histogram import BINS

made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_recordings.py"))))
GLYPHS = "λ ε Δ Â τ π_θ ₀ ₜ ⁺ ⁻ ² ≥ ≤ ≠ − · … “ ” ‖ ± ×"
BAND = {"mode": "lines", "line": {"width": 0}, "showlegend": False}


@pytest.fixture(autouse=True)
def strict() -> Any:
    """A warning is a glyph that is missing or a mark that is not drawn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def panel(page: Figure, name: str = "x y") -> Any:
    """A panel by its axes, or the sheet below or above all of them; matplotlib's types know too little of its marks."""
    return next(axes for axes in page.axes if axes.get_label() == name)


def extents(page: Figure, artist: Any) -> Bbox:
    canvas: Any = page.canvas
    return artist.get_tightbbox(canvas.get_renderer())


def texts(page: Figure) -> list[str]:
    return [text.get_text() for text in page.findobj(Text) if text.get_visible() and text.get_text()]


def names(page: Figure) -> list[str]:
    return [text.get_text() for legend in page.legends for text in legend.get_texts()]


def ticks(axes: Any, which: str) -> list[str]:
    return [label.get_text() for label in getattr(axes, f"get_{which}ticklabels")()]


def boxes(axes: Any) -> list[tuple[float, float, float, float]]:
    """Bars as left, right, bottom, top."""
    found = [bar.get_bbox() for bar in axes.patches]
    return [(box.x0, box.x1, box.y0, box.y1) for box in found]


def runs() -> Shown:
    """Five methods, one of them with three seeds."""
    recordings = [made_up.recording(method, lam=[0.5, 0.25]) for method in ("grpo", "opsd", "sdpo", "rlsd")]
    recordings += [made_up.recording(seed=seed, accuracies=(0.4, 0.5, 0.6 + seed / 10)) for seed in range(3)]
    n = np.arange(len(CLASSES), dtype=float)
    counts = EvidenceCounts(np.zeros((len(CLASSES), BINS), np.int64), n, n, n, n, n / 2)
    return Shown(tuple(recordings), evidence={recording.key: counts for recording in recordings})


@cache
def exhibit(name: str) -> tuple[Any, Figure]:
    figure = EXHIBITS[name].build(runs(), "light")
    return figure, still(figure)


@pytest.mark.parametrize("name", EXHIBITS)
def test_every_exhibit_is_drawn_with_its_title_and_every_name_of_its_legend(name: str) -> None:
    figure, page = exhibit(name)
    assert plain(figure.layout.title.text) in [text.replace("\n", " ") for text in texts(page)]
    expected = {plain(trace.name) for trace in traces(figure) if trace.showlegend is not False}
    assert set(names(page)) == expected
    assert len(names(page)) == len(expected)


@pytest.mark.parametrize("name", EXHIBITS)
def test_nothing_of_an_exhibit_sticks_out_or_lies_over_its_legend(name: str) -> None:
    _, page = exhibit(name)
    drawn = Bbox.union([extents(page, axes) for axes in page.axes])
    (legend,) = (extents(page, legend) for legend in page.legends)
    title = extents(page, page.texts[0])
    assert 0 <= drawn.x0 < drawn.x1 <= page.bbox.width
    assert 0 <= legend.y0 < legend.y1 < drawn.y0 < drawn.y1 < title.y0 < title.y1 <= page.bbox.height
    assert 0 <= legend.x0 < legend.x1 <= page.bbox.width


@pytest.mark.parametrize("name", ["accuracy", "delta_fractions", "token_classes"])
def test_an_exhibit_without_a_run_says_so_inside_the_figure(name: str) -> None:
    page = still(EXHIBITS[name].build(Shown(()), "light"))
    said = [text for text in panel(page, "above").texts if text.get_text().startswith("no ")]
    assert len(said) == 1
    assert 0 <= extents(page, said[0]).x0 < extents(page, said[0]).x1 <= page.bbox.width


def test_the_forest_keeps_filled_markers_for_what_is_separated() -> None:
    rows = pd.DataFrame(
        {"label": "CEPO", "method": "cepo", "column": ["dynamath", "wemath"], "separated": [True, False],
         "difference": [0.2, 0.1], "difference_low": [0.1, -0.1], "difference_high": [0.3, 0.2], "p_holm": [0.01, 0.5]}
    )  # fmt: skip
    axes = panel(still(forest(rows, "GRPO")))
    filled, hollow = (line for line in axes.lines if line.get_marker() == "o")
    assert filled.get_xdata() == pytest.approx([20])
    assert to_hex(filled.get_markerfacecolor()) == "#0072b2"
    assert hollow.get_xdata() == pytest.approx([10])
    assert hollow.get_markerfacecolor() == "none"
    ends = [segment[:, 0].tolist() for each in axes.collections for segment in each.get_segments()]
    assert ends == [pytest.approx([10, 30]), pytest.approx([-10, 20])]


def test_a_figure_has_its_own_size_at_96_pixels_an_inch() -> None:
    figure = go.Figure(go.Scatter(x=[1, 2], y=[1, 2]), {"width": 480, "height": 288})
    assert still(figure).get_size_inches().tolist() == [5, 3]


def test_a_figure_grows_where_its_legend_would_take_the_panels_room() -> None:
    figure = go.Figure([go.Scatter(x=[1, 2], y=[i, 2], name=f"run {i} " + 50 * "x") for i in range(12)])
    page = still(figure.update_layout(height=300))
    assert page.bbox.height > 350
    assert panel(page).bbox.height >= 0.54 * 300


def test_panels_whose_labels_would_meet_are_drawn_apart_unless_the_width_is_given() -> None:
    labels = {"tickvals": [0, 1], "ticktext": ["a long name of something", "another long name"]}
    figure = go.Figure([go.Scatter(x=[0, 1], y=[0, 1], xaxis=f"x{i}", yaxis=f"y{i}") for i in (1, 2)])
    figure.update_layout(xaxis_domain=[0, 0.42], xaxis2={"domain": [0.58, 1], "anchor": "y2"},
                         yaxis2=labels | {"anchor": "x2"}, showlegend=False)  # fmt: skip
    page = still(figure)
    assert extents(page, panel(page)).x1 < extents(page, panel(page, "x2 y2")).x0
    assert still(figure.update_layout(width=500)).bbox.width == 500


def test_lines_and_markers_stand_at_their_points_and_gaps_stay_gaps() -> None:
    figure = go.Figure(
        go.Scatter(x=[1, 2, 3], y=[4, None, 6], mode="lines+markers", line={"color": "#D55E00", "width": 4})
    )
    line, markers = panel(still(figure)).lines
    for drawn in (line, markers):
        assert drawn.get_xdata() == pytest.approx([1, 2, 3])
        np.testing.assert_array_equal(drawn.get_ydata(), [4, np.nan, 6])
    assert to_hex(line.get_color()) == "#d55e00"
    assert line.get_linewidth() == 3  # 4 pixels at 96 an inch are 3 points
    assert (line.get_marker(), markers.get_linestyle()) == ("None", "None")


def test_a_line_without_a_colour_has_that_of_its_place_in_the_colorway() -> None:
    figure = go.Figure([go.Scatter(x=[1], y=[1], mode="markers"), go.Scatter(x=[1], y=[2], mode="markers")])
    drawn = panel(still(styled(figure))).lines
    assert [to_hex(line.get_markerfacecolor()) for line in drawn] == ["#d55e00", "#009e73"]


def test_a_band_lies_between_its_lines_and_a_shade_reaches_down_to_zero() -> None:
    figure = go.Figure([
        go.Scatter(x=[0, 1], y=[1, 2], **BAND),
        go.Scatter(x=[0, 1], y=[3, 5], fill="tonexty", fillcolor="rgba(0,114,178,0.16)", **BAND),
        go.Scatter(x=[0, 1], y=[7, 8], fill="tozeroy", mode="lines", xaxis="x2", yaxis="y2"),
    ])  # fmt: skip
    figure.update_layout(
        xaxis={"domain": [0, 0.4]}, xaxis2={"domain": [0.6, 1], "anchor": "y2"}, yaxis2={"anchor": "x2"}
    )
    page = still(figure)
    (band,), (shade,) = (
        [each.get_paths()[0].vertices for each in panel(page, name).collections] for name in ("x y", "x2 y2")
    )
    assert {tuple(point) for point in band} == {(0, 1), (1, 2), (0, 3), (1, 5)}
    assert {tuple(point) for point in shade} == {(0, 0), (1, 0), (0, 7), (1, 8)}
    assert panel(page).collections[0].get_facecolor()[0] == pytest.approx((0, 114 / 255, 178 / 255, 0.16))
    assert panel(page, "x2 y2").get_ylim()[0] <= 0


def test_error_bars_reach_as_far_up_and_down_as_they_say() -> None:
    error = {"type": "data", "array": [0.5, None], "arrayminus": [0.25, None]}
    axes = panel(still(go.Figure(go.Scatter(x=[1, 2], y=[3, 4], mode="markers", error_y=error))))
    (bar,) = axes.collections
    one, none = bar.get_segments()
    assert one[:, 1] == pytest.approx([2.75, 3.5])
    assert len(none) == 0, "a mean of one seed has no interval"


def test_bars_of_a_group_stand_side_by_side_and_leave_a_fifth_free() -> None:
    figure = go.Figure([go.Bar(x=["a", "b"], y=[1, 2]), go.Bar(x=["a", "b"], y=[3, 4])])
    assert boxes(panel(still(figure))) == [
        pytest.approx((-0.4, 0.0, 0, 1)), pytest.approx((0.6, 1.0, 0, 2)),
        pytest.approx((0.0, 0.4, 0, 3)), pytest.approx((1.0, 1.4, 0, 4)),
    ]  # fmt: skip


def test_stacked_bars_begin_where_the_one_before_ends() -> None:
    figure = go.Figure([go.Bar(y=["a"], x=[1], orientation="h"), go.Bar(y=["a"], x=[3], orientation="h")])
    assert boxes(panel(still(figure.update_layout(barmode="stack")))) == [
        pytest.approx((0, 1, -0.4, 0.4)), pytest.approx((1, 4, -0.4, 0.4)),
    ]  # fmt: skip


def test_relative_bars_pile_gains_up_and_losses_down() -> None:
    figure = go.Figure([go.Bar(x=["a"], y=[y]) for y in (2, -1, 1, -4)], {"barmode": "relative"})
    ends = [(bottom, top) for _, _, bottom, top in boxes(panel(still(figure)))]
    assert [sorted(each) for each in ends] == [[0, 2], [-1, 0], [2, 3], [-5, -1]]


def test_a_pattern_is_a_hatch_in_the_bars_colour() -> None:
    figure = go.Figure(go.Bar(x=["a"], y=[1], marker={"color": "#0072B2", "pattern": {"shape": "/"}}))
    (bar,) = panel(still(figure)).patches
    assert bar.get_hatch() == "////"
    assert to_hex(bar.get_edgecolor()) == "#0072b2"
    assert to_hex(bar.get_facecolor()) == "#ffffff"


def test_categories_stand_in_the_order_asked_for_and_can_be_turned_round() -> None:
    figure = go.Figure(go.Bar(y=["b", "c"], x=[1, 2], orientation="h"))
    figure.update_layout(yaxis={"categoryarray": ["a", "c", "b"], "categoryorder": "array", "autorange": "reversed"})
    axes = panel(still(figure))
    assert ticks(axes, "y") == ["c", "b"], "the unused one at the end takes no room"
    assert boxes(axes) == [pytest.approx((0, 1, 0.6, 1.4)), pytest.approx((0, 2, -0.4, 0.4))]
    assert axes.get_ylim() == (1.5, -0.5)


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (0.5, ".0%", "50%"), (0.125, ".2~%", "12.5%"), (0.1, ".2~%", "10%"), (0, ".2~%", "0%"), (1.5, "+.2f", "+1.50"),
        (12345.67, ",.1f", "12,345.7"), (7, "d", "7"), (0.01234, ".2g", "0.012"), (-0.0, ".1f", "0.0"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_d3_writes_them(value: float, form: str, text: str) -> None:
    assert written(value, form) == text


def test_ticks_are_round_numbers_with_a_minus_sign_and_thousands_are_k() -> None:
    axes = panel(still(go.Figure(go.Scatter(x=[0, 20_000], y=[-1, 1], mode="markers"))))
    assert ticks(axes, "x") == ["0", "5k", "10k", "15k", "20k"]
    assert ticks(axes, "y") == ["−1", "−0.5", "0", "0.5", "1"]


def test_a_log_axis_has_its_range_in_exponents_and_powers_where_asked() -> None:
    figure = go.Figure(go.Scatter(x=[1e-3, 1], y=[1, 2], mode="markers"))
    axes = panel(still(figure.update_layout(xaxis={"type": "log", "range": [-3, 0], "exponentformat": "power"})))
    assert axes.get_xscale() == "log"
    assert axes.get_xlim() == pytest.approx((1e-3, 1))
    assert ticks(axes, "x") == ["10⁻³", "10⁻²", "10⁻¹", "1"]


def test_ticks_can_be_given_with_their_texts() -> None:
    figure = go.Figure(go.Scatter(x=[0, 1], y=[0, 1], mode="markers"))
    figure.update_layout(yaxis={"tickvals": [0, 1], "ticktext": ["a<br>b", "<b>c</b> (3)"], "range": [1.5, -0.5]})
    axes = panel(still(figure))
    assert ticks(axes, "y") == ["a\nb", "c (3)"]
    assert [label.get_fontweight() for label in axes.get_yticklabels()] == ["normal", "bold"]
    assert axes.get_ylim() == (1.5, -0.5)


def test_names_below_an_axis_that_would_meet_are_turned() -> None:
    figure = go.Figure(go.Bar(x=[f"run-{i}-without-a-space" for i in range(12)], y=list(range(12))))
    page = still(figure)
    rotations = {label.get_rotation() for label in panel(page).get_xticklabels()}
    assert rotations == {30}
    assert extents(page, panel(page)).y0 >= 0


def test_axes_that_match_have_one_range_and_each_its_own_words() -> None:
    figure = go.Figure([
        go.Scatter(x=[0], y=[1], mode="markers"), go.Scatter(x=[0], y=[9], mode="markers", xaxis="x2", yaxis="y2"),
    ])  # fmt: skip
    figure.update_layout(
        xaxis_domain=[0, 0.4], xaxis2={"domain": [0.6, 1], "anchor": "y2"},
        yaxis={"tickvals": [1, 9], "ticktext": ["low", "high"]},
        yaxis2={"anchor": "x2", "matches": "y", "tickvals": [1, 9], "ticktext": ["here", "there"]},
    )  # fmt: skip
    page = still(figure)
    left, right = panel(page), panel(page, "x2 y2")
    assert left.get_ylim() == right.get_ylim()
    assert left.get_ylim()[0] < 1 < 9 < left.get_ylim()[1]
    assert (ticks(left, "y"), ticks(right, "y")) == (["low", "high"], ["here", "there"])
    assert left.get_position().x1 < right.get_position().x0


def test_a_second_axis_lies_over_the_first_with_its_own_range_at_the_right() -> None:
    figure = go.Figure([go.Scatter(x=[0, 1], y=[0, 1]), go.Scatter(x=[0, 1], y=[50, 60], yaxis="y2")])
    figure.update_layout(yaxis2={"overlaying": "y", "side": "right", "range": [0, 100], "title": {"text": "right"}})
    page = still(figure)
    first, second = panel(page), panel(page, "x y2")
    assert first.get_position().bounds == second.get_position().bounds
    assert first.get_xlim() == second.get_xlim()
    assert (first.get_ylim()[1] < 2, second.get_ylim()) == (True, (0, 100))
    assert first.bbox.x1 < extents(page, second.yaxis).x0 < extents(page, second.yaxis).x1 <= page.bbox.width


def test_lines_and_rectangles_count_in_data_or_in_shares_of_panel_and_figure() -> None:
    figure = go.Figure(go.Scatter(x=[0, 10], y=[0, 1], mode="markers"))
    figure.add_hline(y=0.5, line={"dash": "dot"})
    figure.add_vrect(x0=2, x1=4, fillcolor="#0072B2", opacity=0.2, line_width=0, layer="below")
    figure.add_shape(type="line", xref="paper", yref="paper", x0=0, x1=1, y0=1, y1=1)
    page = still(figure)
    axes, above = panel(page), panel(page, "above")
    across, top = above.lines
    _, middle = axes.transData.transform((0, 0.5))
    assert across.get_transform().transform([(0, 0.5), (1, 0.5)]).ravel() == pytest.approx(
        [axes.bbox.x0, middle, axes.bbox.x1, middle]
    )
    assert top.get_transform().transform([(0, 1)])[0] == pytest.approx((axes.bbox.x0, axes.bbox.y1))
    (rectangle,) = axes.patches
    (left, low), (right, high) = rectangle.get_data_transform().transform([(2, 0), (4, 1)])
    assert (left, right) == pytest.approx((axes.transData.transform((2, 0))[0], axes.transData.transform((4, 0))[0]))
    assert (low, high) == pytest.approx((axes.bbox.y0, axes.bbox.y1))
    assert rectangle.get_zorder() < 1 < across.get_zorder() + 1
    assert rectangle.get_facecolor()[3] == pytest.approx(0.2)


def test_notes_stand_at_their_data_in_exponents_on_a_log_axis() -> None:
    figure = go.Figure(go.Scatter(x=[1, 1000], y=[0, 1], mode="markers"), {"xaxis": {"type": "log"}})
    figure.add_annotation(x=2, y=0.5, text="a <b>b</b>", showarrow=False)
    figure.add_annotation(x=0, y=1, xref="paper", yref="paper", text="corner", showarrow=False)
    inside, corner = panel(still(figure), "above").texts
    assert (inside.xy, inside.get_text()) == ((100, 0.5), "a b")
    assert (inside.get_ha(), inside.get_va()) == ("center", "center")
    assert (corner.get_ha(), corner.get_va()) == ("left", "top"), "a text at the edge of the paper stays on it"


def test_the_legend_has_a_name_once_and_leaves_out_what_is_not_to_be_shown() -> None:
    shown, hidden = ({"name": name, "x": [1], "y": [1], "mode": "markers"} for name in ("CEPO, n = 3 seeds", "low"))
    figure = go.Figure([go.Scatter(shown), go.Scatter(shown), go.Scatter(hidden, showlegend=False)])
    assert names(still(figure)) == ["CEPO, n = 3 seeds"]
    assert still(figure.update_layout(showlegend=False)).legends == []


def test_names_of_a_legend_are_read_row_by_row() -> None:
    figure = go.Figure([go.Scatter(x=[1], y=[i], name=f"{i} {'x' * 40}") for i in range(5)])
    page = still(figure.update_layout(width=760))
    page.draw_without_rendering()  # a legend's texts find their places only then
    places = sorted(
        (-round(extents(page, text).y0), extents(page, text).x0, text.get_text())
        for text in page.legends[0].get_texts()
    )
    assert [text[0] for _, _, text in places] == list("01234")
    assert len({y for y, _, _ in places}) == 3


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("one<br>two", "one\ntwo"), ("<b>bold</b> <i>x</i>", "bold x"), ("a &lt;b&gt; &amp; c", "a <b> & c"),
        ("10<sup>−3</sup>, w<sub>t</sub>", "10⁻³, wₜ"), ("P < 0.05 > 0", "P < 0.05 > 0"), ("$x$", "$x$"),
        ("<script>x</script>", "<script>x</script>"), ("a\u202eb\x00c", "a b c"), ("&amp;lt;b&amp;gt;", "&lt;b&gt;"),
        ("<span style='color:red'>n</span>", "n"),
    ],
)  # fmt: skip
def test_texts_are_read_as_plotly_reads_them(given: str, read: str) -> None:
    assert plain(given) == read


def test_colours_are_read_with_what_shines_through() -> None:
    assert rgba("rgba(0, 51, 255, 0.5)") == pytest.approx((0, 0.2, 1, 0.5))
    assert rgba("#ff0000", 0.25) == pytest.approx((1, 0, 0, 0.25))
    assert rgba("rgba(0,0,0,0)", 0.5)[3] == 0


def glyphs() -> go.Figure:
    """Every letter the paper needs, a dollar, and what an enemy would write."""
    figure = go.Figure(go.Bar(x=[GLYPHS, "costs $5 and $6"], y=[1, 2], name="</text><script>alert(1)</script> & $λ$"))
    return styled(figure.update_layout(title_text=f"{GLYPHS} &lt;b&gt;", showlegend=True, yaxis_title_text="|Δ|, nats"))


def test_text_stays_text_in_an_svg_and_none_of_it_is_markup() -> None:
    source = svg(glyphs())
    assert source.startswith("<svg")
    root = ElementTree.fromstring(source)
    found = ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert f"{GLYPHS} <b>" in found
    assert "costs $5 and $6" in found
    assert "</text><script>alert(1)</script> & $λ$" in found
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))


def test_the_same_figure_gives_the_same_bytes_as_svg_and_pdf_with_truetype_letters(tmp_path: Path) -> None:
    first, again = save(glyphs(), tmp_path / "a.b"), save(glyphs(), tmp_path / "again")
    assert [path.name for path in first] == ["a.b.svg", "a.b.pdf"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert svg(glyphs()) in first[0].read_text(encoding="utf-8")
    pdf = first[1].read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert not re.search(rb"/CreationDate|/ModDate", pdf)


def test_settings_of_the_reader_neither_change_a_still_nor_are_changed() -> None:
    figure, before = glyphs(), svg(glyphs())
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.fonttype": "path", "axes.grid": True}):
        mine = dict(matplotlib.rcParams)
        assert svg(figure) == before
        assert dict(matplotlib.rcParams) == mine


LINE = {"type": "scatter", "x": [1, 2], "y": [1, 2], "mode": "lines"}
REFUSED: list[tuple[str, dict, dict]] = [
    ("got pie", {"type": "pie", "values": [1]}, {}),
    ("got heatmap", {"type": "heatmap", "z": [[1]]}, {}),
    ("stackgroup", LINE | {"stackgroup": "a"}, {}),
    ("mode", LINE | {"mode": "lines+text", "text": ["a", "b"]}, {}),
    ("fill", LINE | {"fill": "toself"}, {}),
    ("line.shape", LINE | {"line": {"shape": "hv"}}, {}),
    ("line.dash", LINE | {"line": {"dash": "5px"}}, {}),
    ("marker.symbol", LINE | {"marker": {"symbol": ["circle", "hexagram"]}}, {}),
    ("marker.colorscale", LINE | {"marker": {"color": [1, 2], "colorscale": "Viridis"}}, {}),
    ("error_y.type", LINE | {"error_y": {"type": "percent", "value": 5}}, {}),
    ("error_y.value", LINE | {"error_y": {"value": 5}}, {}),
    ("text", {"type": "bar", "x": [1], "y": [1], "text": ["a"]}, {}),
    ("base", {"type": "bar", "x": [1], "y": [1], "base": [1]}, {}),
    ("as many x as y", {"type": "scatter", "y": [1, 2]}, {}),
    ("colour 'hsl", LINE | {"line": {"color": "hsl(0,50%,50%)"}}, {}),
    ("tickformat '.2s'", LINE, {"yaxis": {"tickformat": ".2s"}}),
    ("dtick", LINE, {"xaxis": {"type": "log", "dtick": "D1"}}),
    ("exponentformat", LINE, {"xaxis": {"exponentformat": "power"}}),
    ("layout.xaxis.rangeslider", LINE, {"xaxis": {"rangeslider": {"visible": True}}}),
    ("layout.yaxis2.showgrid", LINE | {"yaxis": "y2"}, {"yaxis2": {"overlaying": "y", "showgrid": True}}),
    ("layout.shapes.type", LINE, {"shapes": [{"type": "circle", "x0": 0, "x1": 1, "y0": 0, "y1": 1}]}),
    ("xref", LINE, {"shapes": [{"type": "line", "xref": "x3", "x0": 0, "x1": 1, "y0": 0, "y1": 1}]}),
    ("layout.images", LINE, {"images": [{"source": "a.png"}]}),
    ("theme='light'", LINE, {"font": {"color": "#e8eaed"}}),
]


@pytest.mark.parametrize(("said", "trace", "layout"), REFUSED, ids=[said for said, _, _ in REFUSED])
def test_what_cannot_be_drawn_is_refused_by_name_in_one_line(said: str, trace: dict, layout: dict) -> None:
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        still(go.Figure([trace], layout))
    assert "\n" not in str(caught.value)


def test_a_band_between_lines_that_have_other_x_is_refused() -> None:
    figure = go.Figure([go.Scatter(x=[0, 1], y=[1, 2]), go.Scatter(x=[0, 2], y=[3, 5], fill="tonexty")])
    with pytest.raises(InputError, match="expected the x of the trace it is filled to"):
        still(figure)


def test_a_trace_that_is_switched_off_is_not_drawn() -> None:
    figure = go.Figure([go.Scatter(x=[1], y=[1], mode="markers"), go.Scatter(x=[1], y=[9], visible="legendonly")])
    assert len(panel(still(figure)).lines) == 1
