"""A plan in a workspace: where things are, which categories are ready, which cells there are."""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from adcore.core import keys
from adcore.core.contracts import FeatureMethod, Levels, level_order
from adcore.core.disk import room
from adcore.core.errors import RemoteGone
from adcore.core.names import composed, located, printable
from adcore.core.plan import DatasetSpec, ImageSpec, Plan, PlanError, expanded, nearest
from adcore.core.remote import configured
from adcore.core.store import Store
from adcore.datasets import manifest
from adcore.datasets.base import GOOD, DataError, Dataset, Facts, Progress, silent
from adcore.datasets.cautions import cautions
from adcore.datasets.sight import losses
from adcore.datasets.validation import NOTED, Problem, twinned, validate
from adcore.engine import cells, identity, registry
from adcore.engine.cells import Category, Cell, Contender
from adcore.engine.chains import Chain

if TYPE_CHECKING:
    from adcore.engine.calibration import Calibrator


LONGEST = 440  # bytes of a workspace's path: SQLite takes at most 512 for a database and its journal


class WorkspaceError(Exception):
    """The workspace cannot be written to."""


@dataclass(frozen=True)
class Failure:
    """A category, or a whole dataset (category `*`), that has no cells, and why."""

    dataset: str
    category: str
    error: str

    @property
    def text(self) -> str:
        """`elpv/mono: why`."""
        return f"{self.dataset}/{self.category}: {self.error}"

    @classmethod
    def of(cls, spec: DatasetSpec, error: str) -> list[Failure]:
        """A dataset that cannot be used at all: one failure a category, as far as the plan names them."""
        return [cls(spec.name, category, error) for category in spec.categories or ("*",)]


@dataclass(frozen=True)
class Layout:
    """Where everything of a workspace lies."""

    workspace: Path

    @classmethod
    def of(cls, workspace: str | Path) -> Layout:
        """The layout of a workspace as a person names it. Raises PlanError for a `~` that stands for nothing."""
        return cls(expanded(workspace).resolve())

    @property
    def cache(self) -> Path:
        return self.workspace / ".cache" / "adcore"

    @property
    def results(self) -> Path:
        return self.workspace / "results"

    @property
    def manifests(self) -> Path:
        return self.workspace / "manifests"

    @property
    def artifacts(self) -> Path:
        return self.workspace / "artifacts"

    def store(self) -> Store:
        """This workspace's, over the one that machines share where the environment names it."""
        return Store(self.cache / "store", [self.artifacts], configured())

    def check(self) -> None:
        """Raise WorkspaceError unless files can be written here, and found again by their names.

        Raises DiskFull where there is no room for any, and RemoteError where a shared store cannot be used."""
        name, length = printable(str(self.workspace)), len(os.fsencode(self.workspace))
        if name != str(self.workspace):
            raise WorkspaceError(f"the path of the workspace, {name}, is not printable text; give another --workspace")
        if length > LONGEST:
            reason = (
                f"the path of the workspace has {length} bytes, and SQLite opens no files below more than {LONGEST}"
            )
            raise WorkspaceError(f"{reason}; give another --workspace")
        probe = self.cache / "writable"
        with room(self.workspace):
            try:
                probe.parent.mkdir(parents=True, exist_ok=True)
                probe.write_text("")
            except OSError as error:
                reason = f"cannot write to the workspace {self.workspace}: {error.strerror or error}"
                raise WorkspaceError(f"{reason}; give another --workspace") from None
        if remote := configured():
            remote.check()


