"""The feature bank: one run of the backbone an image set, exact values, within its budget, whatever is killed."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from adcore.core.disk import DiskFull
from adcore.core.plan import BackboneSpec, ImageSpec
from adcore.datasets.manifest import build
from adcore.features import bank as bank_module
from adcore.features.bank import Bank, ImageSet, Live, Mapped
from adcore.features.extractor import Extraction, Extractor, decoded
from adcore.vision.images import ChangedError

BACKBONE, IMAGE = BackboneSpec(name="resnet18", weights="random"), ImageSpec(resize=64)
# float32 bytes an image: 64 x 16 x 16 at level 1, 128 x 8 x 8 at level 2
LEVEL1, LEVEL2 = 65536, 32768


extractor = functools.cache(Extractor)  # building one takes longer than anything that is tested here


def extraction(*levels: int, image: ImageSpec = IMAGE) -> Extraction:
    return Extraction(BACKBONE, image, levels)


def image_set(parts: Path, *folders: str) -> ImageSet:
    paths = tuple(sorted(path for folder in folders for path in (parts / folder).iterdir()))
    return ImageSet(paths, tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths))


@pytest.fixture(autouse=True)
def built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_module, "Extractor", extractor)


@pytest.fixture
def bolts(parts: Path) -> ImageSet:
    return image_set(parts, "bolt/train/good")


@pytest.fixture
def others(parts: Path) -> ImageSet:
    return image_set(parts, "cloth/train/good")


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return Bank(tmp_path / "bank", 1.0, "cpu", "code")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of images in each run of a backbone; batches hold two images."""
    seen: list[int] = []
    real = Extractor.__call__

    def counted(self: Extractor, batch: torch.Tensor) -> list[torch.Tensor]:
        seen.append(len(batch))
        return real(self, batch)

    monkeypatch.setattr(Extractor, "__call__", counted)
    monkeypatch.setattr(bank_module, "decoded", functools.partial(decoded, batch=2))
    monkeypatch.setattr(bank_module, "BATCH", 2)
    return seen


def whole(source: Mapped | Live) -> list[torch.Tensor]:
    return [torch.cat(level) for level in zip(*source, strict=True)]


def direct(images: ImageSet, *levels: int, image: ImageSpec = IMAGE) -> list[torch.Tensor]:
    """Features without a bank, in one batch."""
    return extractor(extraction(*levels, image=image), "cpu")(next(decoded(images.files, image, batch=100)))


def same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def files(bank: Bank) -> set[str]:
    return {path.name for path in bank.root.rglob("*") if path.is_file() and path.parent.name != "locks"}


def test_methods_with_other_levels_share_one_extraction(bank: Bank, bolts: ImageSet, runs: list[int]) -> None:
    bank.source(bolts, extraction(1, 2, 3))  # all that the plan's methods read
    for levels in ((1, 2, 3), (2, 3), (2,), (3, 1)):
        source = bank.source(bolts, extraction(*levels))
        assert isinstance(source, Mapped) and len(whole(source)) == len(levels)
    assert runs == [2, 2, 2]
    assert files(bank) == {"level1.npy", "level2.npy", "level3.npy", "seconds.json"}


def test_only_what_is_missing_is_extracted(bank: Bank, bolts: ImageSet, runs: list[int]) -> None:
    bank.source(bolts, extraction(2, 3))
    folder = next(path for path in bank.root.iterdir() if path.name != "locks")
    before = (folder / "level2.npy").stat().st_mtime_ns
    assert same(whole(bank.source(bolts, extraction(1, 2))), direct(bolts, 1, 2))
    assert (folder / "level2.npy").stat().st_mtime_ns == before and sum(runs) == 12 + 6


def test_level_0_is_kept_and_read_as_any_other(bank: Bank, bolts: ImageSet, runs: list[int]) -> None:
    bank.source(bolts, extraction(2))
    source = bank.source(bolts, extraction(0, 2))
    assert sum(runs) == 12 and source.shapes == [(64, 16, 16), (128, 8, 8)]
    assert same(whole(source), direct(bolts, 0, 2))
    assert files(bank) == {"level0.npy", "level2.npy", "seconds.json"}


def test_the_images_themselves_can_be_had(tmp_path: Path, bank: Bank, bolts: ImageSet) -> None:
    pictures = next(decoded(bolts.files, IMAGE, batch=100))
    for source in (
        bank.source(bolts, extraction(1)),
        Bank(tmp_path / "none", 0, "cpu", "code").source(bolts, extraction(1)),
    ):
        assert torch.equal(source.images.at([4, 1]), pictures[[4, 1]])


