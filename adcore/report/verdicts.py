"""The one grammar of verdicts: what the engine of comparisons answers, in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from adcore.core.words import counted
from adcore.engine import registry
from adcore.papers.tables import Judgement
from adcore.results.contest import ALPHA, Contest, Outcome, Pair
from adcore.results.paired import FEW, Paired

BEHIND: dict[Outcome, str] = {  # of a row of a table that has the numbers beside it, against the best
    "equal": "equal",
    "better": "beaten",
    "worse": "ahead, though its mean is lower",
    "alike": "cannot be told apart",
    "alike on images": "cannot be told apart on these images",
    "better on images": "beaten on these images",
    "unsure of seeds": "behind on these images, but other seeds may turn it",
    "untested": "too few categories to tell",
}
AGAINST: dict[Outcome, str] = {  # of one contender against another, whose name is put in
    "equal": "on average equal to {}",
    "better": "beats {}",
    "worse": "is worse than {}",
    "alike": "cannot be told apart from {}",
    "alike on images": "cannot be told apart from {} on these images",
    "better on images": "beats {} on these images",
    "worse on images": "is worse than {} on these images",
    "unsure of seeds": "differs from {} on these images, but other seeds may turn it",
    "untested": "too few categories to tell it from {}",
    "incomplete": "cannot be compared with {}",
}
ONE_SEED: tuple[Outcome, ...] = ("better on images", "worse on images")  # what another seed may overturn


def lead(contest: Contest) -> str:
    """The sentence that stands first: who leads, by how much, and what may be said of it."""
    if len(contest.entries) < 2:
        return "Nothing to compare: fewer than two complete lines."
    pair = contest.pair(0, 1)
    categories = counted(len(contest.categories), "category", "categories")
    facts = f"(mean of {categories}, {counted(len(pair.one.seeds), 'seed', 'seeds')})"
    column, names = registry.column(contest.metric), f"{pair.one.name} and {pair.other.name}"
    if pair.outcome == "equal":
        return f"{names} are level in {column.title} {facts}: equal in every category.{_more(contest)}"
    if column.rounded(pair.difference) == 0:
        return f"{names} are level in {column.title} {facts}: {verdict(pair)}.{_more(contest)}"
    gap = f"{column.format(abs(pair.difference))}{column.steps} of {column.title}"
    return f"{pair.one.name} leads {pair.other.name} by {gap} {facts}: {verdict(pair)}."


def _more(contest: Contest) -> str:
    """` So are 2 more.`: those behind the first two whose mean is printed as theirs is."""
    column = registry.column(contest.metric)
    more = sum(column.rounded(contest.pair(0, place).difference) == 0 for place in range(2, len(contest.entries)))
    return f" So {'is' if more == 1 else 'are'} {more} more." if more else ""


def verdict(pair: Pair) -> str:
    """Both contenders of a pair, without a full stop."""
    if pair.i > pair.j:
        return verdict(pair.mirrored)
    one, other, count = pair.one.name, pair.other.name, len(pair.contest.categories)
    if pair.outcome == "equal":
        return f"{one} and {other} are equal" + (f" in all {count} categories" if count > 1 else "")
    if pair.outcome == "better":
        return f"{one} beats {other} {_wins(pair.ahead, count)}, {_p(pair, pair.p_corrected)}"
    if pair.outcome == "worse":
        wins = f"{_wins(pair.behind, count)}, {_p(pair, pair.p_corrected)}"
        return f"{other} beats {one} {wins}, though its mean is lower"
    if pair.outcome == "alike":
        facts = f"{one} is ahead {_wins(pair.ahead, count)}, {_p(pair, pair.p_corrected)}"
        return f"{one} and {other} cannot be told apart: {facts}"
    return _few(pair)


def _few(pair: Pair) -> str:
    """Where categories are too few to tell."""
    one, other, count = pair.one.name, pair.other.name, len(pair.contest.categories)
    judged = "" if pair.outcome == "untested" else _over_images(pair)
    if count == 1:
        return judged or f"{one} is ahead of {other}; one category of pixels cannot be tested"
    equal = count - pair.ahead - pair.behind
    wins = _wins(pair.ahead, count) + (f" and equal on {equal}" if equal else "")
    few = f"{one} is ahead of {other} {wins}, too few to tell (it takes {pair.contest.needed})"
    return f"{few}; {judged}" if judged else few


def _over_images(pair: Pair) -> str:
    """What the images tell."""
    contest, names = pair.contest, (pair.one.name, pair.other.name)
    both = f"{names[0]} and {names[1]}", f"{names[0]} beats {names[1]}"
    alike, beats = both if len(contest.categories) == 1 else ("they", f"{names[0]} beats it")
    where = f"on the same {contest.image_count:,} images" if contest.image_count else "on the same images"
    column = registry.column(contest.metric)
    gap = f"{column.fine(pair.difference)}{column.steps} {column.interval(*pair.on_images)}"
    facts = f"by {gap}, {_p(pair, pair.p_images_corrected)}"
    if pair.outcome == "alike on images":
        return f"{where} {alike} cannot be told apart: it is ahead {facts}"
    if pair.outcome == "unsure of seeds":
        return f"{where} {beats} {facts}, but other seeds may turn it: {column.interval(*pair.on_seeds)}"
    return f"{where} {beats} {facts}{_once(pair.outcome, len(pair.one.seeds))}"


def behind(pair: Pair) -> str:
    """Of the second contender of a pair, whose first is the best of all, for a table."""
    return BEHIND[pair.outcome] + _once(pair.outcome, len(pair.one.seeds))


def enhancer(over_none: Paired, controls: Sequence[tuple[str, Paired]]) -> str:
    """What may be said of an enhancer that is no control, as a sentence without a full stop.

    controls: short name of each control, and the enhancer against it."""
    ahead = over_none.standing == "better"
    short = [(name, against) for name, against in controls if against.standing != "better"]
    first = conclusion(over_none)
    if not over_none.pairs or over_none.outcome == "incomplete":
        return first + caution(over_none)
    if not controls:
        return f"{first}; the plan has no control for it{caution(over_none)}"
    if not short:
        beaten = {1: f"its control {controls[0][0]}", 2: "both controls"}.get(len(controls), "all its controls")
        return first + (" and " if ahead else ", though it beats ") + beaten + caution(over_none)
    its = "its control" + ("s" if len(short) > 1 else "")
    if not ahead:
        return f"{first}; does not beat {its} {_listed(name for name, _ in short)}{caution(over_none)}"
    listed = _listed(f"{name} ({difference(against)})" for name, against in short)
    return f"{first} ({difference(over_none)}) but not {its} {listed}{caution(over_none)}"


def control(over_none: Paired, kind: str, identical: bool) -> str:
    """What may be said of a control. identical: all metrics of all its pairs equal those of none, to the last bit."""
    if kind != "identity":
        return conclusion(over_none) + caution(over_none)
    if identical:
        return f"identical to none, as it must be{_missing(over_none)}"
    return f"{conclusion(over_none)}; not identical to none{caution(over_none)}"


def conclusion(over_none: Paired) -> str:
    """An enhancer against none, in the fewest words."""
    if not over_none.pairs:
        return "no pair to compare"
    if over_none.equal:
        return "equal to none in every cell"
    return AGAINST[over_none.outcome].format("none") + _once(over_none.outcome, over_none.seeds)


def difference(paired: Paired) -> str:
    """`+0.80 [0.30, 1.20]` in points, as far as there is something to tell."""
    if not paired.pairs:
        return "no pairs"
    interval = "one pair" if math.isnan(paired.low) else points(paired.low, paired.high)
    return f"{100 * paired.difference:+z.2f} {interval}"


def caution(over_none: Paired) -> str:
    """How far the interval may be trusted."""
    if not 1 < over_none.pairs < FEW:
        return _missing(over_none)
    return f" (only {over_none.pairs} pairs: the interval is a rough one){_missing(over_none)}"


def printed(judgement: Judgement) -> str:
    """A measured value beside a printed one: `within tolerance`, `better`, `worse`, or why neither can be said."""
    if judgement.kind == "undecided":
        low, high = judgement.interval
        return f"{judgement.kind}: beyond the tolerance, but other seeds may turn it [{low:z.2f}, {high:z.2f}]"
    return ": ".join(filter(None, [judgement.kind, "; ".join(judgement.reasons)]))


def friedman(contest: Contest, p: float) -> str:
    """Whether any of all contenders differ."""
    facts = f"{len(contest.entries)} contenders on {len(contest.categories)} categories"
    if p < ALPHA:
        return f"Not all of the {facts} are alike (Friedman, {p_text(p)})."
    return f"No difference among {facts} can be shown (Friedman, {p_text(p)})."


def p_text(p: float) -> str:
    """`p = 0.03`, `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.1g}" if p < 0.1 else f"p = {p:.2f}"


def points(low: float, high: float) -> str:
    """`[0.30, 1.20]` in points, a dash where it is not known."""
    return "–" if math.isnan(low + high) else f"[{100 * low:z.2f}, {100 * high:z.2f}]"


def _missing(over_none: Paired) -> str:
    gone = over_none.expected - over_none.pairs
    return f" ({gone} of {counted(over_none.expected, 'pair', 'pairs')} missing)" if gone else ""


def _listed(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *some, last = names
    return f"{', '.join(some)} and {last}" if some else last


def _wins(ahead: int, count: int) -> str:
    return f"on {ahead} of {counted(count, 'category', 'categories')}"


def _p(pair: Pair, p: float) -> str:
    return p_text(p) + (" after correction" if pair.contest.comparisons > 1 else "")


def _once(outcome: Outcome, seeds: int) -> str:
    return " (one seed)" if seeds == 1 and outcome in ONE_SEED else ""
