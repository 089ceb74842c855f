"""A heatmap as SVG for a paper or a slide: drawn here in plain Python, without a browser."""

import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np

from analysis import style
from analysis.heatmap import BINS, HATCHED, Heatmap, Panel
from analysis.heatmap_words import NOTES
from analysis.style import Theme

Palette = Literal["safe", "paper"]

PAGE = {"light": "#ffffff", "dark": "#14171b"}
PAPER_LESS = {"light": "#ff4b51", "dark": "#a32a2e"}
PAPER_MORE = {"light": "#07ff5d", "dark": "#0a7a33"}
"""The paper's own red and green: hard to tell apart for one man in twelve, so never the default."""

FONT = 13.0
ADVANCE = 0.6 * FONT
LINE = 25.0
MARGIN = 24.0
GAP = 32.0
COLUMNS = 64
MONO = "'DejaVu Sans Mono', Menlo, Consolas, monospace"
SANS = "'Source Sans 3', system-ui, 'DejaVu Sans', sans-serif"
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def ramp(theme: Theme, palette: Palette = "safe") -> tuple[str, ...]:
    """The colours of the 21 classes, from least to most credit, with the page's own colour in the middle."""
    less, more = (style.LESS, style.MORE) if palette == "safe" else (PAPER_LESS, PAPER_MORE)
    shares = np.linspace(-1, 1, BINS)
    return tuple(_mixed(PAGE[theme], (less if share < 0 else more)[theme], abs(share)) for share in shares)