def test_values_are_those_of_the_backbone(bank: Bank, bolts: ImageSet) -> None:
    source = bank.source(bolts, extraction(1, 2, 3))
    expected = direct(bolts, 1, 2, 3)
    assert same(whole(source), expected) and same(whole(source), expected)  # iterable again and again
    assert same(source.at([4, 0, 4]), [level[[4, 0, 4]] for level in expected])
    assert len(source) == 6 and source.shapes == [(64, 16, 16), (128, 8, 8), (256, 4, 4)]
    assert all(level.dtype == torch.float32 for batch in source for level in batch)


def test_batches_are_writable_and_apart_from_the_files(bank: Bank, bolts: ImageSet) -> None:
    source = bank.source(bolts, extraction(1))
    next(iter(source))[0].zero_()
    assert same(whole(source), direct(bolts, 1))


def test_other_content_or_preprocessing_or_weights_is_another_entry(
    bank: Bank, bolts: ImageSet, others: ImageSet, runs: list[int]
) -> None:
    bank.source(bolts, extraction(3))
    bank.source(ImageSet(bolts.paths[::-1], bolts.hashes), extraction(3))  # a renamed file is the same content
    assert sum(runs) == 6
    bank.source(ImageSet(others.paths[:1] + bolts.paths[1:], others.hashes[:1] + bolts.hashes[1:]), extraction(3))
    bank.source(bolts, extraction(3, image=ImageSpec(resize=64, crop=48)))
    bank.source(bolts, Extraction(BackboneSpec(name="resnet26", weights="random"), IMAGE, (3,)))
    assert sum(runs) == 4 * 6


def test_a_file_that_changed_is_never_extracted_under_its_old_content(
    tmp_path: Path, bank: Bank, own_parts: Path
) -> None:
    images = image_set(own_parts, "bolt/train/good")
    victim = images.paths[3]
    victim.write_bytes(images.paths[4].read_bytes())
    few_shot = ImageSet(images.paths, tuple(f"{sha256}#1" for sha256 in images.hashes), (1,) * len(images.paths))
    for wanted in (images, few_shot):
        with pytest.raises(ChangedError, match=str(victim)):
            bank.source(wanted, extraction(1))
        with pytest.raises(ChangedError, match=str(victim)):
            whole(Bank(tmp_path / "none", 0, "cpu", "code").source(wanted, extraction(1)))
    assert not files(bank)


def test_layers_of_the_plan_have_their_own_names(bank: Bank, bolts: ImageSet) -> None:
    layers = Extraction(BACKBONE.model_copy(update={"layers": (1, 2)}), IMAGE, ())  # timm's 1 is level 1: stride 4
    bank.source(bolts, extraction(2))
    assert same(whole(bank.source(bolts, layers)), direct(bolts, 1, 2))
    assert {"level2.npy", "layer1.npy", "layer2.npy"} <= files(bank)


def test_progress_and_seconds(bank: Bank, bolts: ImageSet, runs: list[int]) -> None:
    heard: list[float] = []
    first = bank.source(bolts, extraction(1), heard.append).seconds
    assert heard == pytest.approx([1 / 3, 2 / 3, 1])
    assert bank.source(bolts, extraction(1), heard.append).seconds == first > 0 and len(heard) == 3
    second = bank.source(bolts, extraction(2)).seconds
    assert bank.source(bolts, extraction(1)).seconds == first  # what other levels took is theirs
    assert bank.source(bolts, extraction(1, 2)).seconds == pytest.approx(first + second)


def budget(images: float, tmp_path: Path) -> Bank:
    """A bank for the level-1 features of so many images, and the small files beside them."""
    return Bank(tmp_path / "bank", (images * LEVEL1 + 3000) / 1e9, "cpu", "code")