class Bench:
    """A plan in a workspace. `manifests` maps a dataset's name to the key of its manifest, as `prepare` gave it."""

    def __init__(self, plan: Plan, workspace: Path, manifests: dict[str, str] | None = None) -> None:
        self.plan = plan
        self.layout = Layout(workspace)
        self.store = self.layout.store()
        self.manifests = manifests or {}
        self._frames: dict[str, pd.DataFrame] = {}
        self._problems: dict[str, list[Problem]] = {}

    @cached_property
    def text(self) -> tuple[str, str, str]:
        """Plan, workspace and manifests as plain text, from which `reopened` makes the same Bench in any process."""
        return self.plan.model_dump_json(), str(self.layout.workspace), json.dumps(self.manifests, sort_keys=True)

    def dataset(self, name: str) -> Dataset:
        spec = next(spec for spec in self.plan.datasets if spec.name == name)
        return make_dataset(spec, self.layout)

    @cached_property
    def computer(self) -> Calibrator:
        from adcore.engine.calibration import Calibrator

        return Calibrator(self.plan, self.store, self.layout.cache / "bank")

    @cached_property
    def _prepared(self) -> tuple[list[Category], list[Failure]]:
        ready: list[Category] = []
        failures: list[Failure] = []
        for spec in self.plan.datasets:
            if spec.name in self.manifests:
                found, lost = self._categories(spec)
                ready += found
                failures += lost
        return ready, failures

    @property
    def failures(self) -> list[Failure]:
        """Categories that did not pass validation."""
        return self._prepared[1]

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells of the categories that passed validation."""
        return cells.expand(self.plan, self._prepared[0], self.contenders)

    @cached_property
    def contenders(self) -> list[Contender]:
        """Every combination that the plan compares, expanded once."""
        return cells.contenders(self.plan)

    @cached_property
    def by_title(self) -> dict[str, Cell]:
        return {cell.title: cell for cell in self.cells}

    def plain(self, cell: Cell) -> Cell | None:
        """The same cell without an enhancer, where the plan has it."""
        return self.by_title[cell.plain] if cell.plain else None

    def levels(self, cell: Cell) -> Levels:
        """The levels to extract for a cell: every one that some method of the plan reads features of, so that one pass
        gives them all; where an enhancer stands behind the maps, those of the cell's own method."""
        if any(link.enhancer.on_maps for link in cell.links):
            return cell.levels
        reading = [each for each in self.cells if issubclass(each.contender.method, FeatureMethod)]
        levels = {level for each in reading if each.backbone == cell.backbone for level in each.levels}
        return tuple(sorted(levels, key=level_order))

    @cached_property
    def twins(self) -> dict[str, set[tuple[str, str]]]:
        """Dataset -> (category, path) of its test images with a twin in training."""
        return {name: twinned(self.problems(name), self.frame(name)) for name in self.manifests}

    @cached_property
    def textures(self) -> dict[str, set[str]]:
        """Dataset -> its categories that are textures."""
        found: dict[str, set[str]] = {}
        for category in self._prepared[0]:
            found.setdefault(category.dataset, set()).update([category.name] * category.texture)
        return found

    @cached_property
    def chains(self) -> dict[str, Chain]:
        """Label -> enhancers in a row."""
        return {contender.chain.label: contender.chain for contender in self.contenders}

    def picked(self) -> pd.DataFrame:
        """The images that protocols have picked by seed: supports of few-shot models, test images moved to training."""
        columns = ["dataset", "category", "protocol_label", "seed", "role", "path"]
        found: dict[tuple[Any, ...], None] = {}
        for cell in self.cells:
            where = cell.category.dataset, cell.category.name, cell.contender.names["protocol_label"], cell.seed
            chosen = cell.contender.protocol.chosen(cell.category.manifest, cell.category.name, cell.seed)
            found |= dict.fromkeys((*where, role, path) for role, path in chosen)
        return pd.DataFrame(list(found), columns=columns)

    def remarks(self) -> dict[str, str]:
        """What stands beside the results of each dataset: caveat, licence, leaks, and what is doubtful in its files."""
        return {
            name: "; ".join(filter(None, (note, self.leaks(name), *self.cautions(name))))
            for name, note in self.notes().items()
        }

    def notes(self) -> dict[str, str]:
        """Caveat and licence of each dataset, and what the plan says of how its files are read."""
        datasets = {spec.name: self.dataset(spec.name) for spec in self.plan.datasets}
        licences = {name: f"licence: {d.licence}" if d.licence else "" for name, d in datasets.items()}
        leaky = self._selected_on_test()
        return {
            name: "; ".join(filter(None, (d.note, licences[name], leaky, *_readings(d.spec))))
            for name, d in datasets.items()
        }

    def _selected_on_test(self) -> str:
        labels = dict.fromkeys(c.names["method_label"] for c in self.contenders if c.method.selects_on_test(c.options))
        why = "kept the epoch that was best on the test images: only to be held against numbers that were printed so"
        return f"{', '.join(labels)} {why}" if labels else ""

    def problems(self, name: str) -> list[Problem]:
        """What validation found in a prepared dataset, and what the plan's image size loses of its masks."""
        if name not in self._problems:
            self._problems[name] = self._found(name)
        return self._problems[name]

    def _found(self, name: str) -> list[Problem]:
        key, dataset, frame = self.manifests[name], self.dataset(name), self.frame(name)
        lost = [problem for image in self.plan.every_image for problem in self._lost(name, image)]
        return problems(self.store, key, dataset, frame) + lost

    def _lost(self, name: str, image: ImageSpec) -> list[Problem]:
        """What an image size loses of a dataset's masks."""
        root, at = self.dataset(name).root, self.plan.evaluate_at
        seen = {"manifest": self.manifests[name], "image": image.model_dump(), "at": at, "code": identity.sight()}
        return _kept(self.store, name, seen, lambda: losses(self.frame(name), root, image, at))

    def cautions(self, name: str) -> list[str]:
        """The warnings of a dataset that its numbers must not be read without, a sentence each."""
        if name not in self.manifests:
            return []
        return cautions(problem for problem in self.problems(name) if problem.check in NOTED)

    def leaks(self, name: str) -> str:
        """How many of a dataset's test images were seen in training; '' for none."""
        if name not in self.manifests:
            return ""
        frame = self.frame(name)
        tested = frame["category"][frame["split"] == "test"].value_counts()
        twins = sorted(Counter(category for category, _ in self.twins[name]).items())
        listed = ", ".join(f"{count} of {tested[it]} of {it} ({count / tested[it]:.1%})" for it, count in twins)
        return f"test images with a twin in training: {listed} (see validation.html)" if listed else ""

    def frame(self, name: str) -> pd.DataFrame:
        """The whole manifest of a prepared dataset, read once; nobody changes it."""
        key = self.manifests[name]
        if key not in self._frames:
            self._frames[key] = manifest.read_manifest(self.store.path("manifest", key) / "manifest.csv")
        return self._frames[key]

    def _categories(self, spec: DatasetSpec) -> tuple[list[Category], list[Failure]]:
        dataset = self.dataset(spec.name)
        frame = self.frame(spec.name)
        errors: dict[str, list[str]] = {}
        for problem in self.problems(spec.name):
            if problem.severity == "error":
                errors.setdefault(problem.category, []).append(": ".join(filter(None, (problem.path, problem.message))))
        failures = [Failure(spec.name, category, _first(messages)) for category, messages in errors.items()]
        # A joint model, or textures of synthetic defects, must not come from a category that is refused.
        sound = frame[~frame["category"].isin(errors)]
        capped = manifest.cap(sound, spec.max_train, spec.max_test)
        names = [name for name in spec.categories or sorted({*frame["category"]} - {""}) if name not in errors]
        textures = frozenset(name for name in set(capped["category"]) if dataset.is_texture(name))
        ready = [
            Category(spec.name, name, dataset.root, capped, textures, dataset.thresholds.get(name)) for name in names
        ]
        return ready, failures


