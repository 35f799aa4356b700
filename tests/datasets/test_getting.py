"""Getting public sets: downloads cut, false or dead, archives that mean harm, and copies that lie somewhere."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from adcore.core.plan import DatasetSpec
from adcore.datasets import archives, download, getting, mvtec_ad
from adcore.datasets.archives import unpacked
from adcore.datasets.base import Archive, DataError, Dataset, silent
from adcore.engine import registry
from tests.datasets import layouts

CONTENT = bytes(range(256)) * 2000  # half a megabyte
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves files by path; `cuts` bytes into an answer the connection drops; paths in `plain` know no Range."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.plain: set[str] = set()
        self.cuts: list[int] = []
        self.asked: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range", "")
        self.asked.append((request.path, wanted))
        content = self.files.get(request.path)
        if content is None:
            request.send_error(404)
            return
        start = 0
        if wanted and request.path not in self.plain:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(content)}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            request.send_response(200)
        rest = content[start:]
        request.send_header("Content-Length", str(len(rest)))
        request.end_headers()
        request.wfile.write(rest[: self.cuts.pop(0)] if self.cuts else rest)

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    found = Server()
    found.files["/set.tar"] = CONTENT
    yield found
    found.close()


def test_a_download_appears_whole_and_tells_how_far_it_is(server: Server, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    target = tmp_path / "deep/set.tar"
    download.download([f"{server.url}/set.tar"], SHA256, target, lambda done, total: heard.append((done, total)))
    assert target.read_bytes() == CONTENT and heard[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in target.parent.iterdir()] == ["set.tar"]


def test_a_cut_connection_is_resumed_where_it_was_cut(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 50_000]
    download.download([f"{server.url}/set.tar"], SHA256, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ["", "bytes=100000-", "bytes=150000-"]


def test_a_later_run_continues_what_an_earlier_one_left(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tar.part").write_bytes(CONTENT[:300_000])
    download.download([f"{server.url}/set.tar"], SHA256, tmp_path / "set.tar")
    assert server.asked == [("/set.tar", "bytes=300000-")]
    assert (tmp_path / "set.tar").read_bytes() == CONTENT


def test_a_part_that_is_complete_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tar.part").write_bytes(CONTENT)
    download.download([f"{server.url}/set.tar"], SHA256, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tar.part").write_bytes(CONTENT + b"more")
    download.download([f"{server.url}/set.tar"], SHA256, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT


def test_a_server_that_cannot_continue_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.plain.add("/set.tar")
    server.cuts = [100_000]
    download.download([f"{server.url}/set.tar"], SHA256, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT and len(server.asked) == 2


def test_a_missing_source_falls_back_to_the_next(server: Server, tmp_path: Path) -> None:
    urls = [f"{server.url}/gone.tar", "http://127.0.0.1:1/set.tar", f"{server.url}/set.tar"]
    download.download(urls, SHA256, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT


def test_a_wrong_checksum_falls_back_to_the_next(server: Server, tmp_path: Path) -> None:
    server.files["/false.tar"] = CONTENT[:-1] + b"?"
    urls = [f"{server.url}/false.tar", f"{server.url}/set.tar"]
    download.download(urls, SHA256, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT


def test_without_a_source_left_each_reason_is_told_and_nothing_is_there(server: Server, tmp_path: Path) -> None:
    server.files["/false.tar"] = b"something else"
    server.files["/cut.tar"] = CONTENT
    server.cuts = [14, 0, 0, 0, 0, 0, 0]
    urls = [f"{server.url}/false.tar", f"{server.url}/cut.tar", f"{server.url}/gone.tar", "ftp://x/set.tar"]
    with pytest.raises(DataError) as caught:
        download.download(urls, SHA256, tmp_path / "set.tar")
    for reason in ("its checksum is", "the connection was cut", "it answers 404", "it is no http address"):
        assert reason in str(caught.value)
    assert not (tmp_path / "set.tar").exists()


def test_a_source_that_sends_too_much_is_left(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LARGEST", 1000)
    with pytest.raises(DataError, match="more than 1,000"):
        download.download([f"{server.url}/set.tar"], SHA256, tmp_path / "set.tar")


# archives

Entries = list[tuple[tarfile.TarInfo, bytes]]


def regular(name: str, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def special(name: str, kind: bytes, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b""


def tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as opened:  # type: ignore[call-overload]
        for info, content in members:
            opened.addfile(info, io.BytesIO(content))
    return path


def zipped(path: Path, *names: str, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            opened.writestr(info, b"x")
    return path


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.zip"])
def test_every_kind_of_archive_is_unpacked(tmp_path: Path, name: str) -> None:
    source = tmp_path / "files"
    (source / "deep/er").mkdir(parents=True)
    (source / "deep/er/a.txt").write_text("a")
    (source / "b.txt").write_text("b")
    archive = tmp_path / name
    if name.endswith("zip"):
        with zipfile.ZipFile(archive, "w") as opened:
            for path in sorted(source.rglob("*")):
                opened.write(path, path.relative_to(source))
    else:
        with tarfile.open(archive, f"w:{name.removeprefix('a.tar').removeprefix('.')}") as opened:  # type: ignore[call-overload]
            opened.add(source, ".")
    heard: list[tuple[int, int]] = []
    with unpacked(archive, tmp_path / "data", lambda done, total: heard.append((done, total))) as folder:
        assert (folder / "deep/er/a.txt").read_text() == "a" and (folder / "b.txt").read_text() == "b"
        assert stat.S_IMODE((folder / "b.txt").stat().st_mode) & 0o7111 == 0
    assert not list((tmp_path / "data").iterdir())
    assert heard and all(0 < done <= total for done, total in heard)


HOSTILE: dict[str, Callable[[Path], Path]] = {
    "absolute": lambda p: tar(p, regular("fine"), regular("/tmp/evil")),
    "parent": lambda p: tar(p, regular("fine"), regular("a/../../evil")),
    "symbolic link": lambda p: tar(p, special("link", tarfile.SYMTYPE, "/etc"), regular("link/evil")),
    "hard link": lambda p: tar(p, regular("fine"), special("link", tarfile.LNKTYPE, "fine")),
    "device": lambda p: tar(p, special("device", tarfile.CHRTYPE)),
    "fifo": lambda p: tar(p, special("pipe", tarfile.FIFOTYPE)),
    "backslash": lambda p: tar(p, regular("..\\evil")),
    "zip parent": lambda p: zipped(p, "fine", "../evil"),
    "zip absolute": lambda p: zipped(p, "/evil"),
    "zip drive": lambda p: zipped(p, "C:/evil"),
    "line break": lambda p: tar(p, regular("a\nb")),
    "escape sequence": lambda p: tar(p, regular("\x1b[31mred")),
    "zip escape sequence": lambda p: zipped(p, "\x1b]0;title\x07"),
    "no text": lambda p: tar(p, regular("\udcff")),
    "deep folder": lambda p: tar(p, special("d/" * 1849, tarfile.DIRTYPE)),
    "deep file": lambda p: tar(p, regular("d/" * 1849 + "evil")),
    "zip deep": lambda p: zipped(p, "d/" * 1849 + "evil"),
    "zip link": lambda p: zipped(p, "link", mode=stat.S_IFLNK | 0o777),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_member_is_named_and_nothing_stays(tmp_path: Path, what: str) -> None:
    archive = HOSTILE[what](tmp_path / "a.archive")
    with (
        pytest.raises(DataError, match=r"a\.archive is not unpacked: its member"),
        unpacked(archive, tmp_path / "data"),
    ):
        pytest.fail("it was unpacked")
    assert not list((tmp_path / "data").iterdir())
    assert not list(tmp_path.rglob("*evil*")) and not Path("/tmp/evil").exists()


def test_a_name_that_occurs_twice(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", regular("same", b"1"), regular("./same", b"2"))
    with pytest.raises(DataError, match="holds same twice"), unpacked(archive, tmp_path / "data"):
        pytest.fail("it was unpacked")


def test_an_oversized_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb: small on disk, large unpacked."""
    monkeypatch.setattr(archives, "LARGEST", 100_000)
    bomb = tar(tmp_path / "bomb.tar.xz", regular("a", bytes(60_000)), regular("b", bytes(60_000)), mode="w:xz")
    assert bomb.stat().st_size < 1000
    with pytest.raises(DataError, match="more than 100,000 bytes"), unpacked(bomb, tmp_path / "data"):
        pytest.fail("it was unpacked")
    zipped_bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(zipped_bomb, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a", bytes(200_000))
    with pytest.raises(DataError, match="more than 100,000 bytes"), unpacked(zipped_bomb, tmp_path / "data"):
        pytest.fail("it was unpacked")
    assert not list((tmp_path / "data").iterdir())


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST", 3)
    archive = tar(tmp_path / "a.tar", *(regular(str(i)) for i in range(4)))
    with pytest.raises(DataError, match="more than 3 files"), unpacked(archive, tmp_path / "data"):
        pytest.fail("it was unpacked")


def test_too_many_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST", 3)
    for archive in (
        tar(tmp_path / "a.tar", *(special(str(i), tarfile.DIRTYPE) for i in range(4))),
        zipped(tmp_path / "a.zip", *(f"{i}/" for i in range(4))),
    ):
        with pytest.raises(DataError, match="more than 3 files and folders"), unpacked(archive, tmp_path / "data"):
            pytest.fail("it was unpacked")
    assert not list((tmp_path / "data").iterdir())


UNPACK = """
import resource, sys
from pathlib import Path
from adcore.datasets.archives import unpacked
from adcore.datasets.base import DataError
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
try:
    with unpacked(Path(sys.argv[1]), Path(sys.argv[2])):
        print("unpacked")
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_header_larger_than_memory(tmp_path: Path, kind: bytes, name: str) -> None:
    """Only its length is written, six GiB of it; a process with one GiB of memory ends with one sentence."""
    info = tarfile.TarInfo("long")
    info.type, info.size = kind, 6 * 2**30
    archive = tmp_path / name
    header = info.tobuf(tarfile.GNU_FORMAT)
    if name.endswith("gz"):
        archive.write_bytes(gzip.compress(header))
    else:
        archive.write_bytes(header)
        os.truncate(archive, 6 * 2**30 + 1024)
    done = subprocess.run(
        [sys.executable, "-c", UNPACK, archive, tmp_path / "data"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "damaged" in done.stdout
    assert "6,442,450,944 bytes" in done.stdout
    assert not list((tmp_path / "data").iterdir())


def test_an_archive_with_a_name_as_long_as_a_file_system_allows(tmp_path: Path) -> None:
    archive = tar(tmp_path / f"{'n' * 251}.tar", regular("fine"))
    with unpacked(archive, tmp_path / "data") as folder:
        assert (folder / "fine").read_bytes() == b"x"


def test_a_member_whose_name_is_too_long_for_the_disk(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", regular("n" * 300))
    with pytest.raises(DataError, match="File name too long"), unpacked(archive, tmp_path / "data"):
        pytest.fail("it was unpacked")


@pytest.mark.parametrize("name", ["a.tar", "a.tar.xz", "a.tar.gz", "a.tar.bz2", "a.zip"])
def test_a_truncated_archive(tmp_path: Path, name: str) -> None:
    noise = os.urandom(50_000)
    if name == "a.zip":
        with zipfile.ZipFile(tmp_path / name, "w") as opened:
            opened.writestr("x", noise)
    else:
        tar(tmp_path / name, regular("x", noise), mode=f"w:{name.removeprefix('a.tar').removeprefix('.')}")
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"), unpacked(tmp_path / name, tmp_path / "data"):
        pytest.fail("it was unpacked")
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize("content", [b"", b"<html>please log in</html>", lzma.compress(b"no tar")])
def test_a_file_that_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar.xz").write_bytes(content)
    with pytest.raises(DataError, match="damaged"), unpacked(tmp_path / "a.tar.xz", tmp_path / "data"):
        pytest.fail("it was unpacked")


def test_what_a_killed_process_left_is_removed_and_others_are_not(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, busy = tmp_path / f".unpacked.{ended.pid}.00ff", tmp_path / f".unpacked.{os.getpid()}.00ff"
    for folder in (left, busy):
        folder.mkdir()
    with unpacked(tar(tmp_path / "a.tar", regular("x")), tmp_path):
        assert not left.exists() and busy.exists()


# putting a set in place


class Offered(mvtec_ad.MvtecAd):
    """MVTec AD, as if it had a public address; set by the test."""

    archive: ClassVar[Archive] = Archive("set.tar", "the page of its owners")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """An unpacked copy, two folders deep."""
    layouts.mvtec_ad(tmp_path / "mine/downloads/mvtec")
    return tmp_path / "mine"


@pytest.fixture
def archive(copy: Path, tmp_path: Path) -> Path:
    with tarfile.open(tmp_path / "mvtec.tar.xz", "w:xz") as opened:
        opened.add(copy / "downloads", "mvtec_anomaly_detection")
    return tmp_path / "mvtec.tar.xz"


@pytest.fixture
def place(tmp_path: Path) -> Callable[..., list[str]]:
    """Get the set below the temporary folder; what was told meanwhile."""

    def put(given: Path | None = None, accepted: bool = False, kind: type[Dataset] = Offered) -> list[str]:
        told: list[str] = []
        dataset = kind(DatasetSpec(name="mvtec_ad"), tmp_path / "data")
        getting.get(dataset, tmp_path / "archives", given, accepted, told.append, lambda title: silent)
        return told

    return put


def test_from_an_archive(place, archive: Path, tmp_path: Path) -> None:
    assert place(archive) == ["mvtec_ad: licence CC BY-NC-SA 4.0"]
    dataset = Offered(DatasetSpec(name="mvtec_ad", categories=("bottle",)), tmp_path / "data")
    dataset.prepare()
    assert len(dataset.entries()) == 12 and not any(entry.error for entry in dataset.entries())
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mvtec_ad"]
    assert place() == []  # in place: nothing is fetched
    with pytest.raises(DataError, match="is there already; remove it"):
        place(archive)


def test_from_a_folder_which_is_linked_to(place, copy: Path, tmp_path: Path) -> None:
    told = place(copy)
    assert "keep that folder" in told[-1]
    assert (tmp_path / "data/mvtec_ad").readlink() == copy / "downloads/mvtec"
    dataset = Offered(DatasetSpec(name="mvtec_ad", categories=("bottle",)), tmp_path / "data")
    dataset.prepare()
    assert len(dataset.entries()) == 12
    copy.rename(tmp_path / "moved")  # now the link leads nowhere
    with pytest.raises(DataError, match="does not exist; run"):
        dataset.prepare()
    place(tmp_path / "moved")
    dataset.prepare()


@pytest.mark.parametrize("kind", ["archive", "folder"])
def test_from_something_else(place, tmp_path: Path, kind: str) -> None:
    (tmp_path / "else/holiday").mkdir(parents=True)
    given = tmp_path / "else" if kind == "folder" else tar(tmp_path / "else.tar", regular("holiday/beach.jpg"))
    with pytest.raises(DataError, match=r"is no copy of mvtec_ad: no category such as bottle, cable, capsule"):
        place(given)
    assert not (tmp_path / "data/mvtec_ad").exists()
    assert not list((tmp_path / "data").glob(".*"))
    with pytest.raises(DataError, match="does not exist; give --from"):
        place(tmp_path / "nowhere")


def test_a_download_needs_consent_where_the_licence_restricts(
    place, server: Server, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archive.read_bytes()
    server.files["/set.tar"] = content
    known = Archive("set.tar", "the page", (f"{server.url}/set.tar",), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(Offered, "archive", known)
    with pytest.raises(DataError, match=r"CC BY-NC-SA 4\.0, restricts use.*--accept-licence"):
        place()
    assert not server.asked
    told = place(accepted=True)
    assert (tmp_path / "data/mvtec_ad/bottle").is_dir() and "may be deleted" in told[-1]


def test_a_dead_source_says_what_to_fetch_and_where_to_put_it(
    place, server: Server, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archive.read_bytes()
    known = Archive("set2.tar", "the page of its owners", (f"{server.url}/gone",), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(Offered, "archive", known)
    target = tmp_path / "archives/set2.tar"
    with pytest.raises(DataError) as caught:
        place(accepted=True)
    for part in (
        "it answers 404",
        "fetch set2.tar by hand from the page of its owners",
        f"put it at {target}",
        "--from",
    ):
        assert part in str(caught.value)
    target.write_bytes(content[:-1])
    with pytest.raises(DataError, match="has the wrong checksum; remove it"):
        place(accepted=True)
    target.write_bytes(content)  # as the error says
    place()
    assert (tmp_path / "data/mvtec_ad/bottle").is_dir()


def test_a_set_without_an_address(place) -> None:
    with pytest.raises(DataError, match=r"no lasting address; fetch set\.tar by hand from the page of its owners"):
        place()


def test_a_kind_that_makes_its_own_files(place, copy: Path) -> None:
    assert place(kind=registry.dataset("generated")) == []
    with pytest.raises(DataError, match="makes its files itself; leave --from away"):
        place(copy, kind=registry.dataset("generated"))


@pytest.mark.parametrize("kind", sorted(layouts.WRITERS))
def test_what_is_offered_can_be_checked(kind: str) -> None:
    cls = registry.dataset(kind)
    assert cls.archive is not None and cls.archive.name and cls.archive.page and cls.licence
    assert bool(cls.archive.urls) == bool(cls.archive.sha256)
    assert all(url.startswith("https://") for url in cls.archive.urls)
    assert cls.consent == ("NC" in cls.licence or "not stated" in cls.licence)


def test_dvc_passes_over_the_public_sets() -> None:
    lines = (Path(__file__).parents[2] / ".dvcignore").read_text().splitlines()
    kinds = {kind for kind in registry.modules("datasets") if registry.dataset(kind).archive is not None}
    assert len(kinds) == 14 and {f"/data/{kind}" for kind in kinds} <= set(lines)
