"""What a plug-in must say is said in its contract: nothing is guessed from the names of its attributes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from adcore.core.contracts import Context, Enhancer, EnhancerOptions, FeatureMethod, HostMethod, ImageMethod, Method
from adcore.core.contracts import TrainedOptions as Trained
from adcore.engine import registry

ROOT = Path(__file__).parents[2]
OF_OTHERS = {"sqlite_errorcode", "reason", "response", "tile", "__args__"}  # of errors, Pillow's images and types
LOOKED_UP = {"registry.py", "_classes.py"}  # a plug-in by the name in a plan, a definition by its name in source
OF_PACKAGES = {"HELPERS"}  # which files of a group's folder are no members of it


def guesses(source: str) -> Iterator[str]:
    """The names that a module asks objects for which may lack them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.args[1] if len(node.args) > 1 else None
            if node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3):
                yield str(name.value) if isinstance(name, ast.Constant) else ""


def test_guesses_are_seen() -> None:
    assert list(guesses("hasattr(a, 'b')\ngetattr(a, 'c', 1)\ngetattr(a, 'd')")) == ["b", "c"]


@pytest.mark.parametrize("package", ["adcore", "tasks", "flows"])
def test_no_attribute_is_guessed(package: str) -> None:
    files = [path for path in sorted((ROOT / package).rglob("*.py")) if path.name not in LOOKED_UP]
    found = {(path.name, name) for path in files for name in guesses(path.read_text(encoding="utf-8"))}
    assert {pair for pair in found if pair[1] not in OF_OTHERS | OF_PACKAGES} == set()


@pytest.mark.parametrize("abstract", [Method, FeatureMethod, ImageMethod, HostMethod])
def test_a_method_that_lacks_a_part_cannot_be_made(abstract: type[Method]) -> None:
    with pytest.raises(TypeError, match="abstract"):
        abstract(None, Context(0))


def test_an_enhancer_that_lacks_a_part_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Enhancer(EnhancerOptions())  # type: ignore[abstract]


@pytest.mark.parametrize("name", sorted(registry.modules("methods")))
def test_only_a_method_that_says_so_trains_an_enhancer(name: str) -> None:
    assert issubclass(registry.method(name), HostMethod) == (name == "cfa")


def test_a_method_of_images_names_what_it_lacks() -> None:
    class Blind(ImageMethod):
        name = "blind"

        def fit(self, images, progress=None):  # type: ignore[no-untyped-def]
            return {}

        def score(self, images):  # type: ignore[no-untyped-def]
            return self.extractor(images), None

        def state(self):  # type: ignore[no-untyped-def]
            return {}

        def restore(self, state):  # type: ignore[no-untyped-def]
            pass

    with pytest.raises(ValueError, match="blind: it needs the extractor"):
        Blind(None, Context(0)).score(None)


@pytest.mark.parametrize(
    ("epochs", "least", "steps", "passes"), [(0, 100, 5, 0), (3, 0, 5, 3), (1, 100, 30, 4), (1, 0, 5, 1)]
)
def test_few_images_are_seen_more_often(epochs: int, least: int, steps: int, passes: int) -> None:
    options = Trained(epochs=epochs, min_steps=least)
    assert options.passes(steps) == passes
    assert options.untrained == (epochs == 0)


def test_options_are_closed() -> None:
    with pytest.raises(ValidationError, match="nonsense"):
        EnhancerOptions(nonsense=1)  # type: ignore[call-arg]