@functools.lru_cache(maxsize=4)
def reopened(plan: str, workspace: str, manifests: str) -> Bench:
    """A Bench from plain text, once a process: what tasks are given, wherever they run."""
    return Bench(Plan.model_validate_json(plan), Path(workspace), json.loads(manifests))


def make_dataset(spec: DatasetSpec, layout: Layout) -> Dataset:
    """The dataset of a plan entry. Raises PlanError for an unknown kind."""
    return kind_of(spec)(spec, layout.workspace / "data")


def foreseen(spec: DatasetSpec, layout: Layout) -> list[Category]:
    """The categories of a public set that is not in place, by its published counts: to plan with, never to compute."""
    dataset = make_dataset(spec, layout)
    counts = {name: facts for name, facts in dataset.facts.items() if facts.train and facts.good and facts.defective}
    if not counts:
        return []
    frame = pd.concat([_stand_ins(*item) for item in counts.items()], ignore_index=True)
    frame = manifest.cap(frame, spec.max_train, spec.max_test)
    textures = frozenset(name for name in counts if dataset.is_texture(name))
    names = [name for name in counts if spec.categories is None or name in spec.categories]
    return [Category(spec.name, name, dataset.root, frame, textures, dataset.thresholds.get(name)) for name in names]


def _stand_ins(category: str, facts: Facts) -> pd.DataFrame:
    """Rows of a manifest that has as many images as a category was published with."""
    parts = (("train", 0, facts.train), ("test", 0, facts.good), ("test", 1, facts.defective))
    rows = [(split, label, index) for split, label, count in parts for index in range(count or 0)]
    frame = pd.DataFrame(rows, columns=["split", "label", "index"])
    path = category + "/" + frame.split + "/" + frame.label.astype(str) + "/" + frame["index"].astype(str)
    kinds = frame.label.map({0: GOOD, 1: "defect"})
    frame = frame.assign(path=path, category=category, defect=kinds, sha256=path)
    return frame.reindex(columns=manifest.COLUMNS, fill_value="")


