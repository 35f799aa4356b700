"""Expands a plan into cells: dataset x category x protocol x enhancer x method x seed, each with its content keys."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from adcore import backbones, keys, registry
from adcore.enhancers import chain
from adcore.methods.base import Method, Options
from adcore.plan import BackboneSpec, ImageSpec, Plan, PlanError, known
from adcore.protocols import PROTOCOLS, Protocol


@dataclass(frozen=True)
class Category:
    """A validated category of a dataset: its root and the manifest it belongs to."""

    dataset: str
    name: str
    root: Path
    manifest: pd.DataFrame = field(repr=False, compare=False)


@dataclass(frozen=True)
class Arm:
    """What is compared: a protocol, an enhancer chain and a method, each with its options, and a seed."""

    protocol: Protocol
    enhancer: tuple[str, ...]
    method: type[Method]
    options: Options
    seed: int
    names: dict[str, str]  # protocol, enhancer, method and their labels, as the leaderboard's columns name them

    @property
    def title(self) -> str:
        parts = [self.names["method_label"]]
        parts += [self.names["enhancer_label"]] if self.enhancer else []
        parts += [self.names["protocol_label"]] if self.names["protocol_label"] != "one-class" else []
        return " ".join([*parts, f"seed {self.seed}"])


@dataclass(frozen=True)
class Cell:
    """One number-producing unit, with the keys of everything that it is made of."""

    category: Category = field(compare=False)
    arm: Arm = field(compare=False)
    backbone: BackboneSpec
    image: ImageSpec
    evaluate_at: Literal["input", "original"]
    setting: dict[str, str] = field(repr=False, compare=False)
    train: pd.DataFrame = field(repr=False, compare=False)
    test: pd.DataFrame = field(repr=False, compare=False)
    fit_key: str
    maps_key: str
    latency_key: str
    gallery_key: str
    key: str

    @property
    def title(self) -> str:
        return f"{self.category.dataset}/{self.category.name} {self.arm.title}"

    @property
    def artifacts(self) -> list[tuple[str, str]]:
        """(kind, key) of what a finished cell consists of. Not the fit: it is large, and nothing above needs it."""
        return [
            ("maps", self.maps_key),
            ("cell", self.key),
            ("gallery", self.gallery_key),
            ("latency", self.latency_key),
        ]

    @property
    def levels(self) -> tuple[int, ...]:
        """Feature levels that the method reads; the plan's layers, where given, replace them."""
        return () if self.backbone.layers else self.arm.method.levels

    @property
    def names(self) -> dict[str, Any]:
        """The leaderboard's columns up to the metrics."""
        return columns(self.category.dataset, self.category.name, self.arm, self.setting)


def setting(plan: Plan) -> dict[str, str]:
    """The leaderboard's columns that all cells of a plan share: backbone, weights and image, with what is unusual."""
    layers = plan.backbone.layers
    return {
        "backbone": plan.backbone.name + (f"(layers={','.join(map(str, layers))})" if layers else ""),
        "weights": backbones.label(plan.backbone),
        "image": plan.image.label + ("@original" if plan.evaluate_at == "original" else ""),
    }


def columns(dataset: str, category: str, arm: Arm, shared: dict[str, str]) -> dict[str, Any]:
    """The leaderboard's columns up to the metrics."""
    return {"dataset": dataset, "category": category, **arm.names, **shared, "seed": arm.seed}


def arms(plan: Plan) -> list[Arm]:
    """Every combination that the plan compares. Raises PlanError for an unknown name or option."""
    found = []
    for protocol, enhancer, method in itertools.product(plan.protocols, plan.enhancers, plan.methods):
        try:
            known(protocol.name, PROTOCOLS, "protocol")
        except ValueError as error:
            raise PlanError(str(error)) from None
        rules = registry.options(protocol, PROTOCOLS[protocol.name], "protocol")
        cls = registry.method(method.name)
        options = registry.options(method, cls.Options, "method")
        parts = chain(enhancer)
        names = {
            "protocol": protocol.name,
            "enhancer": enhancer.name,
            "method": method.name,
            "protocol_label": registry.label(protocol, rules),
            "enhancer_label": enhancer.name,
            "method_label": registry.label(method, options),
        }
        found += [Arm(rules, parts, cls, options, seed, names) for seed in plan.seeds]
    for what in ("protocol", "enhancer", "method"):
        choices = len(getattr(plan, f"{what}s"))
        different = list(dict.fromkeys(arm.names[f"{what}_label"] for arm in found))
        if len(different) < choices:
            raise PlanError(f"{what}s: one of {', '.join(different)} stands twice in the plan; remove it")
    return found


def expand(plan: Plan, categories: Sequence[Category]) -> list[Cell]:
    """The cells of a plan over prepared categories, in the order of the plan."""
    combinations, shared = arms(plan), setting(plan)
    return [cell for category in categories for cell in _cells(plan, category, combinations, shared)]


def _cells(plan: Plan, category: Category, combinations: Sequence[Arm], shared: dict[str, str]) -> Iterator[Cell]:
    splits: dict[tuple[Protocol, int], tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]] = {}
    for arm in combinations:
        drawn = arm.protocol, arm.seed if arm.protocol.seeded else 0
        if drawn not in splits:
            parts = arm.protocol.split(category.manifest, category.name, arm.seed)
            # By content, so that renaming a file changes neither the fit's key nor the order of training.
            train, test = (rows.sort_values(["sha256", "path"]) for rows in parts)
            splits[drawn] = (train, test, _content(train, test))
        train, test, content = splits[drawn]
        found = _keys(plan, arm, content)
        yield Cell(category, arm, plan.backbone, plan.image, plan.evaluate_at, shared, train, test, **found)


def _content(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, str]:
    judged = test[["path", "label", "defect", "subset", "sha256", "mask_sha256"]]
    return {
        "train": keys.digest(train["sha256"].tolist()),
        "test": keys.digest(test["sha256"].tolist()),
        "judged": keys.digest(judged.to_numpy().tolist()),
    }


def _keys(plan: Plan, arm: Arm, content: dict[str, str]) -> dict[str, str]:
    model = {
        "method": arm.names["method"],
        "options": arm.options.model_dump(mode="json"),
        "enhancer": list(arm.enhancer),
        "backbone": backbones.identity(plan.backbone),
        "layers": plan.backbone.layers or ["level", *arm.method.levels],
        "image": plan.image.model_dump(),
        "code": [keys.code(arm.method.__module__), keys.code("adcore.features")],
        "libraries": keys.libraries(),
    }
    fit = keys.digest({"step": "fit", "model": model, "images": content["train"], "seed": arm.seed})
    scoring = keys.code("adcore.scoring")
    maps = keys.digest({"step": "maps", "fit": fit, "images": content["test"], "code": scoring})
    cell = keys.digest(
        {
            "step": "cell",
            "maps": maps,
            "rows": content["judged"],
            "at": plan.evaluate_at,
            "code": keys.code("adcore.evaluation"),
        }
    )
    latency = {"step": "latency", "model": model, "device": plan.device, "code": keys.code("adcore.latency")}
    gallery = {"step": "gallery", "cell": cell, "code": keys.code("adcore.report.gallery")}
    return {
        "fit_key": fit,
        "maps_key": maps,
        "key": cell,
        "latency_key": keys.digest(latency),
        "gallery_key": keys.digest(gallery),
    }
