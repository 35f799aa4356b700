"""A made table as CSV, Markdown and a page, in the paper's shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adcore.papers import published
from adcore.papers.published import IDENTITY, records
from adcore.papers.tables import (
    DECIMALS,
    Judgement,
    Made,
    best,
    checked,
    count,
    shape,
    told_apart,
)
from adcore.report import verdicts
from adcore.report.leaderboard import summary, write_atomic
from adcore.report.table import Cell, Mark, Marked, Part, Table
from adcore.results.contenders import summarise

COUNTED = ("unit", "printed", "measured", "std", "seeds", "difference", "verdict", "selection", "note")
CSV = ("profile", *IDENTITY, *COUNTED)
WORDS = {
    "avg_texture": "mean of textures",
    "avg_object": "mean of objects",
    "avg_mtl": "mean",
    "overall": "mean",
    "average": "mean of both",
}
LISTS = {
    "missing": "Missing",
    "selections": "How the printed numbers were picked",
    "notes": "Notes on the printed cells",
}
UNITS = {"%": "percent", "pp": "percentage points"}
BOLD = "Best printed and best measured value in bold."
SMALL = (
    "Not the paper's numbers.",
    "The small profile runs the same methods on other data, other backbones, smaller networks and fewer epochs, so "
    "that they end in minutes on a CPU. It shows that the table can be made, and nothing about what it says; the "
    "printed classes are left out, and no verdict is given.",
)


def write(folder: Path, made: Made, table: published.Table) -> list[Path]:
    """Write STEM.csv, .md and .html (STEM-small for the small profile), each in one atomic step. Raises
    PublishedError where the table's axes do not tell its numbers apart."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{made.stem}-small" if made.small else made.stem
    content = page(made, table)
    texts = {
        "csv": made.rows.assign(profile=made.profile, verdict=made.rows["judgement"].map(verdicts.printed))[
            list(CSV)
        ].to_csv(index=False, lineterminator="\n"),
        "md": _markdown(content),
        "html": _html(content),
    }
    for suffix, text in texts.items():
        write_atomic(folder / f"{name}.{suffix}", text)
    return [folder / f"{name}.{suffix}" for suffix in texts]


def page(made: Made, table: published.Table) -> dict[str, Any]:
    """What Markdown and HTML show: title, small, lead, values, heading, differences (None without a contender of ours),
    footnotes, missing, boards, selections, notes."""
    rows = made.rows.reset_index(drop=True)
    axes = shape(rows, table)
    checked(rows, [*axes[0], *axes[1]])
    rows = rows.assign(metric=[_with_unit(row) for row in records(rows)])
    first = rows.iloc[0]
    title = f"{first['paper']}, {'numbers from its text' if first['table'].startswith('text') else first['table']}"
    metrics = [] if "metric" in (*axes[0], *axes[1]) else list(dict.fromkeys(rows["metric"]))
    footnotes: dict[str, int] = {}
    judged = rows[[bool(judgement.kind) for judgement in rows["judgement"]]]
    values = _values(rows, *axes, metrics, "on other data" if made.small else "here")
    bold = BOLD if any(map(_is_bold, values.rows)) else ""
    return {
        "title": f"{title}: small profile, not the paper's data" if made.small else title,
        "small": SMALL if made.small else (),
        "lead": " ".join(filter(None, [f"Beside the printed values: {count(rows)}.", *_told(rows, metrics), bold])),
        "values": values,
        "heading": "Why the two cannot be compared" if made.small else "Measured less printed",
        "differences": _differences(judged, *axes, footnotes) if len(judged) else None,
        "footnotes": list(footnotes),
        "missing": list(made.missing),
        "boards": _boards(made.boards),
        "selections": _selections(rows),
        "notes": _notes(rows),
    }


def _told(rows: pd.DataFrame, metrics: Sequence[str]) -> tuple[str, str]:
    """Which metrics share a cell, and the units that names do not tell."""
    cell = f"In a cell: {' / '.join(metrics)}." if metrics else ""
    units = " and ".join(name for unit, name in UNITS.items() if unit in set(rows["unit"]))
    rest = "" if set(rows["unit"]) <= set(UNITS) else ", where no other unit is named"
    return cell, f"In {units}{rest}." if units else ""


