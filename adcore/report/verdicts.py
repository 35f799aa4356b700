"""What may be concluded about two contenders, in one sentence."""

from __future__ import annotations

import math
from typing import Literal

from adcore.report.contest import Contest
from adcore.report.summary import counted
from adcore.stats.categories import needed, smallest_p

ALPHA = 0.05
Outcome = Literal[
    "equal", "better", "worse", "alike", "better on images", "alike on images", "unsure of seeds", "untested"
]


def verdict(contest: Contest, i: int, j: int) -> str:
    """Contender i against j, i the one with the larger mean, without a full stop."""
    one, other, pairs = contest.names[i], contest.names[j], contest.pairs
    count, ahead = len(contest.categories), int(pairs.ahead[i, j])
    found = outcome(contest, i, j)
    if found == "equal":
        return f"{one} and {other} are equal" + (f" in all {count} categories" if count > 1 else "")
    if found in ("better", "worse"):
        winner, loser = (i, j) if found == "better" else (j, i)
        wins = _wins(int(pairs.ahead[winner, loser]), count)
        text = f"{contest.names[winner]} beats {contest.names[loser]} {wins}, {_p(contest, pairs.corrected[i, j])}"
        return text if found == "better" else f"{text}, though its mean is lower"
    if found == "alike":
        facts = f"{one} is ahead {_wins(ahead, count)}, {_p(contest, pairs.corrected[i, j])}"
        return f"{one} and {other} cannot be told apart: {facts}"
    judged = "" if found == "untested" else _over_images(contest, i, j, found)
    if count == 1:
        return judged or f"{one} is ahead of {other}; one category of pixels cannot be tested"
    equal = count - ahead - int(pairs.ahead[j, i])
    wins = _wins(ahead, count) + (f" and equal on {equal}" if equal else "")
    few = f"{one} is ahead of {other} {wins}, too few to tell (it takes {takes(contest)})"
    return f"{few}; {judged}" if judged else few


def outcome(contest: Contest, i: int, j: int) -> Outcome:
    """What may be said of contender i against j, i the one with the larger mean: over categories, else over images."""
    pairs = contest.pairs
    if not pairs.ahead[i, j] + pairs.ahead[j, i]:
        return "equal"
    if pairs.corrected[i, j] < ALPHA:
        return "better" if pairs.lean[i, j] > 0 else "worse"
    if testable(contest, i, j):
        return "alike"
    if math.isnan(pairs.corrected_images[i, j]):
        return "untested"
    if pairs.corrected_images[i, j] >= ALPHA:
        return "alike on images"
    return "unsure of seeds" if pairs.seeds_low[i, j] <= 0 else "better on images"


def testable(contest: Contest, i: int, j: int) -> bool:
    """Whether as many categories as differ could give a p below ALPHA after correction."""
    differing = int(contest.pairs.ahead[i, j] + contest.pairs.ahead[j, i])
    return len(contest.categories) > 1 and smallest_p(differing) * contest.comparisons < ALPHA


def takes(contest: Contest) -> int:
    """How many categories have to differ for that."""
    return needed(contest.comparisons, ALPHA)


def short(contest: Contest, i: int, j: int) -> str:
    """`outcome` for a table that has the numbers beside it."""
    seeds = "" if len(contest.contenders[i].seeds) > 1 else " (one seed)"
    return {
        "equal": "equal",
        "better": "beaten",
        "worse": "ahead, though its mean is lower",
        "alike": "cannot be told apart",
        "alike on images": "cannot be told apart on these images",
        "better on images": f"beaten on these images{seeds}",
        "unsure of seeds": "behind on these images, but other seeds may turn it",
        "untested": "too few categories to tell",
    }[outcome(contest, i, j)]


def _over_images(contest: Contest, i: int, j: int, found: Outcome) -> str:
    """What the images tell where categories are too few to."""
    pairs, count = contest.pairs, contest.image_count
    both = f"{contest.names[i]} and {contest.names[j]}", f"{contest.names[i]} beats {contest.names[j]}"
    alike, beats = both if len(contest.categories) == 1 else ("they", f"{contest.names[i]} beats it")
    where = f"on the same {count:,} images" if count else "on the same images"
    interval = points(pairs.low[i, j], pairs.high[i, j])
    facts = f"by {100 * pairs.difference[i, j]:z.2f} points {interval}, {_p(contest, pairs.corrected_images[i, j])}"
    if found == "alike on images":
        return f"{where} {alike} cannot be told apart: it is ahead {facts}"
    once = " (one seed)" if len(contest.contenders[i].seeds) == 1 else ""
    seeds = points(pairs.seeds_low[i, j], pairs.seeds_high[i, j])
    turn = f", but other seeds may turn it: {seeds}" if found == "unsure of seeds" else once
    return f"{where} {beats} {facts}{turn}"


def _wins(ahead: int, count: int) -> str:
    return f"on {ahead} of {counted(count, 'category', 'categories')}"


def _p(contest: Contest, p: float) -> str:
    return p_text(p) + (" after correction" if contest.comparisons > 1 else "")


def p_text(p: float) -> str:
    """`p = 0.03`, `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.1g}" if p < 0.1 else f"p = {p:.2f}"


def points(low: float, high: float) -> str:
    """`[0.30, 1.20]` in points, a dash where it is not known."""
    return "–" if math.isnan(low + high) else f"[{100 * low:z.2f}, {100 * high:z.2f}]"


def friedman(contest: Contest, p: float) -> str:
    """Whether any of all contenders differ."""
    facts = f"{len(contest.contenders)} contenders on {len(contest.categories)} categories"
    if p < ALPHA:
        return f"Not all of the {facts} are alike (Friedman, {p_text(p)})."
    return f"No difference among {facts} can be shown (Friedman, {p_text(p)})."
