"""The leader of each category as a registered model, `adcore-DATASET-CATEGORY` with the alias `champion`."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adcore.core.conformal import ALARMS
from adcore.core.disk import DiskFull
from adcore.core.keys import digest
from adcore.engine import registry
from adcore.engine.bench import Bench
from adcore.engine.cells import contents
from adcore.results.contenders import headline
from adcore.results.contests import leader
from adcore.results.run import Results
from tasks.tracking import hints
from tasks.tracking.tracker import Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIAS = "champion"
EXAMPLE = "line/000.png"
NO_NAME = re.compile(r"[^\w.-]+")  # what MLflow takes in no name of a model
HINT = "mlflow-champions.json"  # in the workspace's cache: what was registered from here


@dataclass(frozen=True)
class Champion:
    """The leader on a category: its first seed's cell and run; score: its mean over seeds of the metric that ranks."""

    model: str
    dataset: str
    category: str
    title: str
    key: str
    run: str
    metric: str
    score: float
    data: str  # digest of the test images that it was judged on
    protocol: str

    @property
    def tags(self) -> dict[str, str]:
        return {
            "cell_key": self.key,
            "metric": self.metric,
            "score": repr(self.score),
            "judged_on": self.data,
            "protocol": self.protocol,
        }


def leaders(bench: Bench, results: Results, runs: Mapping[str, str]) -> list[Champion]:
    """Of every category that has a comparable cell. runs: key of a cell -> id of its MLflow run."""
    return [found for place in _places(results) if (found := _leader(bench, results, runs, *place))]


def register(tracker: Tracker, bench: Bench, champions: Sequence[Champion]) -> None:
    """Register those that are new and not behind the present champion on the same data under the same protocol. Raises
    TrackingError.

    A model is a few files in its run, which name the cell in the workspace's store."""
    hint = bench.layout.cache / HINT
    known = hints.read(hint)
    new = [each for each in champions if known.get(each.model) != _mark(tracker, each)]
    if not new:
        return
    with tracker.place.client() as client, _template() as template:
        for champion in new:
            _register(client, template, bench, champion)
    with contextlib.suppress(DiskFull, OSError):
        hints.write(hint, known | {each.model: _mark(tracker, each) for each in new})


def _mark(tracker: Tracker, champion: Champion) -> str:
    return f"{champion.key} {champion.run} {tracker.experiment}"


def _places(results: Results) -> list[tuple[str, str]]:
    return list(dict.fromkeys((str(cell.row["dataset"]), str(cell.row["category"])) for cell in results.finished))


def _leader(bench: Bench, results: Results, runs: Mapping[str, str], dataset: str, category: str) -> Champion | None:
    leaky = {each.names["method_label"] for each in bench.contenders if each.method.selects_on_test(each.options)}
    first = leader(results.table[~results.table["method_label"].isin(leaky)], dataset, category)
    if first is None or first.failed:
        return None
    metric, row = headline([first]), first.first
    score = first.means.get(metric, float("nan"))
    if score != score:
        return None
    cell = next(each for each in bench.cells if each.key == row["key"] and each.category.name == category)
    if cell.key not in runs:
        return None
    name = f"adcore-{dataset}-{category}"
    if NO_NAME.search(name) or "-" in f"{dataset}{category}":  # which other names would become, too
        name = f"{NO_NAME.sub('-', name)}-{digest([dataset, category])[:6]}"
    protocol = str(row["protocol_label"])
    data = digest(contents(cell.test))
    return Champion(name, dataset, category, cell.title, cell.key, runs[cell.key], metric, score, data, protocol)


def _register(client: MlflowClient, template: Path, bench: Bench, champion: Champion) -> None:
    from mlflow import MlflowException

    from adcore.line import served

    with contextlib.suppress(MlflowException):  # it is there already
        client.create_registered_model(champion.model, description=f"the leader on {champion.dataset}")
    present = _present(client, champion.model)
    if present and not _succeeds(champion, present):
        return
    wanted = bench.plan.model_copy(update={"alarms": bench.plan.alarms or ALARMS})
    plan, workspace, manifests = Bench(wanted, bench.layout.workspace, bench.manifests).text
    reference = {"plan": plan, "workspace": workspace, "manifests": manifests, "title": champion.title}
    content = json.dumps(reference | {"key": champion.key}, indent=1)
    (template / "data" / "data" / served.REFERENCE).write_text(content, encoding="utf-8")
    place = f"model/{champion.model}"
    client.log_artifacts(champion.run, str(template), place)
    source = f"{client.get_run(champion.run).info.artifact_uri}/{place}"
    version = client.create_model_version(
        champion.model, source, champion.run, tags=champion.tags, description=champion.title
    )
    client.set_registered_model_alias(champion.model, ALIAS, version.version)


def _present(client: MlflowClient, model: str) -> Mapping[str, str]:
    """The tags of the present champion; none where there is none."""
    from mlflow import MlflowException

    try:
        tags: Mapping[str, str] = client.get_model_version_by_alias(model, ALIAS).tags
    except MlflowException:
        return {}
    return tags


def _succeeds(champion: Champion, present: Mapping[str, str]) -> bool:
    """Whether it takes the place of the present one: another cell that is not worse, where the two compare."""
    if present.get("cell_key") == champion.key:
        return False
    alike = all(present.get(name) == champion.tags[name] for name in ("metric", "judged_on", "protocol"))
    rank = registry.column(champion.metric).rank
    return not alike or rank(champion.score) >= rank(float(present["score"]))


@contextlib.contextmanager
def _template() -> Iterator[Path]:
    """A model's folder whose reference is still to be written."""
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    from adcore.line import served  # takes torch

    kinds = dict(zip(served.INPUTS, ("string", "binary"), strict=True))
    numbers = ("score", "p_value", "area")
    inputs: Any = [ColSpec(kind, name, required=False) for name, kind in kinds.items()]
    outputs: Any = [ColSpec("double" if name in numbers else "string", name) for name in served.OUTPUTS]
    with tempfile.TemporaryDirectory() as name:
        data, model = Path(name) / "data", Path(name) / "model"
        data.mkdir()
        (data / served.REFERENCE).write_text("{}", encoding="utf-8")
        mlflow.pyfunc.save_model(
            model,
            loader_module=served.__name__,
            data_path=str(data),
            signature=ModelSignature(Schema(inputs), Schema(outputs)),
            input_example=pd.DataFrame({"path": [EXAMPLE]}),
            pip_requirements=["adcore"],
        )
        shutil.rmtree(data)
        yield model