def kind_of(spec: DatasetSpec) -> type[Dataset]:
    """The class of a plan entry's kind. Raises PlanError for an unknown kind, and for a root of none."""
    if spec.kind is None and spec.root is not None and spec.name not in registry.modules("datasets"):
        mend = f"write `kind: folder`, or another of {', '.join(sorted(registry.modules('datasets')))}"
        raise PlanError(f"dataset '{spec.name}' has a root but no kind, which says how it is laid out; {mend}")
    return registry.dataset(spec.of_kind)


def prepare(spec: DatasetSpec, layout: Layout, progress: Progress = silent) -> str:
    """Put a dataset in place and read all of it: the key of its manifest. Raises DataError.

    The manifest goes into the store, and to WORKSPACE/manifests/NAME.csv for people, git and DVC. That file keeps the
    lines of categories that this plan does not name, so that a smaller plan changes nothing in it.
    """
    make_dataset(spec, layout).prepare(progress)
    return read(spec, layout)


def read(spec: DatasetSpec, layout: Layout) -> str:
    """Read a dataset that is in place: the key of its manifest. Raises DataError."""
    dataset = make_dataset(spec, layout)
    dataset.require_root()
    frame = manifest.build(dataset, layout.cache / "files.sqlite")
    if frame.empty:
        raise DataError(f"dataset {spec.name}: no images under {dataset.root}; docs/datasets.md shows the layout")
    _require_textures(dataset, set(frame["category"]))
    key = keys.digest({"manifest": manifest.text_of(frame)})
    store = layout.store()
    if not store.has("manifest", key):
        with store.write("manifest", key, {"dataset": spec.name}) as folder:
            manifest.write(frame, folder / "manifest.csv")
    listing = layout.manifests / f"{spec.name}.csv"
    if spec.categories is not None and listing.is_file():
        frame = manifest.with_others(frame, listing, dataset.root)
    manifest.write(frame, listing)
    return key


def _require_textures(dataset: Dataset, listed: set[str]) -> None:
    """Raise DataError for a texture of the plan that is no category: it would pass for an object."""
    known = {composed(name) for name in (*listed, *dataset.facts)}
    for name in dataset.spec.textures or ():
        if composed(name) not in known and not located(dataset.root, name).is_dir():
            raise DataError(f"dataset {dataset.name}: textures: there is no category '{name}'{nearest(name, listed)}")


def _readings(spec: DatasetSpec) -> list[str]:
    """How its files are read, where that is not as by default."""
    return [f"{name}: {rule.text}" for name, rule in (("masks", spec.masks), ("pixels", spec.pixels)) if rule.text]


def problems(store: Store, key: str, dataset: Dataset, frame: pd.DataFrame) -> list[Problem]:
    """What validation found in a manifest; computed once for its content."""
    content = {"manifest": key, "code": identity.validation()}
    return _kept(store, dataset.name, content, lambda: validate(frame, dataset))


def _kept(store: Store, dataset: str, content: dict[str, Any], find: Callable[[], list[Problem]]) -> list[Problem]:
    """What `find` gives, from the store where it was found before."""
    key = keys.digest(content)
    try:
        if not store.has("validation", key):
            with store.write("validation", key, {"dataset": dataset}) as folder:
                found = [asdict(problem) for problem in find()]
                (folder / "problems.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    except RemoteGone:  # which ends no run that has only its pages to write
        if not store.here("validation", key).exists():
            return find()
    path = store.path("validation", key) / "problems.json"
    return [Problem(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def _first(messages: list[str]) -> str:
    more = f" (and {len(messages) - 1} more; see results/validation.html)" if len(messages) > 1 else ""
    return messages[0] + more
