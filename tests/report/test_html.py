"""The report page: self-contained, complete, written only when something changed."""

import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from adcore.report import plots, pretext
from adcore.report.html import write_links, write_report
from adcore.results import effects
from adcore.results.contenders import summarise
from adcore.results.contests import Contests
from adcore.results.frame import frame
from adcore.results.run import Results
from adcore.results.runs import CellResult
from adcore.results.trained import cautions
from tests.report.conftest import a_row

FAILURE = {"dataset": "elpv", "category": "poly", "method_label": "cfa", "error": "RuntimeError: <loss> is NaN"}


def of(rows, **given):
    return Results(Contests(frame(rows)), **given)


def behind(folder, trainings):
    """A finished cell of no contender of the page, behind which these trainings stand."""
    return [CellResult(a_row(dataset="elsewhere"), folder, trained=tuple(trainings))]


@pytest.fixture(scope="module")
def page(tmp_path_factory, request):
    """(path, write): a small report, and a function that writes it again with changes."""
    from_conftest = request.getfixturevalue("made")
    path = tmp_path_factory.mktemp("report") / "report.html"

    def write(**changes):
        given = {"rows": [r.row for r in from_conftest], "finished": from_conftest, "failures": [FAILURE]}
        given |= {"notes": {"elpv": "CC BY-NC-SA"}, "facts": {"plan": "demo"}}
        return write_report(path, of(**(given | changes)))

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
    assert write_report(tmp_path / "r.html", of(rows, failures=[FAILURE]))
    text = (tmp_path / "r.html").read_text()
    assert "1 of 1 cells failed" in text and "<svg" not in text


def enhanced(row, *others):
    """Rows of two categories with and without enhancers, and their effects."""
    rows = [
        row(enhancer_label=e, category=c, i_auroc=x + 0.01 * (c == "poly"))
        for e, x in (("none", 0.8), *others)
        for c in ("mono", "poly")
    ]
    return rows, effects.compare(Contests(frame(rows)), {"elpv": ["poly"]}, {"pfam(train=identity)": "identity"})


def test_links_are_added_to_a_page_and_replaced(tmp_path, row):
    path = tmp_path / "r.html"
    write_report(path, of([row()]))
    write_links(path, {"elpv": "http://old/<", "elsewhere": "http://x"}, "runs")
    write_links(path, {"elpv": "http://new/?a&b"}, "runs")
    assert [link for link in Tags(path.read_text()).links if not link.startswith("#")] == ["http://new/?a&b"]


def test_a_page_with_links_is_not_written_again_for_them(page):
    path, write = page
    write_links(path, {"elpv": "http://x"}, "runs")
    assert not write() and write(facts={"plan": "other"}) and write(facts={"plan": "demo"})


def test_page_shows_effects_and_latency(tmp_path, row):
    rows, found = enhanced(row, ("pfam", 0.9), ("pfam(train=identity)", 0.8))
    scopes = {
        scope: {"median_ms": 1.5, "mean_ms": 1.5, "p95_ms": 2.5} for scope in ("extract", "score", "post", "total")
    }
    timing = dict.fromkeys(("method_label", "enhancer_label", "backbone", "image", "hardware", "device"), "x")
    timing |= {"threads": 2, "load_average": 0.3, "busy": False, "latency": {"scopes": scopes}}
    assert write_report(tmp_path / "r.html", of(rows, effects=found, timings=[timing]))
    text = (tmp_path / "r.html").read_text()
    assert "With and without enhancers" in text and ">over pfam(train=identity)</th>" in text
    assert "too few categories to tell it from none; does not beat its control identity (only 2 pairs" in text
    assert "words better" not in text  # two categories without samples of their images
    assert "identical to none, as it must be" in text and "<h2>Latency</h2>" in text and "threads 2" in text
    assert text.count("+10.00 one pair") == 4  # pfam on objects and on textures, against none and against the control


def test_page_without_enhancers_says_nothing_of_them(page):
    text = page[0].read_text()
    assert "enhancers" not in text and "<h2>Latency</h2>" not in text


def test_page_says_where_none_is_missing(tmp_path, row):
    rows = [row(enhancer_label="pfam"), row(enhancer_label="sbm")]
    write_report(tmp_path / "r.html", of(rows, effects=effects.compare(Contests(frame(rows)), {}, {})))
    assert "Nothing to compare with: the plan has no enhancer none." in (tmp_path / "r.html").read_text()


