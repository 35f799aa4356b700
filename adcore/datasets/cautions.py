"""Warnings of a data set in few words: for the console, and as a note beside its results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from adcore.datasets.validation import Problem

_CATEGORIES = 3  # that a check is told of one by one


def cautions(problems: Iterable[Problem]) -> list[str]:
    """A sentence for each check and category that warns: what is the matter, in how many files, and the first one."""
    warnings = sorted(
        (problem for problem in problems if problem.severity == "warning"),
        key=lambda problem: (problem.check, problem.category, problem.path),
    )
    return [line for _, same in groupby(warnings, key=lambda problem: problem.check) for line in _of_check(list(same))]


def _of_check(problems: list[Problem]) -> Iterator[str]:
    groups = [list(same) for _, same in groupby(problems, key=lambda problem: problem.category)]
    for same in groups[:_CATEGORIES]:
        yield f"{same[0].category or '*'}: {same[0].message}{_files(same)}"
    rest = [same[0].category or "*" for same in groups[_CATEGORIES:]]
    if rest:
        yield f"{', '.join(rest)}: likewise ({problems[0].check}; see results/validation.html)"


def _files(problems: list[Problem]) -> str:
    paths = list(dict.fromkeys(problem.path for problem in problems if problem.path))
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f" ({paths[0]}{more})" if paths else ""
