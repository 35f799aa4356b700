"""Checks of a manifest with Great Expectations: what is wrong with which file, and whether it stops the category.

Great Expectations takes four seconds to import, so that is done where it is used; its analytics are switched off.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from adcore.datasets import _doubts
from adcore.datasets.base import PASSED_OVER, SPLITS, VALIDATION, Dataset, Facts
from adcore.datasets.leaks import with_lookalikes, with_twins

if TYPE_CHECKING:
    from great_expectations.data_context import EphemeralDataContext
    from great_expectations.expectations import Expectation

Severity = Literal["error", "warning"]

# what a row's `error` may hold: its beginning, and the name of the check
_FAULTS = {
    "no such category": "category exists",
    "empty category": "category not empty",
    "folder cannot be read": "folder readable",
    "image cannot be read": "image readable",
    "no mask": "mask present",
    "mask without image": "mask belongs to an image",
    "second mask": "one mask an image",
    "mask cannot be read": "mask readable",
    "mask of another size": "mask as large as its image",
    "mask is not binary": "mask binary",
    "mask is empty": "mask not empty",
    "mask of a good image": "good image without marks",
    "mask value unknown": "mask value explained",
    "no defects_config.json": "defects_config.json present",
}

# the same of its `warning`
_DOUBTS = {
    "turned by EXIF": "image and mask in one frame",
    "hidden by transparency": "image opaque",
    "one colour": "image of several colours",
    "nearly black": "image not black",
    "marks nearly everything": "mask of a part",
}
DIM, CUT = "16-bit range used", "16-bit range not cut"
CROPPED, VANISHED, THINNED = "defect within the crop", "mask kept by the reduction", "regions kept by the reduction"
SHARE = "no twins in training"
SAME, ALIKE = "train and test disjoint", "train and test look different"  # the checks that find twins in training
APART, UNLIKE = "validation disjoint from the rest", "validation looks different"  # thresholds rest on it
READ, NAMED = "every file read", "good images in folders of good images"
# checks whose warnings stand beside the results: they change what numbers mean
NOTED = frozenset({READ, NAMED, *_DOUBTS.values(), DIM, CUT, CROPPED, VANISHED, THINNED})

# words that mean good, as folders are called in English and German; and words beside them that change nothing
_GOOD = {"good", "ok", "okay", "io", "normal", "nominal", "healthy", "intact", "pass", "passed", "gut"}
_GOOD |= {"nodefect", "nodefects", "defectfree", "nondefective", "noanomaly", "anomalyfree"}
_NEUTRAL = {"image", "images", "part", "parts", "sample", "samples", "all", "new", "old"}


# column of the manifest with its twins -> check, severity, message
_TWINS: dict[str, tuple[str, Severity, str]] = {
    "twin": (SAME, "error", "the same content as {twin}; remove one of them"),
    "calibrator": (APART, "warning", "the same content as the validation image {calibrator}; remove one of them"),
    "contradiction": (
        "good and defective disjoint",
        "error",
        "the same content as {contradiction}, with the other label; remove the wrong one",
    ),
    "parted": ("groups not cut", "warning", "of the same group as {parted}, which is of another split"),
    "repeat": ("no repeated image", "warning", "the same content as {repeat}"),
    "near_train": (ALIKE, "warning", "looks like the training image {near_train}"),
    "near_calibrator": (UNLIKE, "warning", "looks like the validation image {near_calibrator}"),
    "near_good": ("good and defective look different", "warning", "looks like the good image {near_good}"),
    "near_repeat": ("no image looks repeated", "warning", "looks like {near_repeat}"),
}


@dataclass(frozen=True)
class Problem:
    """One finding. An error stops its category, a warning does not. `path` is "" where no single file is to blame, and
    `twin` the other image where two are too much alike."""

    category: str
    severity: Severity
    check: str
    path: str
    message: str
    twin: str = ""


@dataclass(frozen=True)
class _Check:
    """An expectation, and what to say of a row that fails it (a format string over the row).

    `twin` is the column, if any, that names another image.
    """

    name: str
    severity: Severity
    message: str
    expectation: Expectation
    twin: str = ""


def validate(frame: pd.DataFrame, dataset: Dataset, docs: Path | None = None) -> list[Problem]:
    """Check the manifest of a dataset, in one run over its images and one over its categories.

    Returns the problems sorted by category, errors first. With `docs`, the Data Docs of Great Expectations are written
    into that folder (index.html; their styles need a network, `validation_page` does not).
    """
    problems: list[Problem] = []
    context = _context(docs)
    images = with_lookalikes(with_twins(frame), dataset.root)
    categories = _compared(images, dataset.facts)
    problems += _run(context, f"{dataset.name}-images", images, _image_checks(), ["category", "path", "defect"])
    if len(categories):
        columns = ["category", "size_list", "mode_list", "test", "twin_share"]
        problems += _run(context, f"{dataset.name}-categories", categories, _category_checks(), columns)
    if docs is not None:
        context.build_data_docs()
    return sorted(problems, key=lambda p: (p.category, p.severity, p.check, p.path))


def twinned(problems: Iterable[Problem], frame: pd.DataFrame) -> set[tuple[str, str]]:
    """(category, path) of the test images that have a twin in training, to the bit or to the eye."""
    testing = set(frame["path"][frame["split"] == "test"])
    return {(p.category, p.path) for p in problems if p.check in (SAME, ALIKE) and p.path in testing}


def _image_checks() -> Iterator[_Check]:
    import great_expectations.expectations as gxe
    from great_expectations.expectations.row_conditions import Column

    for beginning, name in _FAULTS.items():
        pattern = gxe.ExpectColumnValuesToNotMatchRegex(column="error", regex=rf"(?:^|; ){beginning}")
        yield _Check(name, "error", "{error}", pattern)
    read = gxe.ExpectColumnValuesToNotMatchRegex(column="error", regex=f"^{PASSED_OVER}")
    yield _Check(READ, "warning", "{error}", read)
    known = gxe.ExpectColumnValuesToMatchRegex(
        column="error", regex=f"^$|^{PASSED_OVER}|(?:^|; )(?:{'|'.join(_FAULTS)})"
    )
    yield _Check("no other fault", "error", "{error}", known)
    for beginning, name in _DOUBTS.items():
        pattern = gxe.ExpectColumnValuesToNotMatchRegex(column="warning", regex=rf"(?:^|; ){beginning}")
        yield _Check(name, "warning", "{warning}", pattern)
    sound, training, aside = Column("error") == "", Column("split") == "train", Column("split") == VALIDATION
    splits = gxe.ExpectColumnValuesToBeInSet(column="split", value_set=list(SPLITS), row_condition=sound)
    yield _Check("split known", "error", f"its split is '{{split}}', none of {', '.join(SPLITS)}", splits)
    labels = gxe.ExpectColumnValuesToBeInSet(column="label", value_set=[0, 1])
    yield _Check("label known", "error", "its label is {label}, neither 0 nor 1", labels)
    normal = gxe.ExpectColumnValuesToBeInSet(column="label", value_set=[0], row_condition=training)
    moved = "a defective image among the training images; move it, or, if {defect} means good, write `good: [{defect}]`"
    yield _Check("training images normal", "error", f"{moved} in the dataset's entry", normal)
    calibrating = gxe.ExpectColumnValuesToBeInSet(column="label", value_set=[0], row_condition=aside)
    mend = "a defective image among the validation images, which are to be normal; move it into test"
    yield _Check("validation images normal", "error", mend, calibrating)
    for column, (name, severity, message) in _TWINS.items():
        none = gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[""])
        yield _Check(name, severity, message, none, column)


def _category_checks() -> Iterator[_Check]:
    import great_expectations.expectations as gxe
    from great_expectations.expectations.row_conditions import Column

    some, one, tested = {"min_value": 1}, {"max_value": 1}, {"min_value": 1, "row_condition": Column("test") > 0}
    alone = "metrics that need both classes stay empty"
    checks: list[tuple[str, Severity, str, str, dict[str, Any]]] = [
        ("training images", "error", "no training images: put normal ones into train/good", "train", some),
        ("test images", "error", "no test images: put some into test/good and test/DEFECT", "test", some),
        ("good test images", "warning", f"only defective images in test: {alone}", "good", tested),
        ("defective test images", "warning", f"only good images in test: {alone}", "defective", tested),
        ("one size", "warning", "images of several sizes, {size_list}: all are resized to one", "sizes", one),
        ("one kind of pixels", "warning", "images of several kinds, {mode_list}: all become RGB", "modes", one),
        (
            SHARE,
            "warning",
            "{twins} of {test} test images ({twin_share}) have a twin in training, to the bit or to the eye: what is "
            "measured on them is too good",
            "twins",
            {"max_value": 0},
        ),
    ]
    for name, severity, message, column, bounds in checks:
        yield _Check(name, severity, message, gxe.ExpectColumnValuesToBeBetween(column=column, **bounds))
    named = gxe.ExpectColumnValuesToBeInSet(column="ask", value_set=[""])
    mend = "images in test/{ask} count as defective; if they are good, write `good: [{ask}]` in the dataset's entry"
    yield _Check(NAMED, "warning", mend, named)
    for name, column in ((DIM, "dim"), (CUT, "cut")):
        none = gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[""])
        yield _Check(name, "warning", f"{{{column}}}", none)
    published = gxe.ExpectColumnValuesToBeInSet(column="differs", value_set=[""])
    yield _Check("as published", "warning", "{differs}: results do not compare with published ones", published)


def _compared(images: pd.DataFrame, facts: Mapping[str, Facts]) -> pd.DataFrame:
    """What `per_category` counts, the test images with a twin in training, and what differs from the published set."""
    found = per_category(images)
    if found.empty:
        return found
    twins = images[(images["split"] == "test") & ((images["twin"] != "") | (images["near_train"] != ""))]
    found["twins"] = found["category"].map(twins.groupby("category").size()).fillna(0).astype(int)
    found["twin_share"] = [
        f"{twin / max(test, 1):.1%}" for twin, test in zip(found["twins"], found["test"], strict=True)
    ]
    bad = images[(images["split"] == "test") & (images["label"] == 1)]
    defects = bad.groupby("category")["defect"].unique()
    found["ask"] = [", ".join(filter(means_good, defects.get(category, ()))) for category in found["category"]]
    found["dim"] = [_doubts.dim(images[images["category"] == category]) for category in found["category"]]
    found["cut"] = [_doubts.cut(images[images["category"] == category]) for category in found["category"]]
    found["differs"] = [_differs(row, images, facts.get(row["category"], Facts())) for row in found.to_dict("records")]
    return found


def means_good(folder: str) -> bool:
    """Whether the name of a folder says that its images are good: `OK`, `normal_2`, `no defects`, `Good images`."""
    words = [word for word in re.split(r"[\W\d_]+", folder.casefold()) if word]
    rest = [word for word in words if word not in _NEUTRAL]
    return bool(rest) and ("".join(rest) in _GOOD or all(word in _GOOD for word in rest))


def _differs(counts: Mapping[Hashable, Any], images: pd.DataFrame, facts: Facts) -> str:
    """What a category has otherwise than its published counts and size; "" where nothing that is known differs."""
    rows = images[(images["category"] == counts["category"]) & (images["split"] == "test")]
    found: dict[str, object] = {"train": counts["train"], "test good": counts["good"]}
    known: dict[str, object] = {"train": facts.train, "test good": facts.good}
    found[VALIDATION], known[VALIDATION] = counts[VALIDATION], facts.validation
    if facts.defects:
        found |= rows["defect"][rows["label"] == 1].value_counts().to_dict()
        known |= dict.fromkeys(found.keys() - known.keys(), 0) | dict(facts.defects)
    else:
        found["test defective"], known["test defective"] = counts["defective"], facts.defective
    different = [
        f"{name} has {found.get(name, 0)} images and {expected} are published"
        for name, expected in known.items()
        if expected is not None and found.get(name, 0) != expected
    ]
    if facts.size and counts["size"] and counts["size"] != "{}x{}".format(*facts.size):
        different.append("most are {} and {}x{} is published".format(counts["size"], *facts.size))
    return ", ".join(different)


def per_category(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a category that has images: counts, and the sizes and modes that occur in training and test."""
    rows = []
    for category, every in frame[frame["split"].isin(SPLITS)].groupby("category"):
        images = every[every["split"] != VALIDATION]
        test, sound = images[images["split"] == "test"], images[images["width"] > 0]
        sizes = sound["width"].astype(str) + "x" + sound["height"].astype(str)
        rows.append(
            {
                "category": category,
                "train": int((images["split"] == "train").sum()),
                VALIDATION: len(every) - len(images),
                "test": len(test),
                "good": int((test["label"] == 0).sum()),
                "defective": int((test["label"] == 1).sum()),
                "masks": int((images["mask"] != "").sum()),
                "sizes": sizes.nunique(),
                "modes": sound["mode"].nunique(),
                "size": sizes.mode().get(0, ""),
                "size_list": counted(sizes),
                "mode_list": counted(sound["mode"]),
                "defect_list": counted(test["defect"][test["label"] == 1]),
            }
        )
    return pd.DataFrame(rows)