def test_page_shows_what_the_first_seed_was_trained_on(tmp_path, row, training):
    shared = training(tmp_path / "a")
    again = training(tmp_path / "a", enhancer_label="sbm+pfam")  # the same artifact in a chain
    others = [training(tmp_path / "b", "pfam", False, enhancer_label="sbm+pfam"), training(tmp_path / "c", seed=1)]
    assert write_report(tmp_path / "r.html", of([row()], finished=behind(tmp_path, [shared, again, *others])))
    text = (tmp_path / "r.html").read_text()
    assert "trained on (seed 0)" in text and text.count("data:image/jpeg") == 1
    assert "<td>sbm, sbm+pfam</td>" in text and "0.650 in level2" in text and "3.2%" in text
    assert re.search(r"warning\">cosine 0.65 &lt; 0.7 in level2<", text)
    assert "pfam in sbm+pfam" in text and len(re.findall("<svg", text)) == 2 + 2  # without a finished cell no ROC


def test_page_shows_a_bounded_number_of_sheets_and_counts_the_rest(tmp_path, training):
    many = [training(tmp_path / str(i), category=f"c{i}") for i in range(pretext.SHEETS + 3)]
    same = pretext.panel(many, "elpv")
    assert same and len(same["sheets"]) == 1 and same["left_out"] == 0  # one picture is shown once
    for number, item in enumerate(many):
        item.sheet.write_bytes(item.sheet.read_bytes() + bytes([number]))
    found = pretext.panel(many, "elpv")
    assert found and len(found["sheets"]) == pretext.SHEETS and found["left_out"] == 3
    assert len(found["table"].rows) == pretext.SHEETS + 3 and pretext.panel(many, "other") is None


def test_training_without_epochs_accuracy_or_pictures_is_a_row_of_dashes(tmp_path, training):
    item = training(tmp_path / "a", sheet=False)
    nothing = '{"epochs": 0, "chance": null, "accuracy": null, "cosine": {}, "warnings": []}'
    (item.folder / "summary.json").write_text(nothing)
    (item.folder / "curves.json").write_text('{"loss": []}')
    found = pretext.panel([item], "elpv")
    assert found and found["table"].texts[0][3:] == ["0", "–", "–", "–", "–", "12", ""]
    assert not found["figures"] and not found["sheets"]


def test_page_is_written_again_for_new_effects_timings_and_trainings(tmp_path, row, training):
    rows, found = enhanced(row, ("pfam", 0.9))
    given = {"effects": found, "finished": behind(tmp_path, [training(tmp_path / "a")])}

    def write(**changes):
        return write_report(tmp_path / "r.html", of(rows, **(given | changes)))

    assert write() and not write()
    assert (
        write(finished=behind(tmp_path, [training(tmp_path / "b")]))
        and write(effects=found[:1])
        and write()
        and not write()
    )


def test_mean_roc_averages_true_positive_rates():
    perfect, chance = {"fpr": [0, 0, 1], "tpr": [0, 1, 1]}, {"fpr": [0, 1], "tpr": [0, 1]}
    x, y = plots.mean_roc([perfect, chance])
    assert (x[0], y[0]) == (0, 0) and y[x == 0.5][0] == pytest.approx(0.75)
    assert np.trapezoid(y, x) == pytest.approx((1.0 + 0.5) / 2, abs=1e-6)


def test_figures_are_reproducible_and_bounded(row):
    rows = [row(method_label=f"m{i}", i_auroc=0.5 + i / 100) for i in range(12)]
    (contenders,) = summarise(frame(rows)).values()
    svg = plots.category_svg(contenders)
    assert svg == plots.category_svg(contenders)
    assert len(set(re.findall(r">(m\d+)<", svg))) == plots.MOST


def test_what_went_wrong_in_a_training_stands_beside_the_leaderboard(tmp_path, training):
    sound = training(tmp_path / "sound", seed=1)
    summary = json.loads((sound.folder / "summary.json").read_text())
    (sound.folder / "summary.json").write_text(json.dumps(summary | {"warnings": []}))
    found = cautions([training(tmp_path / "far"), sound])
    told = "enhancer sbm: warnings in 1 of 2 trainings (mono; mono, seed 0: cosine 0.65 < 0.7 in level2)"
    assert found == {"elpv": [told]}
    assert cautions([sound]) == {}
