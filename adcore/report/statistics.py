"""results/statistics.csv, statistics.md and the folded section of the report: what can be told apart, and what not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from adcore import identity, keys
from adcore.report import verdicts
from adcore.report.contest import Contest, contests
from adcore.report.leaderboard import Row, frame, grid, write_atomic
from adcore.report.plots import ranks_svg
from adcore.report.summary import COST, TITLES, Line, applying, counted, headline, summarise
from adcore.report.verdicts import p_text, points
from adcore.stats import categories as over
from adcore.stats.images import Sample

SHOWN = ("i_auroc", "p_auroc", "aupro", "spro")  # and the headline metric; the CSV has them all
BY_CATEGORY = ("i_auroc",)  # pairs of single categories in the CSV
FEWEST_CONTENDERS, FEWEST_CATEGORIES = 3, 5  # below, a diagram of ranks says nothing
CAPTION = (
    "Means in percent, differences in points, intervals of 95 %. Over images: the same models on other test images of "
    "these categories. Over seeds: the same images, other trainings. Over categories: Wilcoxon's signed-rank test of "
    "the means over seeds. Every p is corrected by Holm for all pairs of contenders on the metric."
)


DIAGRAM = (
    "Average ranks over categories; a bar joins contenders less than the critical difference (CD, Nemenyi) apart, "
    "which is coarser than the test of the table."
)


class Statistics:
    """Every metric of every dataset; computed when first asked for. samples: reads the cells' samples, by key."""

    def __init__(self, rows: Sequence[Row], samples: Callable[[], Mapping[str, Sample]]) -> None:
        self._rows, self._samples = rows, samples

    @cached_property
    def key(self) -> str:
        """Digest of all that is said, and of the code that says it."""
        dropped = ("mlflow_run_id", *COST)
        shown = [[str(value) for name, value in row.items() if name not in dropped] for row in self._rows]
        return keys.digest({"rows": shown, "code": identity.statistics()})

    @cached_property
    def lines(self) -> dict[str, list[Line]]:
        return summarise(frame(self._rows))

    @cached_property
    def contests(self) -> dict[str, dict[str, Contest]]:
        """Dataset -> metric -> contest."""
        known = self._samples()
        return {name: contests(name, lines, applying(lines), known) for name, lines in self.lines.items()}

    def shown(self, dataset: str) -> list[Contest]:
        """The contests that a reader is shown."""
        metrics = dict.fromkeys((headline(self.lines[dataset]), *SHOWN))
        return [found for metric in metrics if (found := self.contests[dataset].get(metric))]


def write(folder: Path, statistics: Statistics) -> bool:
    """Write statistics.csv (fractions, full precision) and statistics.md; False, and nothing done, if they say this."""
    csv, text = folder / "statistics.csv", folder / "statistics.md"
    mark = f"<!-- {statistics.key} -->"
    if csv.exists() and text.exists() and text.read_text(encoding="utf-8").startswith(mark):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(csv, table(statistics).to_csv(index=False, lineterminator="\n"))
    write_atomic(text, f"{mark}\n{markdown(statistics)}")
    return True


def table(statistics: Statistics) -> pd.DataFrame:
    """One row a contender and one a pair (`other`), over all categories (`category` empty) and by category."""
    found = [contest for by_metric in statistics.contests.values() for contest in by_metric.values()]
    rows = [row for contest in found for row in (*_own_rows(contest), *_pair_rows(contest))]
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(COUNTS, "Int64"))


def markdown(statistics: Statistics) -> str:
    """The same tables as the report's, without figures."""
    parts = ["# Statistics", CAPTION]
    for dataset in statistics.contests:
        found = statistics.shown(dataset)
        parts += [f"## {dataset}", *([] if found else ["No finished cells."])]
        for contest in found:
            shown = _texts(contest)
            parts += [f"### {shown['title']}", grid(shown["header"], shown["rows"]), *shown["notes"]]
            if shown["pairs"]:
                parts += [f"{shown['best']} against the others:", grid(shown["against"], shown["pairs"], ("verdict",))]
    return "\n\n".join(parts) + "\n"


def section(statistics: Statistics | None, dataset: str) -> list[dict[str, Any]]:
    """A dataset's tables and diagrams as texts for the report, one a metric."""
    found = statistics.shown(dataset) if statistics else []
    return [_texts(contest) | {"figure": diagram(contest)} for contest in found]


def diagram(contest: Contest) -> str:
    """Critical-difference diagram as SVG; '' where there is too little for one."""
    if not _ranked(contest):
        return ""
    count = len(contest.contenders), len(contest.categories)
    return ranks_svg(dict(zip(contest.names, contest.ranks.tolist(), strict=True)), over.critical_difference(*count))


def _texts(contest: Contest) -> dict[str, Any]:
    many = len(contest.categories) > 1 and len(contest.contenders) > 1
    rows = _own_texts(contest, many) if contest.contenders else []
    against = ["", "difference", "over images", "p over images", "over seeds", "ahead on"]
    return {
        "title": TITLES.get(contest.metric, contest.metric),
        "header": ["contender", "mean", "sd over seeds", "over images", "over seeds", *["average rank"] * many],
        "rows": rows,
        "notes": list(_notes(contest)),
        "best": contest.names[0] if rows else "",
        "against": [*against, "p over categories", "verdict"],
        "pairs": [_pair_texts(contest, j) for j in range(1, len(rows))],
    }


