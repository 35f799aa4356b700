"""One CUDA card beside the CPU of the same machine, in one table: `python -m benchmarks.gpu [--to FILE]`.

Every row is one piece of work in two forms, run one after the other in this process, and says whether both gave the
same. `x` says how often faster the second form is. Whatever cannot be run is in the table with its reason. What each
part measures: docs/benchmarks.md, "On a GPU". Exit code 1: forms that do not agree, or a part that failed; 2: no card.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from adcore.core.contracts import silent
from adcore.core.devices import is_accelerator
from adcore.core.store import Store
from adcore.datasets import manifest
from adcore.engine import cells, evaluation, latency
from adcore.engine.cells import Category, Cell
from adcore.engine.compute import Computer
from benchmarks import gpu_parts as parts
from benchmarks.gpu_session import HEADER, LEVELS, Computed, Row, Session, apart, farthest, once, reason, within
from benchmarks.measuring import print_conditions, print_table


def compute(session: Session, name: str, device: str, listed: Sequence[Cell], half: bool = False) -> Computed:
    """Extract, fit, score and judge these cells in a store of their own; `half`: with features under bf16 autocast."""
    plan = session.plan.model_copy(update={"device": device})
    done = Computed(Computer(plan, Store(session.folder / name / "store"), session.folder / name / "bank"))
    network = done.computer.bank.extractor(done.computer._extraction(listed[0], LEVELS)).network
    if half:
        network.model = parts.Halved(network.model, device)
    done.seconds["extract"] = once(lambda: done.computer.extract(listed[0], LEVELS, silent), device)[0]
    for cell in listed:
        method = cell.contender.names["method"]
        done.seconds[f"{method} fit"] = once(lambda: done.computer.fit(cell, silent), device)[0]  # noqa: B023
        done.seconds[f"{method} score"] = once(lambda: done.computer.score(cell, silent), device)[0]  # noqa: B023
        spent, found = once(lambda: evaluation.evaluate(done.computer._judged(cell)))  # noqa: B023
        done.seconds[f"{method} metrics"], done.metrics[method] = spent, found
    return done


def whole_cells(session: Session) -> Iterator[Row]:
    """PaDiM, PatchCore and CFA (2 epochs) on one category, from files to metrics, and PaDiM on features of bf16."""
    whole = session.category
    few = Category("few", whole.name, whole.root, manifest.cap(whole.manifest, 4, 4))
    warming = cells.expand(session.plan, [few])  # so that nobody pays for imports and libraries that are begun
    for name, device in (("cpu", "cpu"), ("other", session.device)):
        compute(session, f"warm-{name}", device, warming)
        session.computed[name] = compute(session, name, device, session.cells)
    host, other = session.computed.values()
    images = len(session.cells[0].train) + len(session.cells[0].test)
    sources = (done.computer._source(session.cells[0], "train") for done in (host, other))
    features = [source.at(range(len(source))) for source in sources]
    took = "CPU", host.seconds["extract"], "s", other.seconds["extract"]
    yield Row(f"cell, decode and extract {images} images", *took, **within(apart(*features), 1e-2))
    for method, truth in host.metrics.items():
        steps = [f"{method} {step}" for step in ("fit", "score", "metrics")]
        base, spent = (sum(done.seconds[step] for step in steps) for done in (host, other))
        gap = farthest(truth, other.metrics[method])
        shares = ", ".join(f"{step.split()[1]} {other.seconds[step]:.2g} s" for step in steps)
        # A training leaves its path at the first rounding: CFA's two ends are near each other, not the same.
        agrees = bool(gap <= (0.05 if method == "cfa" else 0.01))
        yield Row(f"cell, {method}", "CPU", base, "s", spent, agrees, f"{gap:.4f} in a metric; {shares}")
    half = compute(session, "half", session.device, session.cells[:1], half=True)
    gap = abs(half.metrics["padim"]["i_auroc"] - other.metrics["padim"]["i_auroc"])
    beside = f"float32 on {session.device}", other.seconds["extract"], "s", half.seconds["extract"]
    yield Row("cell, extract under bf16 autocast", *beside, bool(gap <= 0.01), f"{gap:.4f} in PaDiM's image AUROC")


@torch.inference_mode()
def one_image(session: Session) -> Iterator[Row]:
    """Milliseconds of one image, from decoded pixels to map and score, of one fit on both; and the bare backbone."""
    if len(session.computed) < 2:
        yield Row("one image", note="the cells were not computed")
        return
    host, other = (done.computer for done in session.computed.values())
    image = torch.randint(0, 256, (1, 3, session.size, session.size), dtype=torch.uint8)
    for cell in session.cells[: session.of(3, 1)]:
        (method, extractor), (twin, there) = host._timed(cell), other._timed(cell)
        twin.restore(method.state())
        base, spent = (latency.measure(*pair)["median_ms"] for pair in ((method, extractor), (twin, there)))
        difference = apart([method.score(extractor(image))[0]], [twin.score(there(image))[0]])
        yield Row(f"one image, {cell.contender.names['method']}", "CPU", base, "ms", spent, **within(difference, 2e-2))
    base, truth = session.timed(lambda: extractor(image))
    spent, found = session.timed(lambda: there(image), session.device)
    floor = "CPU", 1e3 * base, "ms", 1e3 * spent
    yield Row("one image, the bare backbone", *floor, **within(apart(truth, found), 1e-2))


PARTS = (
    *(parts.extraction, parts.decoding, parts.picking, parts.clustering, parts.gaussians, parts.neighbours),
    *(parts.judging, whole_cells, one_image),
)


def card(device: str) -> str:
    """Its name, the driver, and the versions of torch and CUDA."""
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    if not is_accelerator(device):
        return f"no card: both forms on the CPU; {versions}"
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = "unknown"
    tf32 = "with" if torch.backends.cudnn.allow_tf32 else "without"
    return f"{torch.cuda.get_device_name(device)}, driver {driver}; {versions}; convolutions {tf32} TF32"


def markdown(conditions: str, rows: Sequence[Row]) -> str:
    lines = [HEADER, ("---", "---", "---", "---:", "---:", "---:", "---", "---"), *(row.texts for row in rows)]
    table = ("| " + " | ".join(text.replace("|", "/") for text in line) + " |" for line in lines)
    return f"{conditions}\n\n" + "\n".join(table) + "\n"


def measure(session: Session, seconds: float) -> Iterator[Row]:
    """The rows of all parts; a part that fails is a row too, as are those that are left when the time is over."""
    end = time.monotonic() + seconds
    for part in PARTS:
        name = part.__name__.replace("_", " ")
        if time.monotonic() > end:
            yield Row(name, note=f"skipped after {seconds / 60:g} minutes: --minutes")
            continue
        try:
            yield from part(session)
        except ImportError as error:
            yield Row(name, note=reason(error))
        except Exception as error:  # the card may be there once: the other parts are still measured
            traceback.print_exc()
            yield Row(name, agrees=False, note=f"failed: {reason(error)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and write it where it is wanted, after every row; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cpu: everything at tiny sizes, to try the script")
    parser.add_argument("--size", type=int, default=224, help="pixels of an image")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="torch.compile, too; not when quick")
    parser.add_argument("--images", type=Path, help="a category in MVTec AD's layout, not the generated brick")
    parser.add_argument("--minutes", type=float, default=9.0, help="no part begins later")
    parser.add_argument("--to", type=Path, help="a file to hold the table in Markdown")
    given = parser.parse_args(arguments)
    if is_accelerator(given.device) and not torch.cuda.is_available():
        print("There is no CUDA card that torch can use here; --device cpu tries the script without.", file=sys.stderr)
        return 2
    quick = given.quick or not is_accelerator(given.device)
    compiles = not quick if given.compile is None else given.compile
    print_conditions("torch", "torchvision", "timm")
    conditions = card(given.device)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        session = Session(given.device, given.size, quick, compiles, given.images, Path(folder))
        threads = f"{torch.get_num_threads()} CPU threads"
        conditions += f"; {threads}; {given.size} pixels, {session.backbone.weights} weights in the cells"
        for row in measure(session, 60 * given.minutes):
            print(*row.texts, sep="  ", file=sys.stderr, flush=True)
            rows.append(row)
            if given.to:
                given.to.write_text(markdown(conditions, rows), encoding="utf-8")
    print(f"{conditions}\n")
    print_table(HEADER, [row.texts for row in rows])
    return int(any(row.agrees is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
