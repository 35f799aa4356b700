"""A folder that is watched: each image that appears gets exactly one result, across kills and restarts.

OUT/rows/NAME.json is a result, written last and by one rename. Its name is a hash of the image's path and content, so
that what was cut off is made again under the same name. Table and page are made of those files, and of nothing else."""

from __future__ import annotations

import fcntl
import hashlib
import html
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from adcore.core.conformal import drift
from adcore.core.disk import write_file
from adcore.core.names import printable, written
from adcore.core.plan import PlanError
from adcore.datasets._folders import EXTENSIONS, files_below
from adcore.features.extractor import BATCH
from adcore.line.prediction import DEFECTIVE, FAILED, NORMAL, ROWS, Prediction, row
from adcore.line.scorer import Scorer
from adcore.vision.images import ImageError, ImageFile, file_bytes

OF = "watch.json"  # which cell, with which share of alarms, has made the results
SETTLED = 1.0  # seconds since a file last changed, after which it counts as whole
SHOWN = 24  # overlays of the page
WINDOW = 200  # passed parts that the test of drift looks at
DRIFTED = 0.001  # chance below which the page says so: it is looked at again and again
REFRESH = 5  # seconds
TABLE_EVERY = 10.0  # seconds between two writings of the table, which grows

State = tuple[int, int]  # bytes, time of the last change in ns


@dataclass(frozen=True)
class Result:
    """A row of the table, when it was made (seconds since 1970), and the file as it was then."""

    prediction: Prediction
    name: str
    time: float
    bytes: int
    changed: int
    sha256: str


