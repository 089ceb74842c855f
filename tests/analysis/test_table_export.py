"""Exports: what is in a cell stays in it, in every format."""

import csv
import io
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.tables import export

HOSTILE = [
    "<script>alert(1)</script>",
    "</td></table><img src=x onerror=alert(1)>",
    r"\input{/etc/passwd} $x$ 100% a_b #1 & ~ ^ {",
    "[0pt] a | b",
    "*bold* _it_ `code` [a](javascript:x) ![b](https://b.example/c.png)",
    "two\nlines\r\nand \x1b[31m a\u202ebc\x00",
    "=HYPERLINK(\"http://b.example\")",
    "+1+1", "-2+3", "@SUM(A1)", "\t=1", " =1", "＝1",
]  # fmt: skip


def table(*cells: str) -> pd.DataFrame:
    return pd.DataFrame({"method": list(cells), "score": [f"{i}.5 ± 0.7 †" for i in range(len(cells))]})


def bold(shown: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"method": [False] * len(shown), "score": [i == 0 for i in range(len(shown))]})


class Reader(HTMLParser):
    """Collects the tags and the texts of cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("th", "td", "caption"):
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data


@pytest.mark.parametrize("cell", HOSTILE)
def test_html_holds_the_tags_of_a_table_and_no_others(cell):
    reader = Reader()
    shown = table(cell)
    reader.feed(export.to_html(shown, cell, bold(shown)))
    assert set(reader.tags) <= {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "strong"}
    assert len(reader.texts) == 1 + 2 * 2
    assert "\u202e" not in "".join(reader.texts)


def test_html_names_rows_and_columns_for_a_screen_reader():
    text = export.to_html(table("CEPO"), "Accuracy", bold(table("CEPO")))
    assert text.count('scope="col"') == 2
    assert text.count('scope="row"') == 1
    assert "<caption" in text
    assert "<strong>0.5 ± 0.7 †</strong>" in text


def test_latex_is_a_booktabs_table():
    text = export.to_latex(table("CEPO", "GRPO"), "Accuracy ± SE, 100 %", bold(table("CEPO", "GRPO")))
    for command in (r"\begin{table}", r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}", r"\end{table}"):
        assert text.count(command) == 1
    assert r"CEPO & \textbf{0.5 $\pm$ 0.7 $^{\dagger}$} \\" in text
    assert r"\caption{Accuracy $\pm$ SE, 100 \%}" in text


@given(st.text(max_size=40) | st.sampled_from(HOSTILE))
def test_latex_keeps_every_row_on_its_line_with_its_number_of_cells(cell):
    line = export.to_latex(table(cell), "c").splitlines()[7]
    assert line.endswith(r" \\")
    body = line.removesuffix(r" \\")
    assert len(re.findall(r"(?<!\\)&", body)) == 1
    assert not re.search(r"(?<!\\)[%#]", body)
    assert not re.match(r"\s*\[", body), "a bracket behind the last row's end would be its argument"
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", body):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0


@pytest.mark.parametrize("cell", HOSTILE)
def test_latex_runs_no_command_of_a_cell(cell):
    body = export.latex(cell)
    allowed = {
        "textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar", "textquotedbl",
    }  # fmt: skip
    assert set(re.findall(r"\\([a-zA-Z]+)", body)) <= allowed


@given(st.text(max_size=40) | st.sampled_from(HOSTILE))
def test_markdown_keeps_every_row_on_its_line_with_its_number_of_cells(cell):
    line = export.to_markdown(table(cell)).split("\n")[2]
    assert len(re.findall(r"(?<!\\)\|", line)) == 3
    assert not re.search(r"<|(?<!\\)!\[|(?<!\\)`", line)


def test_markdown_is_a_table_with_its_caption_below():
    text = export.to_markdown(table("CEPO"), "Accuracy", bold(table("CEPO")))
    assert text == "| method | score |\n|---|---:|\n| CEPO | **0.5 ± 0.7 †** |\n\nAccuracy\n"


@pytest.mark.parametrize("cell", HOSTILE)
def test_csv_gives_back_the_text_and_no_spreadsheet_runs_it(cell):
    (_, row) = csv.reader(io.StringIO(export.to_csv(pd.DataFrame({"label": [cell]})), newline=""))
    assert row[0].removeprefix("'") == cell
    assert not export.FORMULA.match(row[0])


def test_csv_keeps_all_digits_and_leaves_out_what_is_not_known():
    frame = pd.DataFrame({"=a": ["x", "y"], "score": [-1 / 3, float("nan")], "n": [5010, 2]})
    assert export.to_csv(frame) == f"'=a,score,n\nx,{-1 / 3!r},5010\ny,,2\n"
