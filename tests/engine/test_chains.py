"""Chains of enhancers: what a plan may write, what it means for which category, and how it is called."""

from __future__ import annotations

from typing import Any

import pytest

from adcore.core.plan import BackboneSpec, Choice, PlanError
from adcore.engine.chains import chain

LITE = BackboneSpec()


def made(name: str, backbone: BackboneSpec = LITE, **options: Any):
    return chain(Choice(name=name, **options), backbone)


def names(name: str, texture: bool, **options: Any) -> list[str]:
    return [enhancer.name for enhancer in made(name, **options).of(texture)]


@pytest.mark.parametrize("texture", [True, False])
def test_names_stand_in_the_order_written(texture: bool):
    assert names("none", texture) == []
    assert names("sbm+pfam", texture) == ["sbm", "pfam"]
    assert names("psg+lgffp", texture) == ["psg", "lgffp"]
    assert names("psg+sbm+pfam", texture) == ["psg", "sbm", "pfam"]


def test_paper_is_pfam_alone_on_textures():
    assert names("paper", texture=True) == ["pfam"]
    assert names("paper", texture=False) == ["sbm", "pfam"]


def test_an_option_goes_to_every_enhancer_that_knows_it():
    sbm, pfam = made("paper", epochs=2, pool_kv=4, n=2, permutations=9).of(False)
    assert (sbm.options.epochs, pfam.options.epochs, pfam.options.pool_kv, sbm.options.n) == (2, 2, 4, 2)
    assert made("paper", epochs=2).textures[0].options.epochs == 2


@pytest.mark.parametrize(("name", "options", "label"), [
    ("none", {}, "none"),
    ("paper", {}, "paper"),
    ("paper", {"epochs": 2, "pool_kv": 4}, "paper(epochs=2,pool_kv=4)"),
    ("paper", {"pool_kv": 1}, "paper"),
    ("sbm", {"epochs": 30}, "sbm"),
    ("psg+sbm", {"epochs": 30}, "psg+sbm(epochs=30)"),  # PSG's own are 64
    ("pfam", {"train": "identity"}, "pfam(train=identity)"),
    ("lgffp", {}, "lgffp [stand-in]"),
    ("psg+lgffp", {"epochs": 0}, "psg+lgffp(epochs=0) [stand-in]"),
])  # fmt: skip
def test_label_tells_what_is_not_the_default(name, options, label):
    assert made(name, **options).label == label


def test_controls_are_told_from_what_they_control():
    assert made("pfam", train="identity").control == "identity"
    assert made("pfam", train="random").control == "random"
    assert {made(name).control for name in ("none", "pfam", "sbm", "paper")} == {""}
    assert made("paper", train="identity").control == ""  # its SBM is trained


@pytest.mark.parametrize(("name", "options", "message"), [
    ("pfarm", {}, "unknown enhancer 'pfarm' (did you mean 'pfam'?); known: lgffp, none, paper, pfam, psg, sbm"),
    ("sbm+pfarm", {}, "enhancer 'sbm+pfarm': unknown enhancer 'pfarm' (did you mean 'pfam'?)"),
    ("sbm+none", {}, "enhancer 'sbm+none'"),
    ("sbm+", {}, "enhancer 'sbm+'"),
    ("pfam", {"epoch": 3}, "enhancer 'pfam': unknown key 'epoch' (did you mean 'epochs'?)"),
    ("none", {"epochs": 3}, "enhancer 'none': unknown key 'epochs'; known: no keys"),
    ("sbm", {"pool_kv": 4}, "enhancer 'sbm': unknown key 'pool_kv'"),
    ("pfam", {"train": "pretest"}, "enhancer 'pfam': train"),
    ("sbm", {"epochs": -1}, "enhancer 'sbm': epochs"),
    ("sbm+sbm", {}, "enhancer 'sbm+sbm': an enhancer stands in it twice; remove one"),
    ("pfam+sbm", {}, "enhancer 'pfam+sbm': sbm trains the backbone itself; write sbm before pfam"),
    ("lgffp+pfam", {}, "enhancer 'lgffp+pfam': nothing can follow lgffp, which leaves a single map"),
])  # fmt: skip
def test_what_cannot_work_is_refused_with_the_mend(name, options, message):
    with pytest.raises(PlanError) as error:
        made(name, **options)
    assert message in str(error.value)
