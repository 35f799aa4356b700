"""Names of files as text: any name that a file system allows can be written, shown, and found again.

A name may hold bytes that are no UTF-8, line breaks, escape sequences of a terminal, or marks that turn the direction
of reading. Such a byte is written as `\\x0d`, and so is the backslash itself (`\\x5c`); all other names are written as
they are. Manifests, tables, pages and messages hold names as written; files are opened by `located`.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)
Other = TypeVar("Other", bound=Hashable)

# control characters, line and paragraph separators, marks of direction, and what Python makes of bytes that are no text
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\udc80-\udcff]")
_WRITTEN = re.compile(r"(?:\\x[0-9a-f]{2})+")


def printable(text: str) -> str:
    """A text in which everything that would not show as itself is replaced by `\\xNN`, byte by byte."""
    return _UNPRINTABLE.sub(lambda match: "".join(f"\\x{byte:02x}" for byte in os.fsencode(match[0])), text)


def written(name: str) -> str:
    """A name or path in printable form, from which `located` finds the file again."""
    return printable(name.replace("\\", r"\x5c"))


def located(root: Path, name: str) -> Path:
    """The file below `root` of a name in the form that `written` gives."""
    return root / _WRITTEN.sub(lambda run: os.fsdecode(bytes.fromhex(run[0].replace("\\x", ""))), name)


def composed(name: str) -> str:
    """A name in Unicode's normal form C: macOS writes an accent as a letter of its own, other systems do not."""
    return unicodedata.normalize("NFC", name)


def paired(names: Mapping[Item, str], others: Mapping[Other, str]) -> dict[Item, list[Other]]:
    """For each item the others of the same name: to the letter where there are any, else in the same normal form.

    Another that has a partner to the letter is not given to a second one.
    """
    exact = _by_name(others.items())
    taken = set(names.values())
    alike = _by_name((other, composed(name)) for other, name in others.items() if name not in taken)
    return {item: exact.get(name) or alike.get(composed(name), []) for item, name in names.items()}


def _by_name(items: Iterable[tuple[Item, str]]) -> dict[str, list[Item]]:
    named: dict[str, list[Item]] = {}
    for item, name in items:
        named.setdefault(name, []).append(item)
    return named
