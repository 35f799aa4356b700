"""Protocols: what each gives a model to train and to be judged on."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcore.core.plan import PlanError, parse
from adcore.engine import cells
from adcore.engine.cells import Category, Cell
from adcore.protocols import base
from adcore.protocols.base import Protocol
from adcore.protocols.contaminated import Contaminated
from adcore.protocols.few_shot import FewShot
from adcore.protocols.multi_class import MultiClass
from adcore.protocols.one_class import OneClass


def manifest(train: int = 6, good: int = 3, bad: int = 10) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for category in ("bolt", "cloth"):
        for split, defect, count in (("train", "good", train), ("test", "good", good), ("test", "dent", bad)):
            for number in range(count):
                path = f"{category}/{split}/{defect}/{number}.png"
                rows.append(
                    {
                        **{"path": path, "category": category, "split": split, "defect": defect, "subset": ""},
                        **{"label": int(defect != "good"), "sha256": f"content of {path}", "mask_sha256": ""},
                        **{"mask": "", "mask_rule": "", "pixel_rule": ""},
                    }
                )
    return pd.DataFrame(rows)


def expand(*protocols: Any, frame: pd.DataFrame | None = None, **plan: Any) -> list[Cell]:
    common = {"datasets": ["parts"], "methods": ["padim"], "backbone": {"name": "resnet18", "weights": "random"}}
    categories = [
        Category("parts", name, Path("/data"), manifest() if frame is None else frame) for name in ("bolt", "cloth")
    ]
    return cells.expand(parse(common | plan | {"protocols": list(protocols)}), categories)


EVERY = [MultiClass(), FewShot(k=2), Contaminated(share=0.3), OneClass()]


@pytest.mark.parametrize("protocol", EVERY, ids=lambda protocol: type(protocol).__name__)
def test_no_image_is_trained_on_and_judged(protocol: Protocol) -> None:
    for category in ("bolt", "cloth"):
        train, test = protocol.split(manifest(), category, 0)
        assert set(train["path"]).isdisjoint(test["path"]) and set(test["category"]) == {category}
        assert (test["split"] == "test").all() and test["label"].nunique() == 2


@pytest.mark.parametrize("protocol", EVERY, ids=lambda protocol: type(protocol).__name__)
def test_nobody_fits_on_a_validation_image_or_is_judged_on_one(protocol: Protocol) -> None:
    frame = manifest()
    aside = frame[frame["split"] == "train"].assign(split="validation", path=lambda f: "v/" + f["path"])
    more = pd.concat([frame, aside.assign(sha256=lambda f: "v" + f["sha256"])], ignore_index=True)
    for with_them, without in zip(protocol.split(more, "bolt", 0), protocol.split(frame, "bolt", 0), strict=True):
        assert list(with_them["path"]) == list(without["path"])


@pytest.mark.parametrize("protocol", EVERY, ids=lambda protocol: type(protocol).__name__)
def test_a_split_depends_on_contents_and_seed_alone(protocol: Protocol) -> None:
    frame = manifest()
    once, again = (protocol.split(f, "bolt", 1) for f in (frame, frame.iloc[::-1]))
    assert [set(rows["path"]) for rows in once] == [set(rows["path"]) for rows in again]
    if not protocol.seeded:
        other = protocol.split(frame, "bolt", 2)
        assert [set(rows["path"]) for rows in once] == [set(rows["path"]) for rows in other]


def test_multi_class_fits_one_model_for_all_categories_and_judges_each() -> None:
    one, other = expand("multi-class")
    assert one.fit_key == other.fit_key and one.maps_key != other.maps_key
    assert len(one.train) == 12 and set(one.test["category"]) == {"bolt"} and set(other.test["category"]) == {"cloth"}
    alone = expand("one-class")[0]
    assert alone.fit_key != one.fit_key and one.names["protocol_label"] == "multi-class"


def test_an_enhancer_of_a_joint_model_is_trained_once_and_is_shown_no_image_as_foreign() -> None:
    one, other = expand("multi-class", enhancers=["sbm"])
    assert one.links[0].key == other.links[0].key and one.sources == ()


def test_paper_on_a_joint_model_is_for_textures_only_if_all_are() -> None:
    plan = parse(
        {
            **{"datasets": ["parts"], "methods": ["padim"], "backbone": {"name": "resnet18", "weights": "random"}},
            **{"protocols": ["multi-class"], "enhancers": ["paper"]},
        }
    )
    for textures, names in ((("bolt", "cloth"), ["pfam"]), (("cloth",), ["sbm", "pfam"])):
        category = Category("parts", "cloth", Path("/data"), manifest(), frozenset(textures))
        (cell,) = cells.expand(plan, [category])
        assert [link.enhancer.name for link in cell.links] == names


def test_few_shot_takes_k_images_in_32_versions_and_draws_anew() -> None:
    found = expand({"name": "few-shot", "k": 2, "draws": 3}, seeds=[0, 5])
    bolts = [cell for cell in found if cell.category.name == "bolt"]
    assert [cell.seed for cell in bolts] == [0, 1, 2, 15, 16, 17]
    for cell in bolts:
        assert len(cell.train) == 64 and cell.train["path"].nunique() == 2
        assert sorted(cell.train.groupby("path")["variant"].agg(set).map(len)) == [32, 32]
        assert len(cell.test) == 13
    assert len({frozenset(cell.train["path"]) for cell in bolts}) > 3
    assert len({cell.fit_key for cell in bolts}) == 6 and bolts[0].names["protocol_label"] == "few-shot(k=2)"
    plain = expand({"name": "few-shot", "k": 2, "augment": False, "draws": 1})[0]
    assert len(plain.train) == 2 and plain.fit_key != bolts[0].fit_key
    assert set(plain.train["path"]) == set(bolts[0].train["path"])  # the same draw


def test_contaminated_moves_a_share_of_the_anomalous_out_of_the_test() -> None:
    cell = expand({"name": "contaminated", "share": 0.3})[0]
    moved = cell.train[cell.train["label"] == 1]
    assert len(moved) == 3 and len(cell.train) == 9 and len(cell.test) == 10
    assert set(moved["path"]).isdisjoint(cell.test["path"]) and cell.test["label"].sum() == 7
    assert len(expand({"name": "contaminated", "share": 0.01})[0].train) == 7  # at least one


def test_what_was_picked_is_told() -> None:
    frame = manifest()
    support, moved = FewShot(k=2), Contaminated(share=0.3)
    assert {path for role, path in support.chosen(frame, "bolt", 4)} == set(support.split(frame, "bolt", 4)[0]["path"])
    train = moved.split(frame, "bolt", 4)[0]
    assert {path for role, path in moved.chosen(frame, "bolt", 4)} == set(train[train["label"] == 1]["path"])
    assert {role for role, _ in support.chosen(frame, "bolt", 4)} == {"support"}
    assert {role for role, _ in moved.chosen(frame, "bolt", 4)} == {"moved"}
    assert MultiClass().chosen(frame, "bolt", 4) == []


@pytest.mark.parametrize(("protocol", "message"), [
    ({"name": "few-shot", "k": 7}, "few-shot: k is 7, but bolt has 6 training images; lower it"),
    ({"name": "few-shot"}, "key 'k' is missing"),
    ({"name": "few-shot", "k": 0}, "k"),
    ({"name": "contaminated", "share": 1}, "share"),
    ({"name": "few-shots", "k": 1}, "did you mean 'few-shot'"),
])  # fmt: skip
def test_what_cannot_be_kept_is_refused_with_the_mend(protocol: Any, message: str) -> None:
    with pytest.raises(PlanError) as error:
        expand(protocol)
    assert message in str(error.value)


def grouped(frame: pd.DataFrame, split: str, *sizes: int) -> pd.DataFrame:
    """The frame with the first images of a split in groups of these sizes, in each category."""
    names = [f"part {place}" for place, size in enumerate(sizes) for _ in range(size)]
    frame = frame.assign(group="")
    for category in set(frame["category"]):
        chosen = frame.index[(frame["split"] == split) & (frame["category"] == category)][: len(names)]
        frame.loc[chosen, "group"] = names[: len(chosen)]
    return frame


@pytest.mark.parametrize("seed", range(6))
def test_few_shot_cuts_no_group_and_takes_k_images_where_whole_ones_add_up(seed: int) -> None:
    frame = grouped(manifest(train=7), "train", 3, 2, 2)
    support = FewShot(k=4, augment=False).split(frame, "bolt", seed)[0]
    assert sorted(support["group"]) == ["part 1", "part 1", "part 2", "part 2"]


def test_few_shot_says_that_no_whole_groups_have_k_images() -> None:
    frame = grouped(manifest(train=6), "train", 3, 3)
    with pytest.raises(ValueError, match="few-shot: groups are not cut, and no whole ones of bolt have 2 images"):
        FewShot(k=2).split(frame, "bolt", 0)


@pytest.mark.parametrize("seed", range(6))
def test_contaminated_moves_whole_groups_with_the_normal_images_in_them(seed: int) -> None:
    frame = grouped(manifest(good=3, bad=9), "test", *[4] * 3)  # the first holds the three normal images
    train, test = Contaminated(share=0.4).split(frame, "bolt", seed)
    moved = train[train["split"] == "test"]
    assert set(moved["group"]).isdisjoint(test["group"])
    assert 1 <= moved["label"].sum() <= 4
    assert len(moved) % 4 == 0


def test_contaminated_moves_one_group_where_each_is_larger_than_the_share() -> None:
    frame = grouped(manifest(good=0, bad=10), "test", 5, 5)
    train, _ = Contaminated(share=0.1).split(frame, "bolt", 0)
    assert (train["label"] == 1).sum() == 5


@pytest.mark.parametrize("protocol", EVERY, ids=lambda protocol: type(protocol).__name__)
def test_groups_of_one_image_draw_what_no_groups_draw(protocol: Protocol) -> None:
    every = [protocol.split(frame, "bolt", 3) for frame in (manifest(), manifest().assign(group=""))]
    alone = manifest().assign(group=lambda f: f["path"])
    for split in (every[1], protocol.split(alone, "bolt", 3)):
        assert [list(rows["path"]) for rows in split] == [list(rows["path"]) for rows in every[0]]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=7), st.integers(1, 12), st.integers(0, 99))
def test_a_draw_is_exact_if_any_choice_of_groups_is(sizes: list[int], count: int, seed: int) -> None:
    names = [f"part {place}" for place, size in enumerate(sizes) for _ in range(size)]
    rows = pd.DataFrame({"path": [str(i) for i in range(len(names))], "group": names, "category": "bolt"})
    rows["sha256"] = rows["path"]
    choices = (chosen for many in range(1, len(sizes) + 1) for chosen in itertools.combinations(sizes, many))
    if not any(sum(chosen) == count for chosen in choices):
        with pytest.raises(ValueError, match="groups are not cut"):
            base.drawn(rows, count, seed, "test")
        return
    drawn = base.drawn(rows, count, seed, "test")
    assert len(drawn) == count
    assert set(drawn["group"]).isdisjoint(rows["group"].drop(drawn.index))
