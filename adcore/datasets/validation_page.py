"""The validation page: one self-contained HTML file; which categories can be used, which files are at fault."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pandas as pd
from PIL import Image

from adcore.core.disk import write_file
from adcore.core.names import located
from adcore.datasets.validation import ALIKE, NOTED, SAME, SHARE, Problem, per_category, twinned
from adcore.vision.images import ImageError, ImageFile

_SHOWN = 200  # files listed for one check of one category
_PAIRS, _SIDE = 8, 96  # pairs of twins shown for it, and their size in pixels
_LEAKS = (SHARE, SAME, ALIKE)  # first among the warnings of a category, and unfolded: they make results too good


@dataclass(frozen=True)
class _Finding:
    """The problems of one category that one check found."""

    category: str
    severity: str
    check: str
    shown: list[Problem]
    hidden: int
    unfolded: bool
    pairs: list[tuple[Problem, str, str]]  # with the two pictures as data URIs


@dataclass(frozen=True)
class _Section:
    """One dataset. A category's row is what `per_category` counts, with its verdict."""

    name: str
    about: str
    rows: list[dict[str, object]]
    findings: list[_Finding]


def write_page(
    problems: Mapping[str, Sequence[Problem]],
    frames: Mapping[str, pd.DataFrame],
    path: Path,
    about: Mapping[str, str] | None = None,
    roots: Mapping[str, Path] | None = None,
) -> None:
    """Write the page for some datasets, by name. Atomic.

    A dataset with problems but without a frame could not be read at all. `about` may say more of each, such as its
    licence; `roots` tells where the images are, so that twins can be shown side by side.
    """
    from jinja2 import Environment, FileSystemLoader

    names = list(dict.fromkeys([*frames, *problems]))
    sections = [
        _section(n, (about or {}).get(n, ""), frames.get(n), problems.get(n, ()), (roots or {}).get(n)) for n in names
    ]
    verdicts = [row["verdict"] for section in sections for row in section.rows]
    template = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    page = template.get_template("validation.html.j2").render(
        sections=sections,
        usable=sum(verdict != "error" for verdict in verdicts),
        stopped=sum(verdict == "error" for verdict in verdicts),
        warned=sum(verdict == "warning" for verdict in verdicts),
    )
    write_file(path, page.encode())


def _section(
    name: str, about: str, frame: pd.DataFrame | None, problems: Sequence[Problem], root: Path | None
) -> _Section:
    counts = per_category(frame) if frame is not None else pd.DataFrame()
    lost = {p.category or name for p in problems if p.category or p.severity == "error"}
    rows: dict[str, dict[str, object]] = {category: {"category": category} for category in lost}
    rows |= {str(row["category"]): {str(key): value for key, value in row.items()} for row in counts.to_dict("records")}
    twins = Counter() if frame is None else twins_in_training(problems, frame)
    for category, row in rows.items():
        found = {p.severity for p in problems if (p.category or name) == category}
        row["verdict"] = min(found, default="ok")  # error before warning
        row["twins"] = twins[category]
    ordered = sorted(problems, key=_group)
    findings = [_finding(list(found), root) for _, found in groupby(ordered, key=_group)]
    return _Section(name, about, [rows[category] for category in sorted(rows)], findings)


def twins_in_training(problems: Iterable[Problem], frame: pd.DataFrame) -> Counter[str]:
    """Category -> how many of its test images have a twin in training, to the bit or to the eye."""
    return Counter(category for category, _ in twinned(problems, frame))


def _group(problem: Problem) -> tuple[str, str, int, str]:
    check = problem.check
    return problem.severity, problem.category, _LEAKS.index(check) if check in _LEAKS else len(_LEAKS), check


def _finding(found: list[Problem], root: Path | None) -> _Finding:
    severity, category, check = found[0].severity, found[0].category, found[0].check
    alike: dict[frozenset[str], Problem] = {}  # each pair once: often either image is told to be the other's twin
    for problem in found:
        if problem.twin:
            alike.setdefault(frozenset((problem.path, problem.twin)), problem)
    shown = list(alike.values())[:_PAIRS]
    pairs = [(p, _thumbnail(located(root, p.path)), _thumbnail(located(root, p.twin))) for p in shown if root]
    unfolded = severity == "error" or check in (*_LEAKS, *NOTED)
    return _Finding(category, severity, check, found[:_SHOWN], max(0, len(found) - _SHOWN), unfolded, pairs)


def _thumbnail(path: Path) -> str:
    """A small picture as a data URI; "" for one that cannot be read."""
    try:
        image = Image.fromarray(ImageFile(path).decode())
    except ImageError:
        return ""
    image.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
