"""A table shows what its cells say, whatever that is, in Markdown, on a page and on the console.

The forms are read back by others: markdown-it, html.parser and rich's own plain text."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from adcore.report import leaderboard
from adcore.report.html import write_report
from adcore.report.table import Marked, Table
from adcore.results.contests import Contests
from adcore.results.frame import frame
from adcore.results.run import Results

NAMES = [
    "*",
    "mean",
    "worse",
    "better [x]",
    "a|b",
    "<b>",
    "**",
    "**x**",
    "*x*",
    "_x_",
    "~~x~~",
    "`x`",
    "[a](b)",
    "a\\",
    "a\\|b",
    "&amp;",
    "[red]x[/red]",
]


class Cells(HTMLParser):
    """The cells of all tables of a page, with the class of each, and what is bold in them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: list[tuple[str, str]] = []
        self.rows: list[tuple[str, list[str]]] = []
        self.bold: list[str] = []
        self.inside, self.is_bold = False, False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append((dict(attrs).get("class") or "", []))
        if tag in ("td", "th"):
            self.cells.append(("", dict(attrs).get("class") or ""))
            self.rows[-1][1].append("")
            self.inside = True
        self.is_bold = self.is_bold or tag in ("b", "strong")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")
        self.is_bold = self.is_bold and tag not in ("b", "strong")

    def handle_data(self, data: str) -> None:
        if self.inside:
            text, mark = self.cells[-1]
            self.cells[-1] = text + data, mark
            self.rows[-1][1][-1] += data
            self.bold += [data] if self.is_bold else []


def rendered(markdown: str) -> Cells:
    return Cells(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))


def printed(table: Table) -> str:
    out = Console(file=io.StringIO(), width=400, color_system=None)
    out.print(table.console("title"))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def table(name: str) -> Table:
    """The name in the header, in a cell and beside a mark, and marked."""
    rows: list[list[Any]] = [
        [name, "1.0", Marked(name, "best")],
        [f"x {name}", "2.0", (name, " / ", Marked(name, "best"))],
    ]
    return Table(["category", name, "best"], rows, caption=name)


def test_markdown_says_it_and_only_what_is_marked_is_bold(table: Table, name: str) -> None:
    page = rendered(table.markdown())
    expected = [["category", name, "best"], [name, "1.0", name], [f"x {name}", "2.0", f"{name} / {name}"]]
    assert [cells for _, cells in page.rows] == expected
    assert "".join(page.bold) == 2 * name


def test_a_page_says_it_and_only_what_is_marked_has_a_class(table: Table, name: str) -> None:
    page = Cells(str(table.html()))
    assert [cells for _, cells in page.rows] == [table.header, *table.texts]
    assert [mark for _, mark in page.cells if mark] == ["best"]
    assert "".join(page.bold) == name
    assert [row for row, _ in page.rows] == ["", "", ""]


def test_the_console_says_it(table: Table, name: str) -> None:
    lines = [" ".join(line.split()) for line in printed(table).splitlines()]
    assert " ".join(f"{name} 1.0 *{name}".split()) in lines
    assert " ".join(f"x {name} 2.0 {name} / *{name}".split()) in lines


def test_means_and_words_are_said_by_the_table_alone() -> None:
    table = Table(["a", "b", "c"], [["mean", "x", "1"], ["x", Marked("y", "worse"), "2"]], ("b",), means=[1])
    page = Cells(str(table.html()))
    assert [row for row, _ in page.rows] == ["", "", "mean"]
    assert page.cells[4] == ("x", "words")
    assert page.cells[7] == ("y", "words worse")
    assert table.markdown().splitlines()[1] == "| --- | --- | ---: |"


@pytest.mark.parametrize("odd", ["*", "mean", "worse", "a|b", "<b>"])
def test_a_category_of_any_name_is_shown_as_it_is_called(tmp_path: Path, row: Any, odd: str) -> None:
    """Two contenders on two categories, beside the mean, whatever the odd one is called."""
    rows = [row(method_label=m, category=c, i_auroc=x) for m, x in (("cfa", 0.8), ("padim", 0.9)) for c in (odd, "b")]
    contests = Contests(frame(rows))
    write_report(tmp_path / "report.html", Results(contests))
    page = Cells((tmp_path / "report.html").read_text())
    (found,) = (index for index, shown in enumerate(page.rows) if shown == ("", [odd, "90.0", "80.0"]))
    marks = [mark for _, mark in page.cells]
    start = sum(len(cells) for _, cells in page.rows[:found])
    assert marks[start : start + 3] == ["", "best", ""]


@pytest.mark.parametrize("odd", NAMES)
def test_a_contender_of_any_name_is_shown_in_the_leaderboard(row: Any, odd: str) -> None:
    rows = [row(method_label=m, i_auroc=x) for m, x in ((odd, 0.8), ("padim", 0.9))]
    page = rendered(leaderboard.markdown(Results(Contests(frame(rows)))))
    assert [odd, "80.0"] in [cells[:2] for _, cells in page.rows]
