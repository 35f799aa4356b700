"""Canonical content keys: the same data, code, parameters and seed give the same key on every machine."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def digest(value: Any) -> str:
    """32 hex digits of a JSON-like value (mappings in any order). Raises TypeError or ValueError for anything else."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@functools.lru_cache(maxsize=1)
def libraries() -> dict[str, str]:
    """The versions that can change a result: torch's and timm's major.minor, read without importing them."""
    return {name: ".".join(importlib.metadata.version(name).split(".")[:2]) for name in ("torch", "timm")}


@functools.cache
def code(module: str) -> str:
    """Digest of a module's normalised syntax and of all modules of its package and of adcore that it imports."""
    return digest({name: _syntax(name)[0] for name in sorted(_closure(module))})


def _closure(module: str) -> set[str]:
    followed = {module.split(".")[0], "adcore"}
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and name.split(".")[0] in followed:
            found.add(name)
            waiting.extend(_syntax(name)[1])
    return found


@functools.cache
def _syntax(module: str) -> tuple[str, tuple[str, ...]]:
    path = _file(module)
    if path is None:
        raise ModuleNotFoundError(f"no source file for module {module}")
    tree = _Normal().visit(ast.parse(path.read_text(encoding="utf-8")))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return digest(ast.dump(tree)), tuple(sorted(set(_imports(tree, package))))


class _Normal(ast.NodeTransformer):
    """Drops what cannot change a result: docstrings and blocks for type checkers (comments are not in the tree)."""

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        return node.orelse if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING") else node

    def visit_Expr(self, node: ast.Expr) -> Any:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _file(alias.name))
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                if _file(name):
                    yield name
                elif _file(base):
                    yield base


@functools.cache
def _file(module: str) -> Path | None:
    """The source of a module, found without importing it or its parents."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    if not rest:
        return Path(spec.origin)
    if not spec.submodule_search_locations:
        return None
    base = Path(spec.origin).parent.joinpath(*rest)
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)