def _mixed(start: str, end: str, share: float) -> str:
    channels = (round((1 - share) * int(start[i : i + 2], 16) + share * int(end[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{channel:02x}" for channel in channels)


@dataclass(frozen=True)
class Run:
    """The part of a token that stands on one line."""

    token: int
    text: str
    line: int
    column: int
    width: int


@dataclass(frozen=True)
class Layout:
    """Where every token and callout number stands, in characters and lines."""

    runs: tuple[Run, ...]
    chips: tuple[Run, ...]
    """The callouts' numbers; `token` counts the callouts."""
    lines: int


def layout(view: Heatmap, columns: int) -> Layout:
    """Set the response in lines of so many characters; a token stays whole where it fits on a line."""
    runs: list[Run] = []
    chips: list[Run] = []
    line = column = 0
    for token, piece in enumerate(view.tokens.display):
        for number, (first, _) in enumerate(view.callouts):
            if first == token:
                line, column = (line + 1, 0) if column + 3 > columns else (line, column)
                chips.append(Run(number, circled(number + 1), line, column, 3))
                column += 3
        text = "".join(part.text for part in piece.parts)
        for n, segment in enumerate(text.split("\n")):
            if n:
                line, column = line + 1, 0
            for chunk in _chunks(segment, columns):
                width = sum(map(_width, chunk))
                if column + width > columns:
                    line, column = line + 1, 0
                runs.append(Run(token, chunk, line, column, width))
                column += width
        if not text:
            runs.append(Run(token, "", line, column, 0))
    return Layout(tuple(runs), tuple(chips), line + 1)


def _chunks(text: str, columns: int) -> Iterator[str]:
    """A text in parts that each fit on a line."""
    start, width = 0, 0
    for i, character in enumerate(text):
        if width + _width(character) > columns:
            yield text[start:i]
            start, width = i, 0
        width += _width(character)
    if text[start:]:
        yield text[start:]


def _width(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def circled(number: int) -> str:
    """① to ⑳, then numbers in brackets."""
    return chr(0x245F + number) if number <= 20 else f"({number})"


def heatmap_svg(view: Heatmap, theme: Theme = "light", palette: Palette = "safe") -> str:
    """Both panels side by side (their difference alone in that view), with headings, callouts and legend.

    Args:
        view: what to draw.
        theme: of the page it goes on.
        palette: `safe` for every colour vision, `paper` for the red and green of Figure 5.
    """
    single = view.view == "difference"
    columns = 2 * COLUMNS + 4 if single else COLUMNS
    width = 2 * MARGIN + 2 * COLUMNS * ADVANCE + GAP
    placed = layout(view, columns)
    colors = ramp(theme, palette)
    head, y = _heading(view, width)
    parts = [head]
    panels = view.panels[1:] if single else view.panels
    lefts = [MARGIN + n * (COLUMNS * ADVANCE + GAP) for n in range(len(panels))]
    headings = [_panel_heading(view, panel, x, y) for panel, x in zip(panels, lefts, strict=True)]
    top = max(end for _, end in headings)
    for (heading, _), panel, x in zip(headings, panels, lefts, strict=True):
        parts.append(f'{heading}<g font-family="{MONO}">{_tokens(view, panel, placed, colors, x, top)}</g>')
    below = top + placed.lines * LINE
    legend, height = _legend(view, colors, below + 14)
    parts.append(legend)
    ink, page = style.INK[theme], PAGE[theme]
    title = _safe(view.title or "Token heatmap")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" fill="{ink}" color="{ink}" font-family="{SANS}" font-size="{FONT:g}">'
        f'<title>{title}</title><defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><path d="M0 0v5" stroke="{ink}" stroke-opacity=".45"/></pattern></defs>'
        f'<rect width="100%" height="100%" fill="{page}"/>{"".join(parts)}</svg>\n'
    )


def _heading(view: Heatmap, width: float) -> tuple[str, float]:
    """Title, caption and what there is to say of the whole; and where it ends."""
    y = MARGIN + 6
    parts = []
    if view.title:
        parts.append(f'<text x="{MARGIN:g}" y="{y + 6:g}" font-size="17" font-weight="600">{_safe(view.title)}</text>')
        y += 24
    settings = f"λ = {view.lam:.3g}, ε = {view.epsilon_w:.3g}, A = {view.advantage:.3g}"
    letters = int((width - 2 * MARGIN) / (0.52 * FONT))
    for text in (*view.caption.splitlines(), settings, view.notice):
        for chunk in _chunks(text, letters):
            parts.append(f'<text x="{MARGIN:g}" y="{y:.1f}">{_safe(chunk)}</text>')
            y += 18
    return "".join(parts), y + 8


def _panel_heading(view: Heatmap, panel: Panel, x: float, y: float) -> tuple[str, float]:
    """A panel's method, clip rate and notes, and where its text can start."""
    single = view.view == "difference"
    label = f"{view.panels[1].label} − {view.panels[0].label}, clipped weights" if single else panel.label
    rate, _, gaps = ("" if single else panel.rate).partition(" · ")
    note = view.difference_missing if single else panel.missing or NOTES.get(panel.method, "")
    parts = [
        f'<text x="{x:.1f}" y="{y:.1f}"><tspan font-weight="700" font-size="15">{_safe(label)}</tspan>'
        f'<tspan dx="12">{_safe(rate)}</tspan></text>'
    ]
    letters = int(COLUMNS * ADVANCE / (0.5 * FONT))
    for chunk in (*_chunks(gaps, letters), *_chunks(note, letters)):
        y += 17
        parts.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="12" fill-opacity=".8">{_safe(chunk)}</text>')
    return "".join(parts), y + 20


def _tokens(view: Heatmap, panel: Panel, placed: Layout, colors: tuple[str, ...], x: float, y: float) -> str:
    bins = view.bins(panel)
    clipped = panel.clipped if view.view != "difference" and bins is not None else None
    parts = []
    dots = []
    for token, runs in groupby(placed.runs, key=lambda run: run.token):
        parts.append(f'<g class="token"><title>{_safe(_numbers(view, panel, token))}</title>')
        for run in runs:
            left, top, width = x + run.column * ADVANCE, y + run.line * LINE, run.width * ADVANCE
            if bins is not None and run.width:
                fill = "url(#hatch)" if bins[token] == HATCHED else colors[bins[token]]
                parts.append(
                    f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="18" rx="2" fill="{fill}"/>'
                )
            parts.append(_text(run, left, top + 13.5))
            if clipped is not None and clipped[token] and run.width:
                dots.append(f"M{left + 1:.1f} {top + 19.5:.1f}h{max(width - 2, 1):.1f}")
        parts.append("</g>")
    if dots:
        parts.append(_line("".join(dots), 'class="clipped" stroke-width="1.6" stroke-dasharray="1.6 2"'))
    return "".join(parts) + _callouts(view, placed, x, y)


def _text(run: Run, left: float, baseline: float) -> str:
    """A run's text; blanks at its ends need not be drawn, which no reader of SVG could then swallow."""
    blanks = len(run.text) - len(run.text.lstrip(" "))
    text = run.text.strip(" ")
    if not text:
        return ""
    # a character from another font would have another width
    width = sum(map(_width, text)) * ADVANCE
    fixed = "" if text.isascii() or not width else f' textLength="{width:.1f}" lengthAdjust="spacingAndGlyphs"'
    return f'<text x="{left + blanks * ADVANCE:.1f}" y="{baseline:.1f}"{fixed}>{_safe(text)}</text>'


def _callouts(view: Heatmap, placed: Layout, x: float, y: float) -> str:
    """A bracket over every line of a region, and its number before it."""
    parts = []
    for first, last in view.callouts:
        inside = [run for run in placed.runs if first <= run.token <= last and run.width]
        for line, runs in groupby(inside, key=lambda run: run.line):
            on_line = list(runs)
            left = x + on_line[0].column * ADVANCE
            right = x + (on_line[-1].column + on_line[-1].width) * ADVANCE
            top = y + line * LINE - 3
            opening = "v4m0 -4" if on_line[0] is inside[0] else ""
            closing = "v4" if on_line[-1] is inside[-1] else ""
            parts.append(f"M{left:.1f} {top:.1f}{opening}H{right:.1f}{closing}")
    drawn = _line("".join(parts), 'class="callout" stroke-width="1.6"') if parts else ""
    for chip in placed.chips:
        left, baseline = x + (chip.column + 0.3) * ADVANCE, y + chip.line * LINE + 14
        drawn += f'<text x="{left:.1f}" y="{baseline:.1f}" font-size="16" font-weight="700">{chip.text}</text>'
    return drawn


def _line(path: str, look: str) -> str:
    return f'<path {look} d="{path}" fill="none" stroke="currentColor" stroke-opacity=".9"/>'


def _numbers(view: Heatmap, panel: Panel, token: int) -> str:
    """What a pointer reads over a token."""
    tokens = view.tokens
    facts = [f"#{tokens.position[token]} {tokens.display[token].text} ({tokens.classes[token]})"]
    names = {"Δ": panel.delta, "w": panel.weight, "Â": panel.token_advantage}
    facts += [f"{name} {column[token]:.4g}" for name, column in names.items() if column is not None]
    if panel.clipped is not None and panel.clipped[token]:
        facts.append("clipped ↑" if panel.clipped[token] > 0 else "clipped ↓")
    logs = {"log P_S": "log_p_student", "log P_T⁺": "log_p_correct", "log P_T⁻": "log_p_wrong"}
    facts += [f"{name} {view.evidence[column][token]:.4g}" for name, column in logs.items()]
    return "  ".join(facts)


def _legend(view: Heatmap, colors: tuple[str, ...], y: float) -> tuple[str, float]:
    parts = []
    cell = 14.0
    for place, (low, middle, high, text) in enumerate(view.legends):
        x = MARGIN + place * (BINS * cell + 40)
        parts.append(f'<text x="{x:g}" y="{y + 10:.1f}" font-size="12">{_safe(text)}</text>')
        parts += [
            f'<rect x="{x + n * cell:g}" y="{y + 16:.1f}" width="{cell:g}" height="12" fill="{color}"/>'
            for n, color in enumerate(colors)
        ]
        for share, anchor, label in ((0.0, "start", low), (0.5, "middle", middle), (1.0, "end", high)):
            at = x + share * BINS * cell
            parts.append(
                f'<text x="{at:g}" y="{y + 42:.1f}" font-size="12" text-anchor="{anchor}">{_safe(label)}</text>'
            )
    cues = "dotted underline: clipped weight · hatched: no finite number"
    parts.append(f'<text x="{MARGIN:g}" y="{y + 64:.1f}" font-size="12" fill-opacity=".8">{cues}</text>')
    return "".join(parts), y + 64 + MARGIN


def _safe(text: str) -> str:
    """Text for XML: nothing it forbids, nothing it would read as a tag."""
    return html.escape(FORBIDDEN.sub("\ufffd", text))
