"""Expands a plan into cells, each with its content keys: dataset x category x backbone x image size x protocol x
enhancer x method x seed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from adcore.core import keys
from adcore.core.columns import STAND_IN
from adcore.core.contracts import TOKENS, VECTORS, Enhancer, Levels, Link, Method, MethodOptions, block_of
from adcore.core.draws import generator
from adcore.core.plan import BackboneSpec, ImageSpec, Plan, PlanError
from adcore.engine import identity, registry
from adcore.engine.chains import NONE, Chain, chain
from adcore.features import backbones
from adcore.protocols.base import Protocol
from adcore.vision.images import ImageFile, image_files

if TYPE_CHECKING:
    from adcore.core.contracts import Threshold

FOLDS = 5  # parts of the training images that are left out in turn
FINE_FOLDS = 20  # where no network is trained: the more there are, the more each fit is like that of all images
MOST_SOURCES = 64  # images of other categories that textures of synthetic defects are taken from


@dataclass(frozen=True)
class Category:
    """A validated category of a dataset: its root, the manifest it belongs to, which categories of that are textures,
    and the threshold that finds its object."""

    dataset: str
    name: str
    root: Path
    manifest: pd.DataFrame = field(repr=False, compare=False)
    textures: frozenset[str] = frozenset()
    threshold: Threshold | None = None

    @property
    def texture(self) -> bool:
        """Whether it is one itself."""
        return self.name in self.textures

    @property
    def only_textures(self) -> bool:
        """Whether all categories of its dataset are."""
        return set(self.manifest["category"]) <= self.textures


@dataclass(frozen=True)
class Contender:
    """What is compared: a method and its enhancer chain, each with its options, under a protocol, on a backbone with an
    image size; it is the same with each of its seeds. network: which backbone and image size, where the plan has
    several; else ''."""

    backbone: BackboneSpec
    image: ImageSpec
    network: str
    protocol: Protocol
    chain: Chain
    method: type[Method]
    options: MethodOptions
    seeds: tuple[int, ...]  # the plan's, times what the protocol draws
    names: dict[str, str]  # protocol, enhancer, method and their labels, as the leaderboard's columns name them
    stand_in: bool  # some weights of an enhancer only stand in for the right ones

    @property
    def levels(self) -> Levels:
        """What the method reads of a backbone whose layers the plan leaves to it."""
        return self.method.reads(self.options)

    @property
    def title(self) -> str:
        parts = [self.names["method_label"]]
        parts += [self.names["enhancer_label"]] if self.names["enhancer"] != NONE else []
        parts += [self.names["protocol_label"]] if self.names["protocol_label"] != "one-class" else []
        parts += [f"on {self.network}"] if self.network else []
        return " ".join(parts)


@dataclass(frozen=True)
class Cell:
    """One number-producing unit, with the keys of everything that it is made of."""

    category: Category = field(compare=False)
    contender: Contender = field(compare=False)
    seed: int
    backbone: BackboneSpec
    image: ImageSpec
    evaluate_at: Literal["input", "original"]
    setting: dict[str, str] = field(repr=False, compare=False)
    train: pd.DataFrame = field(repr=False, compare=False)
    test: pd.DataFrame = field(repr=False, compare=False)
    texture: bool  # what the model is of; a joint one of several categories only if all are
    sources: tuple[ImageFile, ...] = field(repr=False, compare=False)
    links: tuple[Link, ...] = field(repr=False, compare=False)
    plain: str  # title of the same cell without an enhancer, which latency is compared with; "" where there is none
    fit_key: str
    maps_key: str
    latency_key: str
    gallery_key: str
    key: str
    calibration_key: str  # "" where the plan wants no thresholds, or there are no images for them
    alarms: float | None  # the share of false alarms that the plan wants at most

    @property
    def title(self) -> str:
        return f"{self.category.dataset}/{self.category.name} {self.contender.title} seed {self.seed}"

    @property
    def keys(self) -> set[str]:
        """Of everything that it is made of."""
        return {self.fit_key, *(key for _, key in self.artifacts)}

    @property
    def artifacts(self) -> list[tuple[str, str]]:
        """(kind, key) of what a finished cell consists of. Not the fit: it is large, and nothing above needs it."""
        return [
            ("maps", self.maps_key),
            ("cell", self.key),
            ("gallery", self.gallery_key),
            ("latency", self.latency_key),
            *([("calibration", self.calibration_key)] if self.calibration_key else []),
            *(("enhancer", link.key) for link in self.links),
        ]

    @property
    def levels(self) -> Levels:
        """What the method reads; the plan's layers, where given, replace it."""
        return () if self.backbone.layers else self.contender.levels

    @property
    def names(self) -> dict[str, Any]:
        """The leaderboard's columns up to the metrics."""
        return columns(self.category.dataset, self.category.name, self.contender, self.seed, self.setting)