def _with_unit(row: Mapping[str, Any]) -> str:
    """A metric as the page names it; percent and points of it need not be told."""
    plain = row["unit"] in UNITS or row["metric"].startswith("time_")  # whose names have the unit
    return row["metric"] if plain else f"{row['metric']} ({row['unit']})"


def _values(rows: pd.DataFrame, down: list[str], across: list[str], metrics: Sequence[str], here: str) -> Table:
    """Printed values, and where a column has a contender of ours, measured ones beside them, under the name `here`;
    `metrics` share a cell."""
    apart = told_apart(across)
    bold = {"printed": best(rows, "value", apart), here: best(rows, "measured", apart)}
    texts: dict[str, list[Part]] = {
        "printed": [_bold(text, index in bold["printed"]) for index, text in enumerate(rows["printed"])],
        here: [_bold(_measured(row), index in bold[here]) for index, row in enumerate(records(rows))],
    }
    header = [_named(name) for name in down]
    columns: list[tuple[Any, str]] = []
    for key, group in rows.groupby(across, sort=False):
        ours = bool(group["ours"].any())
        for side in ("printed", here) if ours else ("printed",):
            columns.append((key, side))
            header.append(" ".join(filter(None, [_column(across, key), side if ours else ""])))
    keys, body = [], []
    for key, group in rows.groupby(down, sort=False):
        own = dict(list(group.groupby(across, sort=False)))
        cells = [_joined(own.get(column), texts[side], metrics, side == here) for column, side in columns]
        body.append([*_row(down, key), *cells])
        keys.append(key)
    return Table(header, body, header[: len(down)], means=_means(down, keys))


def _differences(rows: pd.DataFrame, down: list[str], across: list[str], footnotes: dict[str, int]) -> Table:
    places = list(dict(list(rows.groupby(across, sort=False))))
    header = [*(_named(name) for name in down), *(_column(across, place) for place in places)]
    keys, body = [], []
    for key, group in rows.groupby(down, sort=False):
        own = dict(list(group.groupby(across, sort=False)))
        body.append([*_row(down, key), *(_verdicts(own.get(place), footnotes) for place in places)])
        keys.append(key)
    return Table(header, body, header, means=_means(down, keys))


def _joined(rows: pd.DataFrame | None, texts: Sequence[Part], metrics: Sequence[str], measured: bool) -> Cell:
    """The metrics of a cell side by side, a dash for one that is not there; nothing measured for one that we lack."""
    if rows is None or (measured and not rows["ours"].any()):
        return ""
    found = {metric: texts[int(str(index))] for index, metric in rows["metric"].items()}
    shown = [found.get(metric, "") for metric in metrics or found]
    return beside([part or "–" for part in shown]) if any(shown) else ""


def beside(parts: Sequence[Part]) -> Cell:
    """Parts with a slash between them."""
    return parts[0] if len(parts) == 1 else tuple(part for one in parts for part in (" / ", one))[1:]


def _verdicts(rows: pd.DataFrame | None, footnotes: dict[str, int]) -> Cell:
    """The differences of a cell with what may be said of each, once where that is the same of all."""
    if rows is None:
        return ""
    differences = [_signed(row) for row in records(rows)]
    words = [_short(judgement, footnotes) for judgement in rows["judgement"]]
    marks = [_mark(judgement) for judgement in rows["judgement"]]
    if len(set(words)) == 1:
        differences, words, marks = [" / ".join(filter(None, differences))], words[:1], marks[:1]
    texts = [" ".join(filter(None, pair)) for pair in zip(differences, words, strict=True)]
    return beside([Marked(text, mark) if mark else text for text, mark in zip(texts, marks, strict=True)])


def _mark(judgement: Judgement) -> Mark | None:
    known: dict[str, Mark | None] = {"better": "better", "worse": "worse", "within tolerance": None, "": None}
    return known.get(judgement.kind, "open")


def _short(judgement: Judgement, footnotes: dict[str, int]) -> str:
    """The verdict, with its reason as a footnote."""
    verdict = verdicts.printed(judgement)
    if verdict == judgement.kind:
        return verdict
    return f"{judgement.kind} [{footnotes.setdefault(verdict, len(footnotes) + 1)}]"


