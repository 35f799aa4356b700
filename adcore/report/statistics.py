"""results/statistics.csv, statistics.md and the folded section of the report: what can be told apart, and what not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from adcore.core.keys import code, digest
from adcore.core.words import counted
from adcore.engine import registry
from adcore.engine.identity import CARRIERS
from adcore.report import verdicts
from adcore.report.leaderboard import write_atomic
from adcore.report.plots import ranks_svg
from adcore.report.table import Table
from adcore.report.verdicts import p_text
from adcore.results import categories as over
from adcore.results.contest import ALPHA, Contest, Pair
from adcore.results.contests import Contests

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


def key(contests: Contests) -> str:
    """Digest of all that is said, and of the code that says it."""
    rows = contests.table.drop(columns=["mlflow_run_id", *registry.of_kind("cost")])
    return digest({"rows": rows.to_csv(index=False), "code": identity()})


def identity() -> str:
    """Of the code of the comparisons on all images."""
    return code("adcore.report.statistics:write", "adcore.report.statistics:section", outside=CARRIERS)


def shown(contests: Contests, dataset: str) -> list[Contest]:
    """The contests that a reader is shown."""
    metrics = dict.fromkeys((contests.head(dataset).metric, *registry.shown_in("statistics")))
    made = contests.by_metric[dataset]
    return [made[metric] for metric in metrics if metric in made]


def write(folder: Path, contests: Contests) -> bool:
    """Write statistics.csv (fractions, full precision) and statistics.md; False, and nothing done, if they say this."""
    csv, text = folder / "statistics.csv", folder / "statistics.md"
    mark = f"<!-- {key(contests)} -->"
    if csv.exists() and text.exists() and text.read_text(encoding="utf-8").startswith(mark):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(csv, table(contests).to_csv(index=False, lineterminator="\n"))
    write_atomic(text, f"{mark}\n{markdown(contests)}")
    return True


def table(contests: Contests) -> pd.DataFrame:
    """One row a contender and one a pair (`other`), over all categories (`category` empty) and by category."""
    found = [contest for by_metric in contests.by_metric.values() for contest in by_metric.values()]
    rows = [row for contest in found for row in (*_own_rows(contest), *_pair_rows(contest))]
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(COUNTS, "Int64"))


def markdown(contests: Contests) -> str:
    """The same tables as the report's, without figures."""
    parts = ["# Statistics", CAPTION]
    for dataset in contests.by_metric:
        own = shown(contests, dataset)
        parts += [f"## {dataset}", *([] if own else ["No finished cells."])]
        for contest in own:
            texts = _texts(contest)
            parts += [f"### {texts['title']}", texts["table"].markdown(), *texts["notes"]]
            if texts["pairs"].rows:
                parts += [f"{contest.names[0]} against the others:", texts["pairs"].markdown()]
    return "\n\n".join(parts) + "\n"


def section(contests: Contests, dataset: str) -> list[dict[str, Any]]:
    """A dataset's tables and diagrams as texts for the report, one a metric."""
    return [_texts(contest) | {"figure": diagram(contest)} for contest in shown(contests, dataset)]


def diagram(contest: Contest) -> str:
    """Critical-difference diagram as SVG; '' where there is too little for one."""
    if not _ranked(contest):
        return ""
    count = len(contest.entries), len(contest.categories)
    return ranks_svg(dict(zip(contest.names, contest.ranks.tolist(), strict=True)), over.critical_difference(*count))


def _texts(contest: Contest) -> dict[str, Any]:
    many = len(contest.categories) > 1 and len(contest.entries) > 1
    rows = _own_texts(contest, many) if contest.entries else []
    against = [
        f"{contest.names[0]} against" if rows else "",
        "difference",
        "over images",
        "p over images",
        "over seeds",
        "ahead on",
    ]
    against += ["p over categories", "verdict"]
    header = ["contender", "mean", "sd over seeds", "over images", "over seeds", *["average rank"] * many]
    return {
        "title": registry.column(contest.metric).title,
        "table": Table(header, rows),
        "notes": list(_notes(contest)),
        "pairs": Table(against, [_pair_texts(contest.pair(0, j)) for j in range(1, len(rows))], ("verdict",)),
    }


def _own_texts(contest: Contest, many: bool) -> list[list[str]]:
    images, seeds, column = contest.own_over_images, contest.own_over_seeds, registry.column(contest.metric)
    return [
        [
            one.name,
            column.fine(one.mean),
            column.fine(one.sd),
            column.interval(images.low[i], images.high[i]),
            column.interval(seeds.low[i], seeds.high[i]),
            *([f"{contest.ranks[i]:.2f}"] if many else []),
        ]
        for i, one in enumerate(contest.entries)
    ]