def setting(plan: Plan, contender: Contender) -> dict[str, str]:
    """The leaderboard's columns backbone, weights and image, with what is unusual."""
    backbone, layers = contender.backbone, contender.backbone.layers
    return {
        "backbone": backbones.title(backbone.name) + (f"(layers={','.join(map(str, layers))})" if layers else ""),
        "weights": (STAND_IN if contender.stand_in else "") + backbones.label(backbone),
        "image": contender.image.label + ("@original" if plan.evaluate_at == "original" else ""),
    }


def columns(dataset: str, category: str, contender: Contender, seed: int, shared: dict[str, str]) -> dict[str, Any]:
    """The leaderboard's columns up to the metrics."""
    return {"dataset": dataset, "category": category, **contender.names, **shared, "seed": seed}


def contenders(plan: Plan) -> list[Contender]:
    """Every combination that the plan compares. Raises PlanError for an unknown name or option."""
    networks = itertools.product(plan.every_backbone, plan.every_image)
    return [contender for backbone, image in networks for contender in _contenders(plan, backbone, image)]


def _contenders(plan: Plan, backbone: BackboneSpec, image: ImageSpec) -> list[Contender]:
    """Those on one backbone at one image size."""
    found = []
    parts = [backbone.label] * (len(plan.every_backbone) > 1) + [f"at {image.label}"] * (len(plan.every_image) > 1)
    chains = [(enhancer, chain(enhancer, backbone)) for enhancer in plan.enhancers]
    for protocol, (enhancer, chained), method in itertools.product(plan.protocols, chains, plan.methods):
        if not method.takes(enhancer):
            continue
        rules = registry.options(protocol, registry.protocol(protocol.name), "protocol")
        cls = registry.method(method.name)
        options = registry.options(method, cls.Options, "method")
        stand_in = _checked(chained, backbone, method.name, cls, options)
        names = {
            "protocol": protocol.name,
            "enhancer": chained.name,
            "method": method.name,
            "protocol_label": registry.label(protocol, rules),
            "enhancer_label": chained.label,
            "method_label": registry.label(method, options),
        }
        seeds = tuple(drawn for seed in plan.seeds for drawn in rules.seeds(seed))
        network = backbone, image, " ".join(parts)
        found.append(Contender(*network, rules, chained, cls, options, seeds, names, stand_in))
    for enhancer, _ in chains:
        if not any(method.takes(enhancer) for method in plan.methods):
            raise PlanError(f"enhancers: no method of the plan takes {enhancer.name}; remove it")
    for what in ("protocol", "enhancer", "method"):
        choices = len(getattr(plan, f"{what}s"))
        different = list(dict.fromkeys(contender.names[f"{what}_label"] for contender in found))
        if len(different) < choices:
            raise PlanError(f"{what}s: one of {', '.join(different)} stands twice in the plan; remove it")
    return found


def _checked(chained: Chain, backbone: BackboneSpec, name: str, method: type[Method], options: MethodOptions) -> bool:
    """Whether some weights of chain or method only stand in. Raises PlanError where they cannot work."""
    every = {*chained.objects, *chained.textures}
    try:
        method.check(options, backbone)
    except ValueError as error:
        raise PlanError(f"method '{name}': {error}") from None
    levels = method.reads(options)
    for level in levels:
        if isinstance(level, str) and level not in (TOKENS, *VECTORS) and block_of(level) is None:
            raise PlanError(f"method '{name}': it reads '{level}', which is no level; a block is such as 'block3'")
    vector = next((level for level in levels if level in VECTORS), None)
    for enhancer in every:
        if enhancer.on_maps and vector and not backbone.layers:
            mend = f"name the enhancers of {name} without it"
            raise PlanError(f"enhancer '{chained.name}': {name} reads '{vector}', which is no map to enhance; {mend}")
        try:
            enhancer.check(backbone, method)
        except ValueError as error:
            raise PlanError(f"enhancer '{chained.name}': {error}") from None
    stand_in = any(enhancer.stand_in(backbone) for enhancer in every)
    return stand_in or method.stand_in(options, backbone)


def expand(plan: Plan, categories: Sequence[Category], every: Sequence[Contender] | None = None) -> list[Cell]:
    """The cells of a plan over prepared categories, in the order of the plan. every: its `contenders`, where they are
    known."""
    every = contenders(plan) if every is None else every
    return [cell for category in categories for cell in _cells(plan, category, every)]


