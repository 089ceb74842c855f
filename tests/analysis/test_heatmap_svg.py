"""The drawn heatmap is well-formed, whole, and safe to open."""

import re
import runpy
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from analysis import style
from analysis.heatmap import Heatmap
from analysis.heatmap_svg import COLUMNS, heatmap_svg, layout, ramp

made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_tokens.py"))))
SVG = "{http://www.w3.org/2000/svg}"


def tokens_of(drawing: str) -> list[ET.Element]:
    """The groups of a drawing that are tokens."""
    return [group for group in ET.fromstring(drawing).iter(f"{SVG}g") if group.get("class") == "token"]


@pytest.mark.parametrize("view", ["weight", "delta", "advantage"])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("palette", ["safe", "paper"])
def test_every_token_stands_in_both_panels(view, theme, palette):
    heatmap = made_up.heatmap(100, view=view)
    groups = tokens_of(heatmap_svg(heatmap, theme, palette))
    assert len(groups) == 200
    for n, (group, panel) in enumerate(zip((groups[7], groups[107]), heatmap.panels, strict=True)):
        color = group.find(f"{SVG}rect").get("fill")
        assert color == ramp(theme, palette)[heatmap.bins(panel)[7]], n


def test_the_difference_is_one_panel():
    drawing = heatmap_svg(made_up.heatmap(100, view="difference"))
    assert len(tokens_of(drawing)) == 100
    assert "CEPO − RLSD, clipped weights" in drawing


def test_a_title_carries_the_numbers_of_its_token():
    heatmap = made_up.heatmap(30)
    title = tokens_of(heatmap_svg(heatmap))[30 + 4].find(f"{SVG}title").text
    cepo = heatmap.panels[1]
    assert title.startswith("#4 ")
    for sign, column in (("Δ", cepo.delta), ("w", cepo.weight), ("Â", cepo.token_advantage)):
        assert f"{sign} {column[4]:.4g}" in title


def test_the_text_is_all_there_and_no_line_is_too_long():
    heatmap = made_up.heatmap(300)
    placed = layout(heatmap, COLUMNS)
    written = "".join(run.text for run in placed.runs)
    assert written == "".join(piece.text for piece in heatmap.tokens.display)
    assert max(run.column + run.width for run in placed.runs) <= COLUMNS
    ends = [run.line for run in placed.runs if run.text == "↵"]
    starts = {run.line for run in placed.runs if run.column == 0}
    assert all(end + 1 in starts for end in ends), "a newline draws its mark, and then the line breaks"


def test_wide_characters_take_two_places_and_long_tokens_several_lines():
    heatmap = Heatmap(made_up.tokens(["角", "x", "y" * 3 * COLUMNS]), 1.0)
    runs = layout(heatmap, COLUMNS).runs
    assert [run.column for run in runs[:2]] == [0, 2]
    assert [run.width for run in runs if run.token == 2] == [COLUMNS] * 3


def test_clipped_tokens_are_underlined_and_others_are_not():
    heatmap = made_up.heatmap(60, epsilon_w=0.3)
    drawing = ET.fromstring(heatmap_svg(heatmap))
    lines = [path.get("d").count("M") for path in drawing.iter(f"{SVG}path") if path.get("class") == "clipped"]
    clipped = [int((panel.clipped != 0).sum()) for panel in heatmap.panels]
    assert lines == clipped
    assert min(clipped) > 0


def test_callouts_are_numbered_brackets():
    drawing = heatmap_svg(made_up.heatmap(80, callouts=((3, 9), (20, 60))))
    assert drawing.count(">①</text>") == drawing.count(">②</text>") == 2
    brackets = [path for path in ET.fromstring(drawing).iter(f"{SVG}path") if path.get("class") == "callout"]
    assert len(brackets) == 2
    assert brackets[0].get("d").count("v4m0 -4") == 2, "one opening corner a region, however many lines it has"


def test_hostile_text_stays_text():
    heatmap = Heatmap(made_up.tokens(made_up.HOSTILE), 1.0, title="<script>\x00", caption="a & b\n</svg>\ud800")
    drawing = heatmap_svg(heatmap)
    drawing.encode("utf-8")
    tags = {element.tag.removeprefix(SVG) for element in ET.fromstring(drawing).iter()}
    assert tags <= {"svg", "title", "defs", "pattern", "path", "rect", "g", "text", "tspan"}
    groups = tokens_of(drawing)
    assert len(groups) == 2 * len(made_up.HOSTILE)
    assert "".join(text.text or "" for text in groups[0].iter(f"{SVG}text")) == made_up.HOSTILE[0]
    assert "\u202e" not in drawing
    assert re.search(r"\son\w+=\"", drawing) is None


def test_missing_evidence_no_tokens_and_gaps_are_drawn_with_their_reason():
    heatmap = made_up.heatmap(20)
    gone = replace(heatmap.tokens, log_p_wrong=np.full(20, np.nan, np.float32))
    assert "no teacher read this rollout with r⁻" in heatmap_svg(replace(heatmap, tokens=gone))
    gap = replace(heatmap.tokens, log_p_wrong=np.where(np.arange(20) == 2, np.nan, -0.5))
    assert heatmap_svg(replace(heatmap, tokens=gap)).count('fill="url(#hatch)"') == 1
    assert "no recorded tokens" in heatmap_svg(Heatmap(made_up.tokens([]), 1.0))


def test_the_dark_drawing_has_light_ink():
    root = ET.fromstring(heatmap_svg(made_up.heatmap(5), "dark"))
    assert root.get("fill") == style.INK["dark"]


def test_two_times_2048_tokens_take_under_a_second():
    heatmap = made_up.heatmap(2048, callouts=((10, 400),))
    start = time.perf_counter()
    drawing = heatmap_svg(heatmap)
    assert time.perf_counter() - start < 1
    assert len(tokens_of(drawing)) == 4096
