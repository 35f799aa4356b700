"""Names as text: whatever bytes a file system allows, they are printable, and the file is found again."""

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcore.core.names import located, paired, printable, written

names = st.binary(min_size=1, max_size=40).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_"))


@given(names)
def test_any_name_is_found_again(name):
    original = os.fsdecode(name)
    assert located(Path("/root"), written(original)) == Path("/root") / original


@given(names)
def test_any_name_is_text_of_one_line(name):
    text = written(os.fsdecode(name))
    text.encode("utf-8")
    assert not [c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert printable(text) == text


@given(names, names)
def test_two_names_never_become_one(a, b):
    assert (written(os.fsdecode(a)) == written(os.fsdecode(b))) == (a == b)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"plain name-1.png", "plain name-1.png"),
        ("Prüfling 電池.png".encode(), "Prüfling 電池.png"),
        (b"fr\xfch.png", r"fr\xfch.png"),
        (b"000\r.png", r"000\x0d.png"),
        (b"\x1b[31mred", r"\x1b[31mred"),
        (rb"back\slash \x41", r"back\x5cslash \x5cx41"),
        ("right-to-left \u202egnp".encode(), r"right-to-left \xe2\x80\xaegnp"),
    ],
)
def test_what_is_shown(name, text):
    assert written(os.fsdecode(name)) == text


def test_pairs_are_exact_before_they_are_alike():
    composed, decomposed = unicodedata.normalize("NFC", "Prüf"), unicodedata.normalize("NFD", "Prüf")
    assert paired({1: composed}, {"a": decomposed}) == {1: ["a"]}
    assert paired({1: composed, 2: decomposed}, {"a": decomposed}) == {1: [], 2: ["a"]}
    assert paired({1: composed, 2: decomposed}, {"a": decomposed, "b": composed}) == {1: ["b"], 2: ["a"]}
    assert paired({1: "x"}, {"a": "y"}) == {1: []}