def _cells(plan: Plan, category: Category, every: Sequence[Contender]) -> Iterator[Cell]:
    splits: dict[tuple[Protocol, int], Images] = {}
    plain = {_compared(contender): contender for contender in every if contender.names["enhancer"] == NONE}
    pairs = ((contender, seed) for contender in every for seed in contender.seeds)
    for contender, seed in pairs:
        drawn = contender.protocol, seed if contender.protocol.seeded else 0
        if drawn not in splits:
            splits[drawn] = Images.of(category, contender.protocol, seed)
        images = splits[drawn]
        links = tuple(_links(contender, seed, category, images))
        other = plain.get(_compared(contender)) if links else None
        yield Cell(
            category,
            contender,
            seed,
            contender.backbone,
            contender.image,
            plan.evaluate_at,
            setting(plan, contender),
            images.train,
            images.test,
            images.texture,
            images.sources,
            links,
            f"{category.dataset}/{category.name} {other.title} seed {seed}" if other else "",
            alarms=plan.alarms,
            **_keys(plan, contender, seed, images, links, other is not None),
        )


@dataclass(frozen=True)
class Images:
    """What a protocol gives a model to train and to be judged on, and images of other categories for textures."""

    train: pd.DataFrame
    test: pd.DataFrame
    sources: tuple[ImageFile, ...]
    texture: bool
    content: dict[str, str]

    @classmethod
    def of(cls, category: Category, protocol: Protocol, seed: int) -> Images:
        """Raises PlanError where the protocol cannot be kept with this category."""
        try:
            parts = protocol.split(category.manifest, category.name, seed)
        except ValueError as error:
            raise PlanError(f"{category.dataset}: {error}") from None
        rows = [part if "variant" in part else part.assign(variant=0) for part in parts]
        # By content, so that renaming a file changes neither the fit's key nor the order of training.
        train, test = (part.sort_values(["sha256", "path", "variant"]) for part in rows)
        texture = category.only_textures if protocol.joint else category.texture
        sources = tuple(image_files(category.root, _foreign(category, train)))
        return cls(train, test, sources, texture, _content(train, test) | _apart(category, train))


def linked(cell: Cell, train: pd.DataFrame, test: pd.DataFrame) -> tuple[Link, ...]:
    """The enhancers of a cell, trained on other images."""
    images = Images(train, test, cell.sources, cell.texture, _content(train, test))
    return tuple(_links(cell.contender, cell.seed, cell.category, images))


def unseen(category: Category, train: pd.DataFrame) -> pd.DataFrame:
    """The normal images of the validation split, of the categories that a model is of."""
    rows = category.manifest
    chosen = (rows["split"] == "validation") & (rows["label"] == 0) & rows["category"].isin(set(train["category"]))
    return rows[chosen].assign(variant=0).sort_values(["sha256", "path"])


def units(train: pd.DataFrame) -> pd.Series[str]:
    """Of each row what is left out with it: its image with its few-shot versions, or all images of its group."""
    return train["sha256"] if "group" not in train else train["group"].where(train["group"] != "", train["sha256"])


def folds(train: pd.DataFrame, seed: int, most: int) -> list[npt.NDArray[np.bool_]]:
    """Masks of the rows that are left out in turn, at most so many, none where all are one unit: every unit once."""
    unit = units(train)
    names = sorted(set(unit))
    order = generator(seed, "folds").permutation(len(names))
    part = {names[place]: number % most for number, place in enumerate(order)}
    numbers = unit.map(part).to_numpy()
    return [numbers == number for number in range(min(most, len(names)))] if len(names) > 1 else []


def most_folds(contender: Contender) -> int:
    """How often a contender is fitted again to calibrate it, at most."""
    trains = contender.chain.parts or contender.method.passes(contender.options) is not None
    return FOLDS if trains else FINE_FOLDS


def _apart(category: Category, train: pd.DataFrame) -> dict[str, str]:
    """The images of the validation split, where there are any."""
    rows = unseen(category, train)
    return {"unseen": keys.digest(contents(rows))} if len(rows) else {}


def _compared(contender: Contender) -> tuple[str, str, str]:
    """What contenders with and without an enhancer have in common."""
    return contender.network, contender.names["protocol_label"], contender.names["method_label"]


def _foreign(category: Category, train: pd.DataFrame) -> pd.DataFrame:
    """Training images of the dataset's other categories that the model is not of, a few of them, by content."""
    rows = category.manifest
    others = rows[(rows["category"] != category.name) & (rows["split"] == "train")]
    others = others[~others["sha256"].isin(train["sha256"])]
    return others.drop_duplicates("sha256").sort_values("sha256")[:MOST_SOURCES]


def contents(rows: pd.DataFrame) -> list[str]:
    """What each row shows: the image by its sha256 and the rule it is read by, and which version of it."""
    pairs = zip(image_files(Path(), rows), rows["variant"], strict=True)
    return [f"{file.content}#{variant}" if variant else file.content for file, variant in pairs]


def by_path(rows: pd.DataFrame) -> tuple[int, ...]:
    """Places of the rows in the order of their paths, and of the versions of one image."""
    ordered = rows.reset_index(drop=True).sort_values(["path", "variant"])
    return tuple(int(place) for place in ordered.index)


