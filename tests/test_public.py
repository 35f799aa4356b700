"""What `import adcore` gives: the pinned names, at no cost, and what docs/api.md shows of them."""

from __future__ import annotations

import json
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import adcore
from adcore.core.plan import Plan
from adcore.engine import latency
from adcore.results.frame import same

REPO = Path(__file__).parents[1]
SNIPPETS = re.findall(r"```python\n(.*?)```", (REPO / "docs/api.md").read_text(encoding="utf-8"), re.DOTALL)
LIGHT = "import sys; before = set(sys.modules); import adcore; print(*sorted({*sys.modules} - before))"


def test_the_public_names_are_pinned() -> None:
    assert sorted(adcore.__all__, key=str.lower) == [
        "__version__", "CellColumn", "DataError", "Dataset", "dataset", "Enhancer", "enhancer",
        "image_metrics", "load_plan", "Method", "method", "Metric",
        "parse_plan", "pixel_metrics", "Plan", "PlanError", "plugins", "Protocol", "protocol",
        "read_results", "RemoteError", "run", "spro", "WeightsError", "WorkspaceError",
    ]  # fmt: skip


@pytest.mark.parametrize("name", adcore.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(adcore, name)
    assert name in dir(adcore)
    assert not callable(value) or value.__doc__


def test_no_public_name_is_hidden_by_a_module() -> None:
    assert {module.name for module in pkgutil.iter_modules(adcore.__path__)}.isdisjoint(adcore.__all__)


def test_no_other_name_is_there() -> None:
    with pytest.raises(AttributeError, match="'adcore' has no attribute 'nothing'"):
        _ = adcore.nothing


def test_every_public_class_and_function_is_on_the_page_of_the_api() -> None:
    documented = re.findall(r"^::: adcore\.(\w+)$", (REPO / "docs/api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(documented) == [name for name in adcore.__all__ if callable(getattr(adcore, name))]


def test_importing_adcore_imports_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], cwd=REPO, capture_output=True, text=True, check=True)
    packages = {name.partition(".")[0] for name in done.stdout.split()}
    assert packages - sys.stdlib_module_names == {"adcore"}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latencies are measured in no time."""
    monkeypatch.setattr(latency, "SECONDS", 0.0)


@pytest.fixture
def example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[int], str]:
    """example(number): what a snippet of the page prints when it is run in the temporary folder."""
    monkeypatch.chdir(tmp_path)

    def output(number: int) -> str:
        exec(SNIPPETS[number], {})
        return capsys.readouterr().out

    return output


def test_the_page_runs_a_plan_as_shown(
    example: Callable[[int], str], plan: Callable[..., Plan], tmp_path: Path
) -> None:
    content = json.loads(plan(methods=["padim"]).model_dump_json())
    (tmp_path / "my_plan.yaml").write_text(yaml.safe_dump(content))
    lines = example(0).splitlines()
    assert lines[0].split() == ["i_auroc", "p_auroc"]
    assert lines[2].split()[:2] == ["padim", "1.0"]  # a white square on a texture is plain to see
    assert lines[-1] == "True"


def test_the_page_shows_metrics_as_they_are(example: Callable[[int], str]) -> None:
    assert example(1) == "0.75\n"


def test_the_page_shows_plug_ins_as_they_are(example: Callable[[int], str]) -> None:
    names, field = example(2).splitlines()
    assert names == str(adcore.plugins("methods"))
    assert "annotation=" in field


def test_a_run_computes_what_is_missing_and_no_more(own_parts: Path, plan: Callable[..., Plan], tmp_path: Path) -> None:
    datasets = [{"name": "parts", "kind": "folder", "root": str(own_parts), "categories": ["bolt"]}]
    alone, work = plan(datasets=datasets, methods=["padim"]), tmp_path / "work"
    assert adcore.read_results(alone, work).empty
    first = adcore.run(alone, work)
    assert first["status"].tolist() == ["ok"]
    stamps = {path: path.stat().st_mtime_ns for path in (work / ".cache/adcore/store").glob("*/*/meta.json")}
    both = adcore.run(plan(datasets=[datasets[0] | {"categories": ["bolt", "cloth"]}], methods=["padim"]), work)
    assert same(first, both[both["category"] == "bolt"].reset_index(drop=True))
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    pd.testing.assert_frame_equal(adcore.read_results(alone, work), first)


def test_a_refused_category_is_a_failed_row_and_the_others_are_computed(
    own_parts: Path, plan: Callable[..., Plan], tmp_path: Path
) -> None:
    shutil.rmtree(own_parts / "bolt" / "train")
    datasets = [{"name": "parts", "kind": "folder", "root": str(own_parts)}]
    datasets.append({"name": "gone", "kind": "folder", "root": str(tmp_path / "nowhere")})
    rows = adcore.run(plan(datasets=datasets, methods=["padim"]), tmp_path / "work")
    statuses = rows.set_index(["dataset", "category"])["status"]
    assert statuses.to_dict() == {("parts", "cloth"): "ok", ("parts", "bolt"): "failed", ("gone", "*"): "failed"}


def test_what_was_finished_before_an_error_stays(own_parts: Path, plan: Callable[..., Plan], tmp_path: Path) -> None:
    datasets = [{"name": "parts", "kind": "folder", "root": str(own_parts)}]
    broken = plan(datasets=datasets, methods=["padim", {"name": "cfa", "gamma_c": 10000}])
    with pytest.raises(ValueError, match="gamma_c"):
        adcore.run(broken, tmp_path)
    assert adcore.read_results(broken, tmp_path)["method"].tolist() == ["padim"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"methods": ["padin"]}, adcore.PlanError, "did you mean 'padim'"),
        ({"device": "cuda:99"}, adcore.PlanError, "torch sees"),
        ({"backbone": {"name": "resnet19"}}, adcore.WeightsError, "resnet19"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(
    changes: dict[str, Any], error: type[Exception], message: str, plan: Callable[..., Plan], tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        adcore.run(plan(**changes), tmp_path)
