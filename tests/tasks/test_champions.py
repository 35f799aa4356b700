"""Leaders as registered models: who gets the alias, what MLflow loads, and what it answers."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from adcore import api
from adcore.core.plan import Plan
from adcore.core.store import Remembering
from adcore.engine.bench import Bench, Layout
from adcore.engine.enhancement import image_set
from adcore.line.scorer import Scored, Scorer
from adcore.results.run import Results, gather
from flows._start import free_port
from tasks.publishing import log_runs
from tasks.tracking import Tracker, TrackingError, champions
from tasks.tracking.champions import ALIAS, Champion
from tasks.tracking.place import open_client

MODEL = "adcore-parts-bolt"


@pytest.fixture(scope="module", autouse=True)
def own_database() -> Iterator[None]:
    """In the workspace, whatever the environment says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture(scope="module")
def done(plan: Callable[..., Plan], tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Results]:
    """The tiny plan, computed and logged."""
    made = plan(alarms=0.2)
    folder = tmp_path_factory.mktemp("champions")
    api.run(made, folder)
    bench = api.in_place(made, Layout.of(folder))[0]
    results = gather(bench, Remembering(bench.store), "tiny", [], [])
    bench.layout.results.mkdir()
    results.table.to_csv(bench.layout.results / "leaderboard.csv", index=False)
    log_runs(bench, "tiny", results)
    return bench, results


@pytest.fixture
def client(done: tuple[Bench, Results]) -> Any:
    return open_client(Tracker(done[0].layout.workspace).place.url)


@pytest.fixture
def leader(done: tuple[Bench, Results], client: Any) -> Champion:
    bench, results = done
    runs = {str(cell.row["key"]): client.search_runs(["1"])[0].info.run_id for cell in results.finished}
    return next(each for each in champions.leaders(bench, results, runs) if each.category == "bolt")


def again(done: tuple[Bench, Results], champion: Champion) -> None:
    champions.register(Tracker(done[0].layout.workspace), done[0], [champion])


def test_every_category_has_a_champion(client: Any) -> None:
    assert {model.name for model in client.search_registered_models()} >= {MODEL, "adcore-parts-cloth"}


def test_it_is_the_one_that_leads_there(done: tuple[Bench, Results], client: Any) -> None:
    table = done[1].table
    own = table[table["category"] == "bolt"].round({"i_auroc": 3})
    best = set(own[own["i_auroc"] == own["i_auroc"].max()]["key"])
    assert client.get_model_version_by_alias(MODEL, ALIAS).tags["cell_key"] in best


def test_a_run_tells_its_data(done: tuple[Bench, Results], client: Any) -> None:
    run = client.search_runs(["1"])[0]
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("parts", done[0].manifests["parts"][:12])


def test_what_is_registered_asks_mlflow_nothing(done: tuple[Bench, Results], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(champions, "_register", lambda *_: pytest.fail("registered again"))
    log_runs(done[0], "tiny", done[1])


@pytest.mark.parametrize(
    ("changes", "succeeds"),
    [
        ({"score": 2.0}, True),
        ({"score": -1.0}, False),
        ({"score": -1.0, "data": "other"}, True),
        ({"score": -1.0, "protocol": "few-shot(k=1)"}, True),
    ],
)
def test_who_is_behind_on_the_same_data_succeeds_nobody(
    done: tuple[Bench, Results], client: Any, leader: Champion, changes: dict[str, Any], succeeds: bool
) -> None:
    model = f"adcore-{'-'.join(map(str, changes.values())).replace('(', '').replace(')', '').replace('=', '')}"
    again(done, replace(leader, model=model))
    again(done, replace(leader, model=model, key="0" * 32, **changes))
    present = client.get_model_version_by_alias(model, ALIAS).tags["cell_key"]
    assert present == ("0" * 32 if succeeds else leader.key)


def load(client: Any) -> Any:
    import mlflow.pyfunc

    version = client.get_model_version_by_alias(MODEL, ALIAS)
    return mlflow.pyfunc.load_model(version.source)


def test_mlflow_loads_it_and_gives_the_scorers_verdicts(done: tuple[Bench, Results], client: Any) -> None:
    bench = done[0]
    key = client.get_model_version_by_alias(MODEL, ALIAS).tags["cell_key"]
    scorer = Scorer(bench, next(cell for cell in bench.cells if cell.key == key))
    paths = [str(path) for path in image_set(scorer.cell, "test").paths]
    found = load(client).predict(pd.DataFrame({"path": paths}))
    expected = [each.score for each in scorer.scored(image_set(scorer.cell, "test").files) if isinstance(each, Scored)]
    assert found["score"].tolist() == pytest.approx(expected)


def test_bytes_are_taken_as_well_as_paths(parts: Path, client: Any) -> None:
    path = next((parts / "bolt" / "test" / "good").iterdir())
    rows = pd.DataFrame([{"path": str(path), "image": None}, {"path": None, "image": path.read_bytes()}])
    found = load(client).predict(rows)
    assert found["score"][0] == found["score"][1]


def test_an_image_that_cannot_be_read_is_a_failed_row(client: Any) -> None:
    assert load(client).predict(pd.DataFrame({"path": ["/nowhere.png"]}))["verdict"].tolist() == ["failed"]


def test_a_model_of_a_workspace_that_is_gone_says_so(client: Any, tmp_path: Path) -> None:
    from adcore.line.served import REFERENCE, _load_pyfunc

    version = client.get_model_version_by_alias(MODEL, ALIAS)
    folder = Path(version.source.removeprefix("file://")) / "data" / "data"
    reference = json.loads((folder / REFERENCE).read_text()) | {"workspace": str(tmp_path / "gone")}
    (tmp_path / REFERENCE).write_text(json.dumps(reference))
    with pytest.raises(FileNotFoundError, match=r"gone, which is not here; serve it .* or make a bundle"):
        _load_pyfunc(str(tmp_path))


def test_a_database_that_cannot_be_written_is_a_tracking_error(
    done: tuple[Bench, Results], leader: Champion, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowException

    def refuse(*_: object) -> None:
        raise MlflowException("refused")

    monkeypatch.setattr(champions, "_register", refuse)
    with pytest.raises(TrackingError, match="refused"):
        again(done, replace(leader, model="adcore-other"))


@pytest.mark.slow
def test_the_champion_answers_over_http(done: tuple[Bench, Results], client: Any, parts: Path, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{MODEL}@{ALIAS}"]
    settings = os.environ | {"MLFLOW_TRACKING_URI": Tracker(done[0].layout.workspace).place.url}
    settings["PATH"] = f"{Path(sys.executable).parent}:{settings['PATH']}"
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--env-manager", "local", "-p", str(port)], env=settings, stdout=log, stderr=log
        )
    try:
        image = next((parts / "bolt" / "test" / "good").iterdir())
        body = {"dataframe_records": [{"image": base64.b64encode(image.read_bytes()).decode()}]}
        answer = _asked(f"http://127.0.0.1:{port}/invocations", body)
    finally:
        server.terminate()
        server.wait(20)
    assert answer["predictions"][0]["verdict"] in ("normal", "defective"), (tmp_path / "log").read_text()


def _asked(url: str, body: dict[str, Any]) -> dict[str, Any]:
    for _ in range(120):
        try:
            request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as response:
                found: dict[str, Any] = json.load(response)
                return found
        except urllib.error.URLError:
            time.sleep(0.5)
    pytest.fail("nobody answered")