class Watch:
    """The results of a folder's images in `out`; one process at a time."""

    def __init__(self, scorer: Scorer, source: Path, out: Path) -> None:
        """Raises PlanError for a folder that is not there, or lies in the other."""
        if not source.is_dir():
            raise PlanError(f"--in {printable(str(source))} is no folder")
        if out.resolve().is_relative_to(source.resolve()):
            raise PlanError("--out lies in --in, so that its pictures would be watched, too; give another folder")
        self.scorer = scorer
        self.source = source
        self.out = out
        self.results: list[Result] = []
        self.waiting = 0  # images of the last look that have no result yet
        self._seen: dict[str, State] = {}  # path -> the file that has a result
        self._names: set[str] = set()
        self._before: dict[Path, State] = {}
        self._told = 0.0
        self._untold = False  # whether there are results that the table has not

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within the block no other process writes there; what is there is read. Raises PlanError, as for a folder that
        cannot be written to, or holds what is not of this cell with this share of alarms."""
        out = printable(str(self.out))
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            lock = (self.out / ".lock").open("w")
        except OSError as error:
            raise PlanError(f"--out {out} cannot be written to: {error.strerror}; give another --out") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PlanError(f"another watch writes to {out}; end it, or give another --out") from None
            self._claim(out)
            self._read()
            yield

    def _claim(self, out: str) -> None:
        """Note whose results the folder holds. Raises PlanError for those of something else."""
        cell, path = self.scorer.cell, self.out / OF
        mine = {"cell": cell.title, "key": cell.key, "alarms": cell.alarms}
        if path.exists():
            theirs = json.loads(path.read_text(encoding="utf-8"))
            if (theirs["key"], theirs["alarms"]) != (cell.key, cell.alarms):
                what = f"{theirs['cell']} ({theirs['key'][:8]}) with alarms {theirs['alarms']}"
                raise PlanError(f"{out} holds results of {what}, and not of {cell.title}; give another --out")
        elif (self.out / ROWS).exists():
            raise PlanError(f"{out} holds predictions of another command; give another --out")
        else:
            write_file(path, json.dumps(mine, indent=1).encode())

    def step(self) -> int:
        """Score the files that have settled and have no result; how many there were. Raises DiskFull."""
        files = self._settled()
        for start in range(0, len(files), BATCH):
            self._score(files[start : start + BATCH])
            self.write(always=False)
        if not files and self._untold and self._is_due():
            self.write()
        return len(files)

    def write(self, always: bool = True) -> None:
        """The page, and the table unless it was just written."""
        write_file(self.out / "index.html", self.page().encode())
        if always or self._is_due():
            self._told, self._untold = time.monotonic(), False
            rows = [{**asdict(result.prediction), "time": result.time} for result in self.results]
            columns = [*Prediction.__dataclass_fields__, "time"]
            text = pd.DataFrame(rows, columns=columns).to_csv(index=False, lineterminator="\n")
            write_file(self.out / ROWS, text.encode())

    def _is_due(self) -> bool:
        return time.monotonic() - self._told > TABLE_EVERY

    def _read(self) -> None:
        found = []
        for path in (self.out / "rows").glob("*.json"):
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            found.append(Result(Prediction(**content.pop("prediction")), **content))
        for result in sorted(found, key=lambda each: each.time):
            self._keep(result)

    def _keep(self, result: Result) -> None:
        self.results.append(result)
        self._untold = True
        self._names.add(result.name)
        self._seen[result.prediction.path] = (result.bytes, result.changed)

    def _settled(self) -> list[Path]:
        """The images without a result that have not changed since the last look, nor within the last second."""
        now: dict[Path, State] = {}
        for path in files_below(self.source):
            if path.suffix.lower() in EXTENSIONS and (state := _state(path)):
                now[path] = state
        new = {path: state for path, state in now.items() if self._seen.get(written(str(path))) != state}
        ready = [
            path
            for path, state in new.items()
            if self._before.get(path) == state
            and abs(time.time() - state[1] / 1e9) > SETTLED  # also by a clock that is ahead of ours
        ]
        self._before = now
        self.waiting = len(new)
        return sorted(ready, key=lambda path: (now[path][1], str(path)))

    def _score(self, files: Sequence[Path]) -> None:
        """Each is read once: what is scored is what its name says."""
        new: list[tuple[Path, State, str, str]] = []
        for path in files:
            state = self._before[path]
            try:
                sha256 = hashlib.sha256(file_bytes(path)).hexdigest()
            except ImageError:  # it is gone again, or may not be read
                sha256 = ""
            name = hashlib.sha256(
                f"{path.relative_to(self.source)}\n{sha256}".encode(errors="surrogateescape")
            ).hexdigest()[:20]
            if name in self._names:  # touched, and the same
                self._seen[written(str(path))] = state
                self.waiting -= 1
            else:
                new.append((path, state, sha256, name))
        scored = self.scorer.scored([ImageFile(path, sha256, self.scorer.rule) for path, _, sha256, _ in new])
        for (path, state, sha256, name), found in zip(new, scored, strict=True):
            if _state(path) != state:  # it is written to once more: another look
                continue
            made = row(self.scorer, found, path, self.out, name)
            result = Result(made, name, time.time(), *state, sha256)
            write_file(self.out / "rows" / f"{name}.json", json.dumps(asdict(result)).encode())
            self._keep(result)
            self.waiting -= 1

    def drifted(self) -> float:
        """The chance that the latest parts that passed score so high by chance; 1 without a threshold."""
        passed = [each.prediction.p_value for each in self.results if each.prediction.verdict == NORMAL][-WINDOW:]
        calibration, threshold = self.scorer.calibration, self.scorer.image
        return drift(passed, len(calibration), threshold.promised) if calibration and threshold else 1.0

    def summary(self) -> str:
        """`1,000 images: 990 normal, 10 defective`."""
        verdicts = [each.prediction.verdict or "scored" for each in self.results]
        counts = ", ".join(f"{verdicts.count(name):,} {name}" for name in dict.fromkeys(verdicts))
        return f"{len(verdicts):,} images{': ' if counts else ''}{counts}"

    def page(self) -> str:
        """The latest images, how many alarmed, and whether the parts that passed have moved; it loads itself anew."""
        latest = [each.prediction for each in reversed(self.results[-SHOWN:])]
        figures = "\n".join(map(_figure, latest))
        lines = "\n".join(f"<p>{html.escape(line)}</p>" for line in self._lines())
        title = html.escape(self.scorer.cell.title)
        return PAGE.format(title=title, refresh=REFRESH, lines=lines, figures=figures)

    def _lines(self) -> Iterator[str]:
        yield f"{self.summary()}."
        threshold, known = self.scorer.image, [each for each in self.results if each.prediction.verdict != FAILED]
        if threshold is None:
            yield "There is no threshold: no unseen normal images could be had."
            return
        if known:
            alarms = sum(each.prediction.verdict == DEFECTIVE for each in known)
            rate, promised = 1000 * alarms / len(known), 1000 * threshold.promised
            yield f"Alarms: {rate:.1f} of 1,000; good parts alone alarm in at most {promised:.1f} of 1,000 on average."
        chance = self.drifted()
        if chance < DRIFTED:
            yield (
                f"Drift: the latest {WINDOW} parts that passed score higher than the normal images of the training "
                f"(p = {chance:.1e}); look at lamp, camera and material before you trust the verdicts."
            )
        else:
            yield f"No drift is seen in the latest parts that passed (p = {chance:.2g})."


def _state(path: Path) -> State | None:
    """None where it is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _figure(made: Prediction) -> str:
    name = html.escape(Path(made.path).name)
    text = f"{name}: {made.verdict or 'scored'}, p = {made.p_value:.3f}" if made.overlay else f"{name}: {made.error}"
    picture = f'<img src="{html.escape(made.overlay)}" alt="{name}">' if made.overlay else ""
    caption = f"<figcaption>{html.escape(text, quote=False)}</figcaption>"
    return f'<figure class="{made.verdict or "scored"}">{picture}{caption}</figure>'


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{refresh}">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1400px; padding: 1rem; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: .6rem; }}
figure {{ margin: 0; border-top: 4px solid #888; }}
figure.normal {{ border-color: #0b6b50; }}
figure.defective, figure.failed {{ border-color: #b3261e; }}
img {{ width: 100%; }}
figcaption {{ font-size: .8rem; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
{lines}
<main>
{figures}
</main>
</body>
</html>
"""
