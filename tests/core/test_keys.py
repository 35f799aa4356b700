"""Keys: what cannot change a result changes no key, and what can does."""

from __future__ import annotations

import ast
import hashlib
import importlib
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcore.core import keys
from tests.reach import closure, forget

Code = Callable[..., str]


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Code:
    """code(a="x = 1", b=None) writes the modules of a package `toy`, None deletes one; answers with toy.a's key."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)

    def write(**files: str | None) -> str:
        for name, source in files.items():
            path = folder / f"{name}.py"
            path.unlink(missing_ok=True) if source is None else path.write_text(source)
        importlib.invalidate_caches()
        forget()
        return keys.code("toy.a")

    return write


PLAIN = "import math\n\ndef f(x, y=2):\n    return math.sqrt(x) + y * 'text'\n"


@pytest.mark.parametrize(
    "same",
    [
        "# a comment\nimport math\n\ndef f(x, y=2):\n    # another\n    return math.sqrt(x) + y * 'text'  # more\n",
        '"""A module."""\nimport math\n\ndef f(x, y=2):\n    """What it is."""\n    return math.sqrt(x) + y * "text"\n',
        "import math\ndef f(\n    x,\n    y=2,\n):\n    return (\n        math.sqrt(x) + y * ('te' 'xt')\n    )\n",
        "import math\ndef f(x, y=2): return math.sqrt(x) + (y * '''text''')",
    ],
)
def test_comments_docstrings_and_layout_change_nothing(code: Code, same: str) -> None:
    assert code(a=same) == code(a=PLAIN)


@pytest.mark.parametrize(
    ("old", "new"),
    [("y=2", "y=3"), ("sqrt", "cbrt"), ("'text'", "'test'"), ("+", "-"), ("x, y=2", "y=2, x=1"), ("import math\n", "")],
)
def test_a_changed_statement_changes_the_key(code: Code, old: str, new: str) -> None:
    before = code(a=PLAIN)
    assert old in PLAIN and code(a=PLAIN.replace(old, new)) != before


def test_strings_that_are_values_count(code: Code) -> None:
    assert code(a="x = 'one'") != code(a="x = 'two'")
    assert code(a="def f():\n    return 'one'") != code(a="def f():\n    return 'two'")


@pytest.mark.parametrize(
    "importing",
    [
        "from toy import b",
        "from toy.b import value",
        "import toy.b",
        "from . import b",
        "from .b import value as other",
        "def f():\n    from toy import b\n    return b.value",
        "class C:\n    def f(self):\n        if True:\n            import toy.b",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import math\nelse:\n    from toy import b",
    ],
)
def test_a_change_in_an_imported_module_counts(code: Code, importing: str) -> None:
    before = code(a=importing, b="value = 1", c="")
    assert code(b="value = 2") != before
    assert code(b="value = 1  # one") == before
    assert code(b="value = 1", c="unrelated = 1") == before


def test_so_does_one_further_down_even_in_a_circle(code: Code) -> None:
    before = code(a="from toy import b", b="def f():\n    from toy import c", c="from toy import a\nvalue = 1")
    assert code(c="from toy import a\nvalue = 2") != before


def test_a_package_counts_with_what_it_imports(code: Code, tmp_path: Path) -> None:
    (tmp_path / "toy" / "sub").mkdir()
    (tmp_path / "toy" / "sub" / "__init__.py").write_text("from toy.sub.inner import value")
    inner = tmp_path / "toy" / "sub" / "inner.py"
    inner.write_text("value = 1")
    before = code(a="from toy import sub")
    inner.write_text("value = 2")
    assert code() != before


@pytest.mark.parametrize("test", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_imports_for_type_checkers_do_not_count(code: Code, test: str) -> None:
    source = f"import typing\nfrom typing import TYPE_CHECKING\nif {test}:\n    from toy import b\n"
    before = code(a=source, b="value = 1", c="value = 1")
    assert code(b="value = 2") == before
    assert code(a=source.replace("import b", "import c")) == before


def test_what_stands_beside_a_block_for_type_checkers_counts(code: Code) -> None:
    source = "if x:\n    y = 1\nelse:\n    if TYPE_CHECKING:\n        import z\n    else:\n        from toy import b\n"
    before = code(a=source, b="value = 1")
    assert code(b="value = 2") != before


def test_an_elif_after_a_block_for_type_checkers_counts(code: Code) -> None:
    source = "if TYPE_CHECKING:\n    import math\nelif x:\n    y = 1\n"
    assert code(a=source) != code(a=source.replace("y = 1", "y = 2"))


def test_other_packages_are_not_followed_but_adcore_is(code: Code) -> None:
    alone = code(a="import json")
    assert code(a="import json") == alone
    assert modules() == {"toy.a"}
    code(a="import json\nfrom adcore.core.contracts import Method")
    assert {"toy.a", "adcore.core.contracts"} <= modules()


def modules() -> set[str]:
    return {module for module, _ in closure("toy.a")}


def test_a_module_without_source_is_named(code: Code) -> None:
    code(a="")
    with pytest.raises(ModuleNotFoundError, match=r"toy\.absent"):
        keys.code("toy.absent")


# Digests

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=8,
)


def test_a_digest_is_of_canonical_json() -> None:
    canonical = '{"a":[1,2.5,null,"\\u00e4"],"b":{"x":true}}'
    expected = hashlib.sha256(canonical.encode()).hexdigest()[:32]
    assert keys.digest({"b": {"x": True}, "a": [1, 2.5, None, "ä"]}) == expected
    assert keys.digest({"a": (1, 2.5, None, "ä"), "b": {"x": True}}) == expected


@given(st.dictionaries(st.text(), JSON, max_size=5), st.randoms())
@settings(deadline=None, max_examples=30)
def test_the_order_of_a_mapping_does_not_matter(value: dict[str, object], rng: random.Random) -> None:
    items = list(value.items())
    rng.shuffle(items)
    assert keys.digest(dict(items)) == keys.digest(value)


def test_what_json_cannot_hold_is_refused() -> None:
    for value in (float("nan"), {1, 2}, Path("x"), b"x"):
        with pytest.raises((TypeError, ValueError)):
            keys.digest(value)


def test_library_versions_are_major_and_minor_without_an_import() -> None:
    script = (
        "import sys; from adcore.core import keys; print(keys.libraries())\n"
        "assert not {'torch', 'timm'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    import torch

    found = ast.literal_eval(done.stdout)
    assert set(found) == {"torch", "timm"}
    assert torch.__version__.startswith(found["torch"] + ".") and found["torch"].count(".") == 1
