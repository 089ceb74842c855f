"""A table as HTML, LaTeX, Markdown or CSV. Its cells may hold anything a model or a stranger wrote: all is escaped.

The first column names the rows. `bold`, of the table's shape, says which cells stand out.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterator
from html import escape

import pandas as pd

from analysis.pieces import display_pieces

FORMULA = re.compile(r"\s*[=+\-@\t\r＝＋－＠]")
"""What a spreadsheet takes for a formula."""

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "[": "{[}", "]": "{]}",  # a bracket behind \\\\ would be its argument
    "±": r"$\pm$", "−": r"$-$", "†": r"$^{\dagger}$", "–": "--",
    "✓": r"\checkmark{}", "✗": r"$\times$", "≠": r"$\neq$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "≥": r"$\geq$",
    "⁺": r"$^{+}$", "⁻": r"$^{-}$", "₀": r"$_{0}$", "“": "``", "”": "''", "𝒢": r"$\mathcal{G}$", "Â": r"$\hat{A}$",
    "▲": r"$^{\triangle}$", "Δ": r"$\Delta$", "λ": r"$\lambda$", "ε": r"$\varepsilon$",
}  # fmt: skip
MARKDOWN = {char: f"\\{char}" for char in "\\`*_[]~$#!|"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def to_html(table: pd.DataFrame, caption: str, bold: pd.DataFrame | None = None) -> str:
    """A table that a screen reader can walk and no text in it can break out of."""
    cell = "padding:.3rem .6rem;border-bottom:1px solid var(--st-border-color,#8884)"
    right = f"{cell};text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums"
    left = f"{cell};text-align:left;font-weight:400;min-width:7rem;max-width:22rem;overflow-wrap:anywhere"
    head = "".join(
        f'<th scope="col" style="{cell};text-align:{"right" if i else "left"}">{_html(name)}</th>'
        for i, name in enumerate(table.columns)
    )
    rows = []
    for (first, *rest), (_, *strong) in _cells(table, bold, _html):
        cells = (
            f'<td style="{right}">{f"<strong>{text}</strong>" if is_bold else text}</td>'
            for text, is_bold in zip(rest, strong, strict=True)
        )
        rows.append(f'<tr><th scope="row" style="{left}">{first}</th>{"".join(cells)}</tr>')
    return (
        f'<div style="overflow-x:auto" tabindex="0" role="region" aria-label="{_html(caption)}">'
        '<table style="border-collapse:collapse;width:100%;font-size:.95rem">'
        f'<caption style="text-align:left;opacity:.8;padding-bottom:.4rem">{_html(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def to_latex(table: pd.DataFrame, caption: str, bold: pd.DataFrame | None = None) -> str:
    """A booktabs table; needs \\usepackage{booktabs,amssymb}."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        r"\toprule",
        " & ".join(map(latex, table.columns)) + r" \\",
        r"\midrule",
    ]
    for cells, strong in _cells(table, bold, latex):
        marked = (rf"\textbf{{{text}}}" if is_bold else text for text, is_bold in zip(cells, strong, strict=True))
        lines.append(" & ".join(marked) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def to_markdown(table: pd.DataFrame, caption: str = "", bold: pd.DataFrame | None = None) -> str:
    """A GitHub table, with the caption as a paragraph below."""
    lines = [
        "| " + " | ".join(map(markdown, table.columns)) + " |",
        "|---" + "|---:" * (len(table.columns) - 1) + "|",
    ]
    for cells, strong in _cells(table, bold, markdown):
        marked = (f"**{text}**" if is_bold else text for text, is_bold in zip(cells, strong, strict=True))
        lines.append("| " + " | ".join(marked) + " |")
    return "\n".join([*lines, *(["", markdown(caption)] if caption else []), ""])


def to_csv(table: pd.DataFrame) -> str:
    """All digits; empty where nothing is known; texts that a spreadsheet would run as a formula get a quote before."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([harmless(str(name)) for name in table.columns])
    for row in table.itertuples(index=False, name=None):
        writer.writerow(["" if _is_missing(v) else harmless(v) if isinstance(v, str) else v for v in row])
    return buffer.getvalue()


def harmless(text: str) -> str:
    """A text that no spreadsheet runs."""
    return f"'{text}" if FORMULA.match(text) else text


def latex(text: str) -> str:
    """A text that LaTeX sets as it stands, on one line."""
    return "".join(LATEX.get(char, char) for char in _one_line(text))


def markdown(text: str) -> str:
    """A text that Markdown shows as it stands, on one line."""
    return "".join(MARKDOWN.get(char, char) for char in _one_line(text))


def _html(value: object) -> str:
    return escape(display_pieces([str(value)], [None])[0].text)


def _one_line(text: str) -> str:
    """Control characters and marks that turn the text around are dropped, line breaks are blanks."""
    kept = (char for char in " ".join(str(text).split()) if unicodedata.category(char) not in ("Cc", "Cf", "Cs"))
    return "".join(kept)


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NaT or value != value


def _cells(
    table: pd.DataFrame, bold: pd.DataFrame | None, written: Callable[[str], str]
) -> Iterator[tuple[list[str], list[bool]]]:
    """Row by row: the escaped texts, and which of them are bold."""
    for i, row in enumerate(table.itertuples(index=False, name=None)):
        strong = [False] * len(row) if bold is None else [bool(flag) for flag in bold.iloc[i]]
        yield ["–" if _is_missing(value) else written(str(value)) for value in row], strong
