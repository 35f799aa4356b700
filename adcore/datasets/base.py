"""What a dataset is: a folder of images, and a listing of it as entries."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from adcore.core.names import composed

if TYPE_CHECKING:
    import pandas as pd

    from adcore.core.contracts import Threshold
    from adcore.core.plan import DatasetSpec

Progress = Callable[[int, int], None]  # (files done, files in all)

GOOD = "good"
VALIDATION = "validation"  # a split: normal images to calibrate with, which nobody fits on or is judged on
SPLITS = ("train", VALIDATION, "test")
OUTPUTS = ("artifacts", "data", "manifests", "mlartifacts", "mlruns", "results")  # our folders in a workspace
PASSED_OVER = "passed over"  # how the remark on files begins that are there and are not read


class DataError(Exception):
    """A dataset or category cannot be used; the message says which one and what to do."""


@dataclass(frozen=True)
class Entry:
    """One image of a dataset. `path` and `mask` are posix paths relative to the root.

    `split` is one of SPLITS; "" for what has none: `arrange` sets it, or `error` tells why there is none.
    An entry with an `error` and no split stands for a fault of the layout; its path may be a mask or a folder. One
    whose error begins with PASSED_OVER stops nothing; its category is "" where it lies in none. All names are as
    `adcore.core.names.written` gives them.
    `mask_rule` says what the values of the mask mean (adcore/vision/masks.py).
    Images of one `group` of a category, such as a part, tile or module, belong together: protocols draw whole groups.
    An image with "" is a group of its own.
    """

    path: str
    category: str
    split: str
    defect: str
    mask: str = ""
    subset: str = ""
    error: str = ""
    mask_rule: str = ""
    group: str = ""


@dataclass(frozen=True)
class Facts:
    """What a category holds as it was published; None or an empty mapping where that is not known for sure.

    Counts of images; `defects` by folder or kind; `size` in pixels, width and height; `validation` images for
    calibration.
    """

    train: int | None = None
    good: int | None = None
    defective: int | None = None
    defects: Mapping[str, int] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    validation: int | None = None


@dataclass(frozen=True)
class Archive:
    """The file in which the owners publish a set.

    `page` says in words where they offer it. `urls` are tried in order, and the file must have this `sha256`; both are
    empty where the owners document no lasting address.
    """

    name: str
    page: str
    urls: tuple[str, ...] = ()
    sha256: str = ""


def silent(done: int, total: int) -> None:
    """The progress display of those who want none."""


class Dataset(ABC):
    """A kind of dataset. One kind is one module of adcore/datasets, named as the kind."""

    kind: ClassVar[str]
    folder: ClassVar[str] = ""  # under WORKSPACE/data; default: the kind
    good: ClassVar[tuple[str, ...]] = ()  # the folders of good images, for kinds that tell them by a folder's name
    grouped: ClassVar[bool] = False  # True: the plan may say by `group` which images belong together
    textures: ClassVar[tuple[str, ...]] = ()
    thresholds: ClassVar[Mapping[str, Threshold]] = {}  # where synthetic defects may lie on an object; default: Otsu's
    facts: ClassVar[Mapping[str, Facts]] = {}  # of the categories of a public set; validation compares with them
    archive: ClassVar[Archive | None] = None
    licence: ClassVar[str] = ""
    consent: ClassVar[bool] = False  # True: the licence restricts use, so a download needs --accept-licence
    note: ClassVar[str] = ""
    show_images: ClassVar[bool] = True  # False: the licence keeps its images out of the README

    def __init__(self, spec: DatasetSpec, data: Path) -> None:
        """`data` is WORKSPACE/data."""
        self.spec = spec
        self.data = data

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def root(self) -> Path:
        """The folder of the images: the one that the plan names, else WORKSPACE/data/KIND."""
        if self.spec.root is not None:
            return self.spec.root
        return self.data / (self.folder or self.kind)

    def prepare(self, progress: Progress = silent) -> None:
        """Put the files in place, unless the plan names a root: that is only read. Safe to repeat and to interrupt.

        Raises DataError when the files cannot be had or the root is missing.
        """
        if self.spec.root is None:
            self.fetch(progress)
        self.require_root()

    def require_root(self) -> None:
        """Raise DataError unless the folder of the images is there and can be read as the plan says."""
        if self.spec.good and not self.good:
            reason = f"kind {self.kind} does not tell good images by the name of a folder"
            raise DataError(f"dataset {self.name}: {reason}; leave `good` away")
        if self.spec.group and not self.grouped:
            reason = f"kind {self.kind} does not take groups from the plan"
            raise DataError(f"dataset {self.name}: {reason}; leave `group` away")
        mend = "put the images there or correct its `root`"
        try:
            if not self.root.is_dir():
                raise DataError(f"dataset {self.name}: the folder {self.root} does not exist; {mend}")
            with os.scandir(self.root):
                pass
        except OSError as error:
            reason = f"the folder {self.root} cannot be read: {error.strerror}"
            raise DataError(f"dataset {self.name}: {reason}; {mend}") from None

    def fetch(self, progress: Progress) -> None:  # noqa: B027  (a kind without files of its own fetches nothing)
        """Write the files of this kind under `root`, each by `write_file`."""

    @property
    def good_folders(self) -> tuple[str, ...]:
        """The folders of good images: those of the kind, and those that the plan adds."""
        return *self.good, *(self.spec.good or ())

    def categories_in(self, root: Path) -> dict[str, Path]:
        """The known categories that lie in a folder, by name; {} where it is no copy of the set."""
        return {name: root / name for name in self.facts if (root / name).is_dir()}

    @abstractmethod
    def entries(self) -> list[Entry]:
        """List the images from the layout alone, sorted; no image is opened. Raises DataError for an unusable root."""

    def arrange(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Choose rows and splits where that needs the content (`sha256`); default: all rows as listed."""
        return frame

    def is_texture(self, category: str) -> bool:
        textures = self.textures if self.spec.textures is None else self.spec.textures
        return composed(category) in map(composed, textures)
