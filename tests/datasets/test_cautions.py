"""Warnings in few words: which files, how many, and nothing of errors."""

from adcore.datasets.cautions import cautions
from adcore.datasets.validation import Problem


def warning(category, path="", check="doubt", message="odd"):
    return Problem(category, "warning", check, path, message)


def test_the_first_file_is_named_and_the_others_counted():
    one, two, three = (warning("cap", f"cap/{n}.png") for n in "abc")
    assert cautions([one]) == ["cap: odd (cap/a.png)"]
    assert cautions([two, one]) == ["cap: odd (cap/a.png and 1 more)"]
    assert cautions([three, two, one]) == ["cap: odd (cap/a.png and 2 more)"]


def test_errors_are_no_warnings():
    assert cautions([Problem("cap", "error", "doubt", "cap/a.png", "broken")]) == []


def test_each_check_has_its_own_sentence():
    assert cautions([warning("cap", check="b", message="dark"), warning("cap", check="a")]) == ["cap: odd", "cap: dark"]


def test_many_categories_are_told_in_one_sentence():
    lines = cautions(warning(f"c{n}") for n in range(6))
    assert lines[:3] == ["c0: odd", "c1: odd", "c2: odd"]
    assert lines[3:] == ["c3, c4, c5: likewise (doubt; see results/validation.html)"]