def _pair_texts(pair: Pair) -> list[str]:
    """The best contender against another."""
    p, column = (pair.p_images_corrected, pair.p_corrected), registry.column(pair.contest.metric)
    over_images, over_categories = ("–" if math.isnan(value) else p_text(value).removeprefix("p = ") for value in p)
    return [
        pair.other.name,
        column.fine(pair.difference, "+"),
        column.interval(*pair.on_images),
        over_images,
        column.interval(*pair.on_seeds),
        f"{pair.ahead} of {len(pair.contest.categories)}",
        over_categories if pair.testable else "–",
        verdicts.behind(pair),
    ]


def _notes(contest: Contest) -> Iterator[str]:
    contenders, count, pairs = len(contest.entries), len(contest.categories), contest.comparisons
    if contest.left_out:
        yield f"Left out, for failed or missing cells: {', '.join(contest.left_out)}."
    if contenders < 2:
        yield "Nothing to compare: fewer than two complete contenders."
        return
    first = verdicts.verdict(contest.pair(0, 1))
    yield f"{first[0].upper()}{first[1:]}." if first.startswith("on the ") else f"{first}."
    if over.smallest_p(count) * pairs >= ALPHA:
        compared = f" with {pairs} pairs compared" if pairs > 1 else ""
        categories = counted(count, "category", "categories")
        yield f"{categories}{compared} cannot reach significance: it takes {contest.needed}."
    if _ranked(contest):
        yield verdicts.friedman(contest, over.friedman(contest.values)[1])
    else:
        least = f"{FEWEST_CONTENDERS} contenders and {FEWEST_CATEGORIES} categories"
        yield f"No critical-difference diagram: it takes {least}."


def _ranked(contest: Contest) -> bool:
    """Whether there is enough for average ranks to say something."""
    return len(contest.entries) >= FEWEST_CONTENDERS and len(contest.categories) >= FEWEST_CATEGORIES


COLUMNS = [
    *("dataset", "metric", "category", "contender", "other", "categories", "seeds", "value", "sd"),
    *("images_low", "images_high", "seeds_low", "seeds_high", "average_rank", "ahead", "behind"),
    *("p_images", "p_images_corrected", "p_categories", "p_categories_corrected", "verdict"),
]


COUNTS = ("categories", "seeds", "ahead", "behind")


def _own_rows(contest: Contest) -> Iterator[dict[str, Any]]:
    if not contest.entries:
        return
    images, seeds = contest.own_over_images, contest.own_over_seeds
    for k, one in enumerate(contest.entries):
        shared = {"dataset": contest.dataset, "metric": contest.metric, "contender": one.name, "seeds": len(one.seeds)}
        yield shared | {
            "categories": len(contest.categories),
            "value": one.mean,
            "sd": one.sd,
            "images_low": images.low[k],
            "images_high": images.high[k],
            "seeds_low": seeds.low[k],
            "seeds_high": seeds.high[k],
            "average_rank": contest.ranks[k],
        }
        for c, name in enumerate(contest.categories):
            own = contest.own_of_category(c)
            numbers = {"category": name, "categories": 1, "value": contest.values[k, c], "sd": one.sds[c]}
            yield shared | numbers | {"images_low": own.low[k], "images_high": own.high[k]}


def _pair_rows(contest: Contest) -> Iterator[dict[str, Any]]:
    count = len(contest.entries)
    pairs = [contest.pair(i, j) for i in range(count) for j in range(i + 1, count)]
    for pair in pairs:
        (images_low, images_high), (seeds_low, seeds_high) = pair.on_images, pair.on_seeds
        yield _names(pair) | {
            "categories": len(contest.categories),
            "value": pair.difference,
            "images_low": images_low,
            "images_high": images_high,
            "seeds_low": seeds_low,
            "seeds_high": seeds_high,
            "ahead": pair.ahead,
            "behind": pair.behind,
            "p_images": pair.p_images,
            "p_images_corrected": pair.p_images_corrected,
            "p_categories": pair.p,
            "p_categories_corrected": pair.p_corrected,
            "verdict": verdicts.verdict(pair),
        }
    for c, name in enumerate(contest.categories if contest.metric in BY_CATEGORY and pairs else ()):
        differences, images = contest.differences_of(c), contest.over_images_of(c)
        for pair in pairs:
            place = pair.i, pair.j
            yield _names(pair) | {
                "category": name,
                "categories": 1,
                "value": differences[place],
                "images_low": images.low[place],
                "images_high": images.high[place],
                "p_images": images.p[place],
                "p_images_corrected": images.corrected[place],
            }


def _names(pair: Pair) -> dict[str, Any]:
    names = {"dataset": pair.contest.dataset, "metric": pair.contest.metric}
    return names | {"contender": pair.one.name, "other": pair.other.name}