def _decimals(row: Mapping[str, Any]) -> int:
    return max(DECIMALS, len(str(row["printed"]).partition(".")[2]))


def _measured(row: Mapping[str, Any]) -> str:
    return "–" if math.isnan(row["measured"]) else f"{row['measured']:,.{_decimals(row)}f}"


def _signed(row: Mapping[str, Any]) -> str:
    return "" if math.isnan(row["difference"]) else f"{row['difference']:+z.{_decimals(row)}f}"


def _bold(text: str, yes: bool) -> Part:
    return Marked(text, "best") if yes and text != "–" else text


def _is_bold(row: Sequence[Cell]) -> bool:
    parts = [part for cell in row for part in (cell if isinstance(cell, tuple) else (cell,))]
    return any(isinstance(part, Marked) for part in parts)


def _means(down: Sequence[str], keys: Sequence[Any]) -> list[int]:
    """Places of the rows of averages over categories."""
    values = [dict(zip(down, key if isinstance(key, tuple) else (key,), strict=True)) for key in keys]
    return [place for place, value in enumerate(values) if value.get("category") in WORDS]


def _column(across: Sequence[str], key: Any) -> str:
    values = key if isinstance(key, tuple) else (key,)
    shown = [str(value) for name, value in zip(across, values, strict=True) if (name, value) != ("enhancer", "none")]
    return " · ".join(shown) or "value"


def _row(down: Sequence[str], key: Any) -> list[str]:
    values = key if isinstance(key, tuple) else (key,)
    return [
        WORDS.get(value, value) if name == "category" else str(value) for name, value in zip(down, values, strict=True)
    ]


def _named(field: str) -> str:
    return "class" if field == "category" else field


def _boards(boards: Mapping[str, pd.DataFrame]) -> list[tuple[str, Table]]:
    """Title and summary of every dataset of every suite: also what the paper does not print."""
    return [
        (f"{suite}: {dataset}", summary(contenders))
        for suite, frame in boards.items()
        for dataset, contenders in summarise(frame).items()
    ]


def _selections(rows: pd.DataFrame) -> list[str]:
    """How the printed numbers were picked, and of which systems."""
    told = [name for name in ("method", "enhancer") if name == "method" or rows[name].nunique() > 1]
    found = []
    for word, text in published.SELECTIONS.items():
        group = rows[(rows["selection"] == word) & (rows["printed"] != "")]
        if word and len(group):
            methods = dict.fromkeys(_column(told, tuple(row[name] for name in told)) for row in records(group))
            found.append(f"{', '.join(methods)}: {text}")
    return found


def _notes(rows: pd.DataFrame) -> list[str]:
    """Every note of the CSV with the cells that it is on."""
    found = []
    told = [name for name in ("setting", "method", "enhancer") if name == "method" or rows[name].nunique() > 1]
    for note, group in rows[rows["note"] != ""].groupby("note", sort=False):
        methods = dict.fromkeys(_column(told, tuple(row[name] for name in told)) for row in records(group))
        places = dict.fromkeys(f"{row['category']} {row['metric']}" for row in records(group))
        where = ", ".join(places) if len(places) < 4 else f"{len(group)} cells"
        found.append(f"{', '.join(methods)}, {where}: {note}")
    return found


def _lists(content: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Heading and lines of what stands below the tables."""
    return [(heading, content[name]) for name, heading in LISTS.items()]


def _markdown(content: Mapping[str, Any]) -> str:
    small = "**{}** {}".format(*content["small"]) if content["small"] else ""
    parts = [f"# {content['title']}", small, content["lead"], content["values"].markdown()]
    if content["differences"]:
        parts += [f"## {content['heading']}", content["differences"].markdown()]
    if content["footnotes"]:
        parts.append("\n".join(f"[{number}] {text}  " for number, text in enumerate(content["footnotes"], start=1)))
    if content["boards"]:
        parts.append("## All that the suites measured")
        parts += [f"### {title}\n\n{table.markdown()}" for title, table in content["boards"]]
    for heading, lines in _lists(content):
        if lines:
            parts += [f"## {heading}", "\n".join(f"* {line}" for line in lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _html(content: Mapping[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("adcore.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("table.html.j2").render(**content, lists=_lists(content))
