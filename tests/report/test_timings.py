"""The latency table: what is shown of a timing, and what is said about how it was taken."""

import pandas as pd
import pytest

from adcore.report import timings


def scopes(*medians):
    return {
        scope: {"median_ms": ms, "mean_ms": ms + 0.1, "p95_ms": ms + 1}
        for scope, ms in zip(timings.SCOPES, medians, strict=True)
    }


def a_timing(enhancer="none", without=None, **changes):
    latency = {"median_ms": 13.0, "p95_ms": 14.0, "scopes": scopes(10.0, 2.0, 1.0, 13.0)}
    if without:
        latency |= {"scopes": scopes(14.0, 2.0, 1.0, 17.0), "without": without}
    setting = {"backbone": "resnet18", "image": "256", "hardware": "EPYC, 2 cores", "device": "cpu", "threads": 2}
    setting |= {"load_average": 0.31, "busy": False}
    return {"method_label": "padim", "enhancer_label": enhancer, **setting, "latency": latency} | changes


WITHOUT = {
    "scopes": scopes(10.5, 2.0, 1.0, 13.5),
    "difference_ms": {
        "extract": [3.5, 3.2, 3.9],
        "score": [0.0, -0.1, 0.1],
        "post": [0.0, -0.1, 0.1],
        "total": [3.5, 3.1, 4.0],
    },
}
PAIR = [a_timing(), a_timing("pfam", WITHOUT, load_average=1.74)]


def test_one_row_a_host_and_enhancer(tmp_path):
    found = timings.section(PAIR)
    header = ["method", "enhancer", *timings.SCOPES, "p95"]
    assert list(found.header) == [*header, "total without", "difference [95 %]"]
    assert found.rows == [
        ["padim", "none", "10.00", "2.00", "1.00", "13.00", "14.00", "–", "–"],
        ["padim", "pfam", "14.00", "2.00", "1.00", "17.00", "18.00", "13.50", "+3.50 [3.10, 4.00]"],
    ]


def test_caption_states_machine_load_batch_and_interleaving():
    caption = timings.section(PAIR).caption
    for fact in ("batch 1", "device cpu", "threads 2", "load average 0.3 to 1.7", "A/B/A/B", "backbone resnet18"):
        assert fact in caption


def test_without_enhancers_nothing_is_said_of_them():
    found = timings.section(PAIR[:1])
    assert list(found.header)[-1] == "p95" and "A/B" not in found.caption and "load average 0.3." in found.caption


@pytest.mark.parametrize(
    ("name", "value"), [("device", "cuda"), ("hardware", "H200"), ("threads", 8), ("backbone", "resnet50")]
)
def test_what_differs_is_a_column_and_not_in_the_caption(name, value):
    found = timings.section([PAIR[0], a_timing(**{name: value})])
    assert list(found.header)[1] == name and found.rows[1][1] == str(value)
    assert f"{name} " not in found.caption.split("counted. ")[1]


def test_csv_holds_every_scope_in_full(tmp_path):
    timings.write(tmp_path, PAIR)
    table = pd.read_csv(tmp_path / "latency.csv", keep_default_na=False).set_index(["enhancer_label", "scope"])
    assert len(table) == 8
    shown = ["median_ms", "without_median_ms", "difference_ms", "low_ms", "high_ms"]
    assert [float(value) for value in table.loc[("pfam", "extract"), shown]] == [14.0, 10.5, 3.5, 3.2, 3.9]
    assert table.loc[("none", "total"), "p95_ms"] == 14.0 and table.loc[("none", "total"), "difference_ms"] == ""
    assert "| padim | pfam | 14.00 |" in (tmp_path / "latency.md").read_text()


def test_a_busy_machine_and_unlike_hardware_are_told():
    found = timings.section([PAIR[0], a_timing(busy=True, hardware="H200")])
    assert [row[0] for row in found.rows] == ["padim", "padim (busy)"]
    assert "(busy): threads waited for a core in more than 10% of the time" in found.caption
    assert "Those of unlike machines do not compare." in found.caption
    quiet = timings.section(PAIR).caption
    assert "busy" not in quiet and "unlike" not in quiet


def test_no_timings_leave_no_file_behind(tmp_path):
    timings.write(tmp_path, PAIR)
    timings.write(tmp_path, [])
    assert not list(tmp_path.iterdir())
