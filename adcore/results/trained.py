"""Trainings of enhancers as the store holds them, and their curves over epochs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Trained:
    """One training of one part of an enhancer. folder: its artifact, with meta.json, summary.json, curves.json and,
    where images were changed for it, shown.jpg; enhancers that share a part share the folder."""

    dataset: str
    category: str
    seed: int
    enhancer_label: str
    part: str
    folder: Path

    @cached_property
    def summary(self) -> dict[str, Any]:
        """epochs, chance and accuracy (or None), cosine by map, warnings."""
        return self._read("summary.json")

    @property
    def seconds(self) -> float:
        """What it took."""
        return float(self._read("meta.json")["enhance_s"])

    @cached_property
    def curves(self) -> dict[str, list[float]]:
        """Name (`loss`, `accuracy`, ...) -> a value an epoch."""
        return self._read("curves.json")

    @property
    def sheet(self) -> Path | None:
        """Picture of what the network was shown, if there is one."""
        path = self.folder / "shown.jpg"
        return path if path.exists() else None

    @property
    def name(self) -> str:
        """`pfam(pool_kv=4)`, or `pfam in sbm+pfam` where the part is not the whole enhancer."""
        whole = re.split(r"[( ]", self.enhancer_label)[0] == self.part
        return self.enhancer_label if whole else f"{self.part} in {self.enhancer_label}"

    @property
    def identity(self) -> list[str | int]:
        """What tells trainings apart: an artifact's folder is named by its content key."""
        return [self.dataset, self.category, self.seed, self.enhancer_label, self.part, self.folder.name]

    def _read(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / name).read_text(encoding="utf-8"))
        return found


def cautions(trained: Iterable[Trained]) -> dict[str, list[str]]:
    """Dataset -> what its rows must not be read without: a sentence for each part of an enhancer that went wrong
    somewhere, with how often, where, and what was said first."""
    groups: dict[tuple[str, str], list[Trained]] = {}
    for item in trained:
        groups.setdefault((item.dataset, item.name), []).append(item)
    found: dict[str, list[str]] = {}
    for (dataset, name), same in groups.items():
        wrong = [item for item in same if item.summary["warnings"]]
        if wrong:
            where = ", ".join(dict.fromkeys(item.category for item in wrong))
            first = f"{wrong[0].category}, seed {wrong[0].seed}: {wrong[0].summary['warnings'][0]}"
            line = f"enhancer {name}: warnings in {len(wrong)} of {len(same)} trainings ({where}; {first})"
            found.setdefault(dataset, []).append(line)
    return found


def by_name(trained: Iterable[Trained], curve: str) -> dict[str, list[list[float]]]:
    """Name of a part -> this curve of each of its trainings that has it."""
    found: dict[str, list[list[float]]] = {}
    for item in trained:
        if item.curves.get(curve):
            found.setdefault(item.name, []).append(item.curves[curve])
    return found


def by_curve(trained: Iterable[Trained]) -> dict[str, dict[str, list[float]]]:
    """`sbm.loss`, `pfam.loss`, ... -> category -> a value an epoch; losses first, then what else there is."""
    found: dict[str, dict[str, list[float]]] = {}
    for item in trained:
        for curve, values in item.curves.items():
            found.setdefault(f"{item.part}.{curve}", {})[item.category] = values
    return {name: found[name] for name in sorted(found, key=lambda name: not name.endswith(".loss"))}


def epoch_mean(lines: Sequence[Sequence[float]]) -> list[float]:
    """Mean of several trainings at each epoch, over those that came so far."""
    epochs = ([value for value in epoch if value is not None] for epoch in zip_longest(*lines))
    return [sum(values) / len(values) for values in epochs]


def epoch_table(trained: Iterable[Trained]) -> pd.DataFrame:
    """One row a category, part and epoch (from 1), one column a curve; `chance`: the accuracy of guessing."""
    tables = []
    for item in trained:
        table = pd.DataFrame({name: pd.Series(values, dtype="float64") for name, values in item.curves.items()})
        epochs = range(1, len(table) + 1)
        tables.append(table.assign(category=item.category, part=item.part, epoch=epochs, chance=item.summary["chance"]))
    table = pd.concat(tables, ignore_index=True)
    first = ["category", "part", "epoch"]
    return table[[*first, *(name for name in table.columns if name not in first)]]
