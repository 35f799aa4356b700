"""The report page: self-contained, complete, written only when something changed."""

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from adcore.report import plots
from adcore.report.html import write_report
from adcore.report.leaderboard import frame
from adcore.report.summary import summarise

FAILURE = {"dataset": "elpv", "category": "poly", "method_label": "cfa", "error": "RuntimeError: <loss> is NaN"}


@pytest.fixture(scope="module")
def page(tmp_path_factory, request):
    """(path, write): a small report, and a function that writes it again with changes."""
    from_conftest = request.getfixturevalue("made")
    path = tmp_path_factory.mktemp("report") / "report.html"

    def write(**changes):
        rows = [r.row for r in from_conftest]
        given = {"rows": rows, "results": from_conftest, "failures": [FAILURE], "notes": {"elpv": "CC BY-NC-SA"}}
        return write_report(path, **(given | {"facts": {"plan": "demo"}} | changes))

    assert write()
    return path, write


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.opened, self.text = [], [], text
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.opened.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value]


def test_page_needs_nothing_from_outside(page):
    links = Tags(page[0].read_text()).links
    assert any(link.startswith("data:image/jpeg;base64,") for link in links)
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "@import" not in page[0].read_text() and "<script" not in page[0].read_text()


def test_page_shows_verdict_note_failure_facts_and_bounded_galleries(page):
    text = page[0].read_text()
    assert "padim leads cfa by 10.0 points" in text and "CC BY-NC-SA" in text and "demo" in text
    assert "RuntimeError: &lt;loss&gt; is NaN" in text  # escaped, so that a message cannot break the page
    assert text.count("data:image/jpeg") == 2 * (4 + 4)
    assert Tags(text).opened.count("svg") == 3 and "currentColor" in text and plots.INK not in text


def test_page_is_written_again_only_for_a_change(page):
    path, write = page
    before = path.stat().st_mtime_ns
    assert not write() and path.stat().st_mtime_ns == before
    assert write(facts={"plan": "other"}) and write(facts={"plan": "demo"})


def test_run_ids_alone_do_not_rewrite_it(page, made):
    assert not page[1](rows=[r.row | {"mlflow_run_id": "abc"} for r in made])


def test_only_failures_still_make_a_page(tmp_path, row):
    rows = [row(status="failed", **dict.fromkeys(("i_auroc", "i_ap", "score_ms", "fit_s"), math.nan))]
    assert write_report(tmp_path / "r.html", rows, [], [FAILURE])
    text = (tmp_path / "r.html").read_text()
    assert "1 of 1 cells failed" in text and "<svg" not in text


def test_mean_roc_averages_true_positive_rates():
    perfect, chance = {"fpr": [0, 0, 1], "tpr": [0, 1, 1]}, {"fpr": [0, 1], "tpr": [0, 1]}
    x, y = plots.mean_roc([perfect, chance])
    assert (x[0], y[0]) == (0, 0) and y[x == 0.5][0] == pytest.approx(0.75)
    assert np.trapezoid(y, x) == pytest.approx((1.0 + 0.5) / 2, abs=1e-6)


def test_figures_are_reproducible_and_bounded(row):
    rows = [row(method_label=f"m{i}", i_auroc=0.5 + i / 100) for i in range(12)]
    (lines,) = summarise(frame(rows)).values()
    svg = plots.category_svg(lines)
    assert svg == plots.category_svg(lines)
    assert len(set(re.findall(r">(m\d+)<", svg))) == plots.MOST