def counted(values: pd.Series[str]) -> str:
    """`RGB (40), L (2)`: the five most frequent values."""
    counts = values.value_counts()
    named = [f"{value} ({count})" for value, count in counts.items()]
    return ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")


def _context(docs: Path | None) -> EphemeralDataContext:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    sites: dict[str, Any] = {}
    if docs is not None:
        for old in ("expectations", "validations"):  # pages of earlier runs, which the new index does not list
            shutil.rmtree(docs / old, ignore_errors=True)
        backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())}
        index = {"class_name": "DefaultSiteIndexBuilder"}
        sites["docs"] = {"class_name": "SiteBuilder", "store_backend": backend, "site_index_builder": index}
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        data_docs_sites=sites,
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )
    return gx.get_context(project_config=config, mode="ephemeral")


def _run(
    context: EphemeralDataContext, name: str, frame: pd.DataFrame, checks: Iterator[_Check], columns: list[str]
) -> list[Problem]:
    """Validate one frame; `columns` tell its rows apart and are at hand for the messages."""
    import great_expectations as gx

    known = {check.name: check for check in checks}
    suite = gx.ExpectationSuite(name=name)
    for check in known.values():
        severity = "critical" if check.severity == "error" else "warning"
        told = {"meta": {"check": check.name}, "severity": severity}
        suite.add_expectation(check.expectation.copy(update=told))
    batch = context.data_sources.add_pandas(name).add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
    validation = gx.ValidationDefinition(name=name, data=batch, suite=context.suites.add(suite))
    result = context.validation_definitions.add(validation).run(
        batch_parameters={"dataframe": frame},
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": columns},
    )
    return [problem for outcome in result.results if not outcome.success for problem in _problems(outcome, known)]


def _problems(outcome: Any, known: dict[str, _Check]) -> Iterator[Problem]:
    check = known[outcome.expectation_config.meta["check"]]
    if "unexpected_index_list" not in outcome.result:
        raise RuntimeError(f"check '{check.name}' could not be made: {outcome.exception_info}")
    for row in outcome.result["unexpected_index_list"]:
        twin = row[check.twin] if check.twin else ""
        message = check.message.format(**row)
        path = row.get("path", "")
        blamed = path if path != row["category"] else ""  # a whole category
        yield Problem(row["category"], check.severity, check.name, blamed, message, twin)