def _own_texts(contest: Contest, many: bool) -> list[list[str]]:
    (low, high), _ = contest.over_images
    seeds_low, seeds_high = contest.over_seeds
    return [
        [
            one.name,
            f"{100 * one.mean:.2f}",
            "–" if math.isnan(one.sd) else f"{100 * one.sd:.2f}",
            points(low[i], high[i]),
            points(seeds_low[i], seeds_high[i]),
            *([f"{contest.ranks[i]:.2f}"] if many else []),
        ]
        for i, one in enumerate(contest.contenders)
    ]


def _pair_texts(contest: Contest, j: int) -> list[str]:
    """The best contender against another."""
    pairs, p = contest.pairs, (contest.pairs.corrected_images[0, j], contest.pairs.corrected[0, j])
    over_images, over_categories = ("–" if math.isnan(value) else p_text(value).removeprefix("p = ") for value in p)
    return [
        contest.names[j],
        f"{100 * pairs.difference[0, j]:+z.2f}",
        points(pairs.low[0, j], pairs.high[0, j]),
        over_images,
        points(pairs.seeds_low[0, j], pairs.seeds_high[0, j]),
        f"{pairs.ahead[0, j]} of {len(contest.categories)}",
        over_categories if verdicts.testable(contest, 0, j) else "–",
        verdicts.short(contest, 0, j),
    ]


def _notes(contest: Contest) -> Iterator[str]:
    contenders, count, pairs = len(contest.contenders), len(contest.categories), contest.comparisons
    if contest.left_out:
        yield f"Left out, for failed or missing cells: {', '.join(contest.left_out)}."
    if contenders < 2:
        yield "Nothing to compare: fewer than two complete contenders."
        return
    told = verdicts.verdict(contest, 0, 1)
    yield f"On{told[2:]}." if told.startswith("on the ") else f"{told}."
    if over.smallest_p(count) * pairs >= verdicts.ALPHA:
        compared = f" with {pairs} pairs compared" if pairs > 1 else ""
        takes = verdicts.takes(contest)
        yield f"{counted(count, 'category', 'categories')}{compared} cannot reach significance: it takes {takes}."
    if _ranked(contest):
        yield verdicts.friedman(contest, over.friedman(contest.values)[1])
    else:
        least = f"{FEWEST_CONTENDERS} contenders and {FEWEST_CATEGORIES} categories"
        yield f"No critical-difference diagram: it takes {least}."


def _ranked(contest: Contest) -> bool:
    """Whether there is enough for average ranks to say something."""
    return len(contest.contenders) >= FEWEST_CONTENDERS and len(contest.categories) >= FEWEST_CATEGORIES


COLUMNS = [
    *("dataset", "metric", "category", "contender", "other", "categories", "seeds", "value", "sd"),
    *("images_low", "images_high", "seeds_low", "seeds_high", "average_rank", "ahead", "behind"),
    *("p_images", "p_images_corrected", "p_categories", "p_categories_corrected", "verdict"),
]


COUNTS = ("categories", "seeds", "ahead", "behind")


def _own_rows(contest: Contest) -> Iterator[dict[str, Any]]:
    if not contest.contenders:
        return
    (low, high), by_category = contest.over_images
    seeds_low, seeds_high = contest.over_seeds
    for k, one in enumerate(contest.contenders):
        shared = {"dataset": contest.dataset, "metric": contest.metric, "contender": one.name, "seeds": len(one.seeds)}
        yield shared | {
            "categories": len(contest.categories),
            "value": one.mean,
            "sd": one.sd,
            "images_low": low[k],
            "images_high": high[k],
            "seeds_low": seeds_low[k],
            "seeds_high": seeds_high[k],
            "average_rank": contest.ranks[k],
        }
        for c, (name, bounds) in enumerate(zip(contest.categories, by_category, strict=True)):
            found = {"category": name, "categories": 1, "value": contest.values[k, c], "sd": one.sds[c]}
            yield shared | found | {"images_low": bounds[0][k], "images_high": bounds[1][k]}


def _pair_rows(contest: Contest) -> Iterator[dict[str, Any]]:
    pairs, count = contest.pairs, len(contest.contenders)
    indices = [(i, j) for i in range(count) for j in range(i + 1, count)]
    for i, j in indices:
        yield _names(contest, i, j) | {
            "categories": len(contest.categories),
            "value": pairs.difference[i, j],
            "images_low": pairs.low[i, j],
            "images_high": pairs.high[i, j],
            "seeds_low": pairs.seeds_low[i, j],
            "seeds_high": pairs.seeds_high[i, j],
            "ahead": pairs.ahead[i, j],
            "behind": pairs.ahead[j, i],
            "p_images": pairs.p_images[i, j],
            "p_images_corrected": pairs.corrected_images[i, j],
            "p_categories": pairs.p[i, j],
            "p_categories_corrected": pairs.corrected[i, j],
            "verdict": verdicts.verdict(contest, i, j),
        }
    for c, name in enumerate(contest.categories if contest.metric in BY_CATEGORY and indices else ()):
        found = contest.of_category(c)
        columns = ("value", "images_low", "images_high", "p_images", "p_images_corrected")
        for i, j in indices:
            numbers = {column: matrix[i, j] for column, matrix in zip(columns, found, strict=True)}
            yield _names(contest, i, j) | {"category": name, "categories": 1} | numbers


def _names(contest: Contest, i: int, j: int) -> dict[str, Any]:
    names = {"dataset": contest.dataset, "metric": contest.metric}
    return names | {"contender": contest.names[i], "other": contest.names[j]}
