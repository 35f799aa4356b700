"""A table as texts with marks, in three forms: Markdown, a page and the console. What a text says marks nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from markupsafe import Markup, escape

if TYPE_CHECKING:
    import rich.table
    from rich.text import Text

Mark = Literal["best", "better", "worse", "open", "warning"]
# What Markdown would read as more than text: also the beginnings of a tag and of an entity, emphasis by `_` and links.
SPECIAL = re.compile(r"[\\`*|~]|<(?=[A-Za-z/!?])|&(?=#?\w+;)|(?<!\w)_|_(?!\w)|(?<=\])(?=\()")


@dataclass(frozen=True)
class Marked:
    """A text that stands out, and why. best: of its column or row; better, worse: than what it is held against; open:
    nothing can be said; warning: of what may be wrong with it."""

    text: str
    mark: Mark


Part = str | Marked
Cell = Part | tuple[Part, ...]  # parts stand one behind the other


@dataclass(frozen=True)
class Table:
    """A header and rows of as many cells each.

    words: columns that hold words and stand left, as the first does; all others hold numbers and stand right.
    caption: stands below. means: places of rows that are means of others.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: Collection[str] = ()
    caption: str = ""
    means: Collection[int] = ()

    @property
    def texts(self) -> list[list[str]]:
        """The rows without their marks."""
        return [["".join(_text(part) for part in _parts(cell)) for cell in row] for row in self.rows]

    def markdown(self) -> str:
        """What is best is bold; other marks are left to the words."""
        rule = ["---" if self._is_left(place) else "---:" for place in range(len(self.header))]
        rows = [list(map(_escaped, self.header)), rule, *([_markdown(cell) for cell in row] for row in self.rows)]
        grid = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        return f"{grid}\n\n{_escaped(self.caption)}" if self.caption else grid

    def html(self) -> Markup:
        """A table that scrolls by itself; marks are classes of its cells, or elements in them."""
        head = Markup("").join(self._html("th", place, name) for place, name in enumerate(self.header))
        rows = Markup("\n").join(self._html_row(place, row) for place, row in enumerate(self.rows))
        caption = Markup('\n<p class="soft">{}</p>').format(self.caption) if self.caption else ""
        return Markup(
            '<div class="scroll"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n</table></div>{}'
        ).format(head, rows, caption)

    def console(self, title: str) -> rich.table.Table:
        """What is best is marked by a star in front."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as Grid
        from rich.text import Text

        grid = Grid(box=SIMPLE_HEAD, pad_edge=False, title=Text(title), title_justify="left")
        grid.caption, grid.caption_justify = Text(self.caption), "left"
        for place, name in enumerate(self.header):
            first, left = place == 0, self._is_left(place)
            heading = Text(name if left else name.replace(" ", "\n", 1))
            grid.add_column(
                heading,
                justify="left" if left else "right",
                min_width=14 if first else None,
                overflow="fold" if first else "ellipsis",
                no_wrap=not left,
            )
        for row in self.rows:
            grid.add_row(*map(_console, row))
        return grid

    def _is_left(self, place: int) -> bool:
        return place == 0 or self.header[place] in self.words

    def _html_row(self, place: int, row: Sequence[Cell]) -> Markup:
        cells = Markup("").join(self._html("td", column, cell) for column, cell in enumerate(row))
        return Markup('<tr class="mean">{}</tr>' if place in self.means else "<tr>{}</tr>").format(cells)

    def _html(self, tag: str, place: int, cell: Cell) -> Markup:
        words = ["words"] if self.header[place] in self.words else []
        classes = " ".join([*words, *([cell.mark] if isinstance(cell, Marked) else [])])
        inside = _text(cell) if isinstance(cell, Marked) else Markup("").join(map(_html_part, _parts(cell)))
        attribute = Markup(' class="{}"').format(classes) if classes else ""
        return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), attribute, inside)


def _parts(cell: Cell) -> Iterator[Part]:
    yield from cell if isinstance(cell, tuple) else (cell,)


def _text(part: Part) -> str:
    return part.text if isinstance(part, Marked) else part


def _is_best(part: Part) -> bool:
    return isinstance(part, Marked) and part.mark == "best"


def _escaped(text: str) -> str:
    return SPECIAL.sub(lambda found: f"\\{found.group()}", text)


def _markdown(cell: Cell) -> str:
    return "".join(f"**{_escaped(_text(p))}**" if _is_best(p) else _escaped(_text(p)) for p in _parts(cell))


def _html_part(part: Part) -> Markup:
    if not isinstance(part, Marked):
        return escape(part)
    if part.mark == "best":
        return Markup("<b>{}</b>").format(part.text)
    return Markup('<span class="{}">{}</span>').format(part.mark, part.text)


def _console(cell: Cell) -> Text:
    from rich.text import Text

    return Text("".join(f"*{_text(part)}" if _is_best(part) else _text(part) for part in _parts(cell)))