def test_the_longest_unused_goes_first_and_stays_readable(tmp_path: Path, parts: Path, runs: list[int]) -> None:
    bank = budget(9, tmp_path)
    sets = [
        image_set(parts, f"{category}/test/{defect}") for category in ("bolt", "cloth") for defect in ("good", "square")
    ]
    sources = []
    for number, images in enumerate(sets[:3]):
        sources.append(bank.source(images, extraction(1)))
        os.utime(bank._folder(images, extraction(1)), (number, number))  # used in this order, a second apart
    bank.source(sets[0], extraction(1))  # used again
    assert sum(runs) == 9
    bank.source(sets[3], extraction(1))
    assert [bank._folder(images, extraction(1)).exists() for images in sets] == [True, False, True, True]
    assert same(whole(sources[1]), direct(sets[1], 1))
    held = sum(path.stat().st_size for path in bank.root.rglob("*") if path.is_file())
    assert held <= bank.disk_bytes


def test_beyond_the_budget_the_backbone_runs_at_every_pass(tmp_path: Path, bolts: ImageSet, runs: list[int]) -> None:
    mapped = Bank(tmp_path / "large", 1.0, "cpu", "code").source(bolts, extraction(1, 2))
    bank = budget(5, tmp_path)
    live = bank.source(bolts, extraction(1, 2))
    assert isinstance(live, Live) and not files(bank)
    runs.clear()
    assert same(whole(live), whole(mapped)) and sum(runs) == 6
    assert same(whole(live), whole(mapped)) and sum(runs) == 12
    assert len(live) == len(mapped) and live.shapes == mapped.shapes
    for a, b in zip(live.at([5, 2]), mapped.at([5, 2]), strict=True):
        torch.testing.assert_close(a, b)


def test_a_source_beyond_the_budget_evicts_nothing(tmp_path: Path, bolts: ImageSet, parts: Path) -> None:
    bank = budget(5, tmp_path)
    kept = image_set(parts, "cloth/test/good")
    bank.source(kept, extraction(1))
    bank.source(bolts, extraction(1))
    assert bank._folder(kept, extraction(1)).exists()


def test_levels_added_later_count_with_those_that_are_there(tmp_path: Path, bolts: ImageSet) -> None:
    bank = budget(7, tmp_path)
    bank.source(bolts, extraction(1))
    added = bank.source(bolts, extraction(1, 2))  # half as much again: 9 images' worth
    assert isinstance(added, Live) and same(whole(added), direct(bolts, 1, 2))
    held = sum(path.stat().st_size for path in bank.root.rglob("*") if path.is_file())
    assert held <= bank.disk_bytes


def test_a_budget_of_nothing(tmp_path: Path, bolts: ImageSet) -> None:
    assert isinstance(Bank(tmp_path / "bank", 0.0, "cpu", "code").source(bolts, extraction(1)), Live)


