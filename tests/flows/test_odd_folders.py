"""A folder as people have them, run by command: names of any bytes, litter, and a root that is the workspace too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
CATEGORY, IMAGE = os.fsdecode(b"n\xfct\r\x1b[31m"), os.fsdecode(b"fr\xfch\na|b.png")
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(plan: Path, workspace: Path) -> tuple[str, str]:
    """The last line and what stands on stderr of a run that must go well."""
    command: list[str | Path] = [sys.executable, "-m", "flows.benchmark", "--plan", plan, "--workspace", workspace]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=440, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1], done.stderr


def test_odd_names_litter_and_a_root_that_is_the_workspace(own_parts: Path, plan_file: Callable[..., Path]) -> None:
    (own_parts / "bolt").rename(own_parts / CATEGORY)
    image = sorted((own_parts / CATEGORY / "test/good").iterdir())[0]
    image.rename(image.with_name(IMAGE))
    mask = sorted((own_parts / CATEGORY / "ground_truth").rglob("*_mask.png"))[0]
    defective = own_parts / CATEGORY / "test" / mask.parent.name / mask.name.replace("_mask", "")
    mask.rename(mask.with_name(unicodedata.normalize("NFC", "Prüf_mask.png")))
    defective.rename(defective.with_name(unicodedata.normalize("NFD", "Prüf.png")))
    (own_parts / "__MACOSX").mkdir()
    (own_parts / "cloth/test/good/late.gif").write_bytes(b"GIF89a")
    plan = plan_file(methods=["padim"])

    last, told = run(plan, own_parts)
    assert last == "cells: 2 computed, 0 cached, 0 failed"
    assert "warning: parts/*: passed over: without a folder train or test these are no categories: __MACOSX" in told
    assert "warning: parts/cloth: passed over: 1 file (late.gif) that are not read" in told
    manifest = (own_parts / "manifests/parts.csv").read_text(encoding="utf-8")
    assert r"n\xfct\x0d\x1b[31m/test/good/fr\xfch\x0aa|b.png" in manifest
    report = (own_parts / "results/report.html").read_text(encoding="utf-8")
    assert "no categories: __MACOSX" in report
    for pattern in ("results/*.*", "results/metrics/*/*", "mlartifacts/**/*.csv"):
        for file in own_parts.glob(pattern):
            assert not CONTROLS.search(file.read_text(encoding="utf-8")), file

    again, _ = run(plan, own_parts)
    assert again == "cells: 0 computed, 2 cached, 0 failed"
    assert (own_parts / "manifests/parts.csv").read_text(encoding="utf-8") == manifest