def _content(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, str]:
    judged = test[["path", "label", "defect", "subset", "sha256", "mask_sha256"]]
    return {
        "train": keys.digest(contents(train)),
        "test": keys.digest(contents(test)),
        "judged": keys.digest(judged.to_numpy().tolist()),
    }


def _links(contender: Contender, seed: int, category: Category, images: Images) -> Iterator[Link]:
    """The enhancers of a cell, each with the key of its weights: what it was shown, and all that stands before it."""
    parent: Any = {"backbone": backbones.identity(contender.backbone), "image": contender.image.model_dump()}
    sources = [file.content for file in images.sources]
    for enhancer in contender.chain.of(images.texture):
        shown = {"texture": images.texture, "threshold": category.threshold, "sources": sources}
        host = [contender.names["method"], _options(contender), _fit_code(contender)]
        key = keys.digest(
            {
                "step": "enhance",
                **_enhancer(enhancer, contender.backbone),
                "parent": parent,
                "images": images.content["train"],
                "shown": shown if enhancer.synthesis else None,
                "levels": _levels(contender, enhancer) if enhancer.on_maps else None,
                "host": host if enhancer.wants_host else None,
                "seed": seed,
                "libraries": keys.libraries(),
            }
        )
        yield Link(type(enhancer), enhancer.options, key)
        parent = key


def _enhancer(enhancer: Enhancer, backbone: BackboneSpec) -> dict[str, Any]:
    return {
        "enhancer": enhancer.name,
        "options": enhancer.identity(backbone),
        "code": identity.enhancer(type(enhancer), enhancer.wants_host),
    }


def _levels(contender: Contender, enhancer: Enhancer | None = None) -> Any:
    asked = contender.levels
    return contender.backbone.layers or ["level", *(enhancer.levels(asked) if enhancer else asked)]


def _fit_code(contender: Contender) -> str:
    return identity.fit(contender.method, contender.method.selects_on_test(contender.options))


def _options(contender: Contender) -> dict[str, Any]:
    return contender.method.identity(contender.options, contender.backbone)


def _keys(
    plan: Plan, contender: Contender, seed: int, images: Images, links: Sequence[Link], compared: bool
) -> dict[str, str]:
    content = images.content
    model = {
        "method": contender.names["method"],
        "options": _options(contender),
        "backbone": backbones.identity(contender.backbone),
        "layers": _levels(contender),
        "image": contender.image.model_dump(),
        "libraries": keys.libraries(),
    }
    late = {name: model["options"][name] for name in contender.method.at_score}
    early = {name: value for name, value in model["options"].items() if name not in late}
    trained = {**model, "options": early, "enhancer": [link.key for link in links], "code": _fit_code(contender)}
    order = by_path(images.train) if contender.method.reads_order else None
    fitted: dict[str, Any] = {
        "step": "fit",
        "model": trained,
        "images": content["train"],
        "order": order,
        "seed": seed,
    }
    if contender.method.selects_on_test(contender.options):
        fitted["judged"] = [content["test"], content["judged"]]
    fit = keys.digest(fitted)
    scoring = identity.maps(contender.method)
    maps = keys.digest({"step": "maps", "fit": fit, "options": late, "images": content["test"], "code": scoring})
    cell = keys.digest(
        {
            "step": "cell",
            "maps": maps,
            "rows": content["judged"],
            "at": plan.evaluate_at,
            "metrics": sorted(registry.modules("metrics")),
            "code": identity.cell(),
        }
    )
    # How long an image takes depends on which modules there are, not on what they or the backbone learned.
    behind = [_enhancer(link.made(), contender.backbone) for link in links if link.enhancer.on_maps]
    built = {**model, "enhancer": behind, "compared": compared}
    latency = {"step": "latency", "model": built, "device": plan.device, "code": identity.latency(contender.method)}
    gallery = {"step": "gallery", "cell": cell, "code": identity.gallery()}
    return {
        "calibration_key": _calibration_key(contender, images, fit, late) if plan.alarms else "",
        "fit_key": fit,
        "maps_key": maps,
        "key": cell,
        "latency_key": keys.digest(latency),
        "gallery_key": keys.digest(gallery),
    }


def _calibration_key(contender: Contender, images: Images, fit: str, late: dict[str, Any]) -> str:
    """ "" where there are no images that the model has not seen, or its fit has looked at the test images."""
    unseen = images.content.get("unseen")
    if contender.method.selects_on_test(contender.options) or (unseen is None and units(images.train).nunique() < 2):
        return ""
    return keys.digest(
        {
            "step": "calibration",
            "fit": fit,
            "options": late,
            "unseen": unseen,
            "folds": most_folds(contender),
            "code": identity.calibration(contender.method),
        }
    )