def test_the_bank_may_be_emptied_at_any_time(bank: Bank, bolts: ImageSet) -> None:
    source = bank.source(bolts, extraction(1))
    for path in sorted(bank.root.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert same(whole(source), whole(bank.source(bolts, extraction(1))))


@pytest.mark.parametrize("damage", [b"", b"no array of numbers", None])
def test_damaged_features_are_extracted_again(bank: Bank, bolts: ImageSet, damage: bytes | None) -> None:
    bank.source(bolts, extraction(1, 2))
    level1, seconds = (next(bank.root.rglob(name)) for name in ("level1.npy", "seconds.json"))
    content = level1.read_bytes()
    level1.write_bytes(content[: len(content) // 2] if damage is None else damage)
    seconds.write_bytes(b"{")
    assert same(whole(bank.source(bolts, extraction(1, 2))), direct(bolts, 1, 2))
    assert level1.read_bytes() == content


def test_an_error_leaves_no_part(bank: Bank, bolts: ImageSet, runs: list[int]) -> None:
    def fail(done: float) -> None:
        if done > 0.5:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        bank.source(bolts, extraction(1, 2), fail)
    assert not files(bank)
    assert same(whole(bank.source(bolts, extraction(1, 2))), direct(bolts, 1, 2))


def test_the_whole_file_is_reserved_at_once(bank: Bank, bolts: ImageSet, runs: list[int]) -> None:
    """A hole in it would be a SIGBUS when the disk is full."""
    held: list[bool] = []

    def look(done: float) -> None:
        status = next(bank.root.rglob("level1.part")).stat()
        held.append(status.st_blocks * 512 >= status.st_size > 6 * LEVEL1)

    bank.source(bolts, extraction(1), look)
    assert held == [True] * 3


def test_a_full_disk_is_an_error_that_leaves_no_part(
    bank: Bank, bolts: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DiskFull, match=r"no space left in .*bank: .* bytes are wanted"):
        bank.source(bolts, extraction(1))
    assert not files(bank)


# Its own interpreter, not a fork of one that has run torch and faiss threads.
EXTRACT = """
import os, pickle, signal, sys
from pathlib import Path
from adcore.features import bank
from adcore.features.bank import Bank, ImageSet
from adcore.features.extractor import Extraction
from adcore.core.plan import BackboneSpec, ImageSpec

bank.BATCH = 2
bank.decoded.__defaults__ = (2, ())
root, deadly, paths, hashes = Path(sys.argv[1]), sys.argv[2] == "killed", *pickle.loads(bytes.fromhex(sys.argv[3]))
extraction = Extraction(BackboneSpec(name="resnet18", weights="random"), ImageSpec(resize=64), (1, 2))
calls = []
progress = (lambda done: os.kill(os.getpid(), signal.SIGKILL)) if deadly else calls.append
Bank(root, 1.0, "cpu", "code").source(ImageSet(paths, hashes), extraction, progress)
print(len(calls))
"""


def extracting(root: Path, images: ImageSet, how: str) -> subprocess.Popen[str]:
    content = pickle.dumps((images.paths, images.hashes)).hex()
    return subprocess.Popen([sys.executable, "-c", EXTRACT, str(root), how, content], stdout=subprocess.PIPE, text=True)


def test_a_kill_in_the_middle_leaves_no_features_behind(bank: Bank, bolts: ImageSet, runs: list[int]) -> None:
    process = extracting(bank.root, bolts, "killed")
    process.communicate(timeout=100)
    assert process.returncode == -signal.SIGKILL
    assert files(bank) == {"level1.part", "level2.part"}
    assert same(whole(bank.source(bolts, extraction(1, 2))), direct(bolts, 1, 2))
    assert files(bank) == {"level1.npy", "level2.npy", "seconds.json"}


def test_processes_that_want_the_same_features_extract_them_once(bank: Bank, bolts: ImageSet, runs: list[int]) -> None:
    processes = [extracting(bank.root, bolts, "alive") for _ in range(2)]
    told = [process.communicate(timeout=100)[0] for process in processes]
    assert sorted(told) == ["0\n", "3\n"]
    assert same(whole(bank.source(bolts, extraction(1, 2))), direct(bolts, 1, 2))


def test_what_is_being_written_is_not_evicted(
    tmp_path: Path, bolts: ImageSet, others: ImageSet, runs: list[int]
) -> None:
    """Two plans in one workspace: one needs room while the other is half through."""
    halfway, go_on = threading.Event(), threading.Event()

    def pause(done: float) -> None:
        halfway.set()
        assert go_on.wait(30)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(budget(7, tmp_path).source, bolts, extraction(1), pause)
        assert halfway.wait(30)
        second = budget(7, tmp_path).source(others, extraction(1))
        go_on.set()
        assert same(whole(first.result(30)), direct(bolts, 1))
    assert same(whole(second), direct(others, 1))


def test_a_folder_that_another_run_evicts_meanwhile_does_no_harm(
    tmp_path: Path, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = budget(4, tmp_path)
    first, second = image_set(parts, "bolt/test/good"), image_set(parts, "cloth/test/good")
    bank.source(first, extraction(1))
    victim, real = bank._folder(first, extraction(1)), Path.is_dir

    def seen_and_gone(path: Path) -> bool:
        there = real(path)
        if path == victim:
            shutil.rmtree(victim)
            monkeypatch.undo()
        return there

    monkeypatch.setattr(Path, "is_dir", seen_and_gone)
    assert same(whole(bank.source(second, extraction(1))), direct(second, 1))


def test_it_serves_the_images_of_a_manifest(bank: Bank, prepared_frame: tuple[Path, ImageSet]) -> None:
    root, images = prepared_frame
    source = bank.source(images, extraction(3))
    loaded = np.concatenate([batch.numpy() for batch in decoded(images.files, IMAGE)])
    assert len(source) == len(loaded) == 24 and all(path.is_relative_to(root) for path in images.paths)


@pytest.fixture
def prepared_frame(parts: Path, tmp_path: Path) -> tuple[Path, ImageSet]:
    from adcore.core.plan import DatasetSpec
    from adcore.datasets.folder import Folder

    frame = build(Folder(DatasetSpec(name="parts", root=parts), tmp_path), tmp_path / "files.sqlite")
    return parts, ImageSet(tuple(parts / path for path in frame["path"]), tuple(frame["sha256"]))
