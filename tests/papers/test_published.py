"""The papers' numbers: every row is joined with ours or says why not, and the suites are the papers' settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from adcore.core.plan import Plan, load
from adcore.engine import cells
from adcore.papers import published
from adcore.papers.published import PublishedError, Table
from adcore.papers.targets import Joiner, Target, paper

SUITES = Path(__file__).parents[2] / "suites"
NAMES = published.names()
TABLES = {stem: published.table(stem) for stem in published.stems()}


@pytest.fixture(scope="module")
def targets() -> dict[str, list[tuple[dict[str, Any], Target | str | None]]]:
    """Stem -> every row and what it is of; a row that names.yaml does not know raises."""
    found = {}
    for stem, table in TABLES.items():
        joiner = Joiner(NAMES, pd.concat([TABLES[other] for other in paper(stem, list(TABLES))]))
        found[stem] = [(row, joiner.target(stem, row)) for row in published.records(table)]
    return found


def plans(stem: str, profile: str) -> list[Plan]:
    return [load(SUITES / f"{name}.yaml") for name in NAMES.table(stem).plans(stem, profile)]


def test_all_tables_are_there_in_order() -> None:
    assert list(TABLES)[:3] == ["agpnet_table1", "agpnet_table2", "agpnet_table3"]
    assert list(TABLES).index("agpnet_table9") < list(TABLES).index("agpnet_table10")
    assert sum(map(len, TABLES.values())) == 1682
    table = TABLES["sbm-pfam_table1"]
    row = table[
        (table[["method", "enhancer", "category", "metric"]] == ["CFA", "SBM+PFAM", "overall", "I-AUROC"]).all(axis=1)
    ]
    assert row[["printed", "value"]].to_numpy().tolist() == [["99.48", 99.48]]


def test_every_row_of_a_system_of_ours_is_joined_or_listed(targets: dict[str, list[Any]]) -> None:
    for stem, rows in targets.items():
        ours = [(row, of) for row, of in rows if row["method"] in NAMES.systems]
        assert all(isinstance(of, Target) or NAMES.why_unmatched(row) == of for row, of in ours), stem
    assert not set(NAMES.absent) & set(NAMES.systems)


def test_every_printed_score_says_how_it_was_picked() -> None:
    every = pd.concat(TABLES.values())
    scores = every[every["metric"].str.contains("AUROC|PRO") & every["unit"].isin(published.POINTS)]
    assert "" not in set(scores["selection"])


def test_a_selection_that_is_no_word_of_ours_is_refused(tmp_path: Path) -> None:
    wrong = (published.FOLDER / "agpnet_table4.csv").read_text().replace(",unknown,", ",luck,", 1)
    (tmp_path / "new_table.csv").write_text(wrong)
    with pytest.raises(PublishedError, match=r"new_table.csv, line 2: selection 'luck' is none of untrained, last, "):
        published.table("new_table", tmp_path)


def test_a_table_without_selections_is_taken(tmp_path: Path) -> None:
    rows = pd.read_csv(published.FOLDER / "agpnet_table4.csv", dtype=str, keep_default_na=False)
    rows.drop(columns="selection").to_csv(tmp_path / "new_table.csv", index=False)
    assert set(published.table("new_table", tmp_path)["selection"]) == {""}


def test_the_readme_counts_what_is_missing() -> None:
    missing = sum(int(table["method"].isin(NAMES.absent).sum()) for table in TABLES.values())
    told = f"{len(NAMES.absent)} other systems are not, and {missing} of the 1,682 printed rows"
    assert told in " ".join((SUITES.parent / "README.md").read_text(encoding="utf-8").split())


def test_nothing_in_the_mapping_is_stale() -> None:
    every = pd.concat(TABLES.values())
    assert set(NAMES.absent) <= set(every["method"])
    assert set(NAMES.systems) <= set(every["method"])
    assert set(NAMES.settings) <= set(every["setting"])
    assert set(NAMES.tables) <= set(TABLES)
    for entry in NAMES.unmatched:
        assert any(all(row[k] == v for k, v in entry.where.items()) for row in published.records(every)), entry


@pytest.mark.parametrize("stem", TABLES)
def test_a_full_suite_has_every_system_as_the_paper_has_it(stem: str, targets: dict[str, list[Any]]) -> None:
    found = [(plan, contender) for plan in plans(stem, "full") for contender in cells.contenders(plan)]
    for row, of in targets[stem]:
        if not isinstance(of, Target) or of.quantity.source == "efficiency":
            continue
        for printed in of.contenders:
            exact = [
                plan
                for plan, contender in found
                if printed.differences(contender) == [] and contender.backbone.name == printed.ours.backbone
                if not printed.conditions(contender)
                if of.quantity.source == "latency" or of.kind in {spec.of_kind for spec in plan.datasets}
            ]
            assert exact, (row, printed.label)


@pytest.mark.parametrize("stem", TABLES)
def test_a_small_suite_has_every_system_in_some_size(stem: str, targets: dict[str, list[Any]]) -> None:
    found = [(plan, contender) for plan in plans(stem, "small") for contender in cells.contenders(plan)]
    assert {spec.of_kind for plan, _ in found for spec in plan.datasets} <= {"generated", "elpv"}
    for row, of in targets[stem]:
        if not isinstance(of, Target) or of.quantity.source == "efficiency":
            continue
        for printed in of.contenders[:1]:
            wanted = (None, "-") if printed.ours.small == "-" else (None, printed.ours.small)
            there = [contender for _, contender in found if printed.differences(contender) is not None]
            assert there or printed.ours.small == "-", (row, printed.label)
            if wanted[1] not in (None, "-"):
                assert wanted[1] in {contender.backbone.name for contender in there}, (row, printed.label)


def test_variants_are_told_apart_and_other_options_make_less_comparable(targets: dict[str, list[Any]]) -> None:
    def measured(**options: Any) -> cells.Contender:
        content = {"datasets": ["mvtec_ad"], "methods": [{"name": "tfa_net", **options}]}
        return cells.contenders(Plan.model_validate(content))[0]

    by_setting = {row["setting"]: of.contenders[0] for row, of in targets["tfa-net_table4"]}
    cosine = by_setting["one-class, anomaly map = cosine only"]
    assert cosine.differences(measured()) is None
    assert cosine.differences(measured(distance="cosine")) == []
    assert cosine.differences(measured(distance="cosine", epochs=5)) == ["epochs 5 instead of 400"]
    small = cosine.differences(measured(distance="cosine", preset="small", epochs=5))
    assert small == ["preset small instead of paper", "epochs 5 instead of 400"]


def test_caits_weights_asked_for_are_the_papers_and_stand_ins_are_not(targets: dict[str, list[Any]]) -> None:
    """On the paper's backbone `auto` and `pretrained` are the same weights, so neither is a difference."""
    printed = next(
        of.contenders[0] for row, of in targets["mffa_text"] if isinstance(of, Target) and row["method"] == "MFFA"
    )

    def differences(weights: str) -> list[str] | None:
        mffa = {"name": "mffa", "weights": weights}
        content = {"datasets": ["mvtec_ad"], "methods": [mffa], "enhancers": ["psg"]}
        plan = Plan.model_validate({**content, "backbone": {"name": printed.ours.backbone}})
        return printed.differences(cells.contenders(plan)[0])

    assert differences("auto") == []
    assert differences("pretrained") == []
    assert differences("stand-in") == ["weights stand-in instead of auto"]


def test_the_suite_of_mffa_has_caits_weights_wherever_it_runs() -> None:
    """Not random blocks where the file is not on the machine yet: no row is a stand-in, so all can be compared."""
    (plan,) = plans("mffa_text", "full")
    assert not [each.title for each in cells.contenders(plan) if each.stand_in]


def test_an_enhancers_options_and_the_conditions_count(targets: dict[str, list[Any]]) -> None:
    rows = [(row, of) for row, of in targets["sbm-pfam_table1"] if row["enhancer"] == "SBM+PFAM"]
    printed = rows[0][1].contenders[0]
    content = {"datasets": ["mvtec_ad"], "methods": ["padim"], "image": {"resize": 224}}
    plan = Plan.model_validate({**content, "enhancers": ["none", {"name": "paper", "epochs": 5}]})
    plain, enhanced = cells.contenders(plan)
    assert printed.differences(plain) is None
    assert printed.differences(enhanced) == ["sbm epochs 5 instead of 30", "pfam epochs 5 instead of 30"]
    assert printed.conditions(cells.contenders(plan)[0]) == [
        "backbone tf_efficientnet_lite0 instead of wide_resnet50_2.tv_in1k",
        "image 224 instead of 256",
    ]


def test_a_margin_is_over_what_the_same_paper_prints(targets: dict[str, list[Any]]) -> None:
    (found,) = [of for row, of in targets["agpnet_text"] if row["metric"] == "delta_P-AUROC_vs_DiAD"]
    assert (found.combine, found.kind, found.printed) == ("versus", "visa", 96.0)


HEADER = "paper,table,dataset,setting,method,enhancer,category,metric,value,unit,note\n"
ROW = "new,Table 1,VisA,one-class,PaDiM,none,{category},I-AUROC,{value},%,\n"


def written(folder: Path, text: str) -> Path:
    (folder / "new_table1.csv").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("paper,table\nnew,Table 1\n", "new_table1.csv lacks the columns dataset"),
        (HEADER + ROW.format(category="pcb1", value="98.4%"), "line 2: .98.4%. is not a number"),
        (HEADER + ROW.format(category="pcb1", value="n/a"), "line 2: 'n/a' is not a number"),
        (HEADER + ROW.format(category="pcb1", value="98,4"), "more fields than the header"),
        (HEADER + 2 * ROW.format(category="pcb1", value=98.4), "line 3: this cell stands in it twice"),
    ],
)
def test_a_bad_file_is_told_in_one_clear_error(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(PublishedError, match=told):
        published.table("new_table1", written(tmp_path, text))


def test_a_missing_table_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    written(tmp_path, HEADER)
    with pytest.raises(PublishedError, match=r"gone.csv.*known: new_table1"):
        published.table("gone", tmp_path)


def tolerances(folder: Path, *lines: str) -> list[float]:
    return [
        float(value) for value in published.table("new_table1", written(folder, HEADER + "".join(lines)))["tolerance"]
    ]


def test_a_tolerance_is_at_most_half_of_what_is_claimed(tmp_path: Path) -> None:
    """A claimed gain of 0.18 points must not hold whatever is measured."""
    plain, better = (ROW.format(category="bolt", value=value) for value in ("97.10", "97.28"))
    better = better.replace(",none,", ",SBM+PFAM,")
    assert tolerances(tmp_path, plain, better) == pytest.approx([0.09, 0.09])
    claim = ROW.format(category="bolt", value="0.30").replace("I-AUROC", "delta_I-AUROC")
    assert tolerances(tmp_path, claim) == pytest.approx([0.15])


def test_a_tolerance_is_no_finer_than_the_print_and_no_wider_than_usual(tmp_path: Path) -> None:
    rows = [ROW.format(category="bolt", value=value) for value in ("97.1", "97.2")]
    assert tolerances(tmp_path, rows[0], rows[1].replace("one-class", "1-shot")) == pytest.approx([0.05, 0.05])
    far = ROW.format(category="bolt", value="60.0").replace("one-class", "1-shot")
    assert tolerances(tmp_path, rows[0], far) == pytest.approx([0.5, 0.5])
    assert tolerances(tmp_path, rows[0], ROW.format(category="nut", value="97.2")) == pytest.approx([0.5, 0.5])


def test_a_tolerance_may_stand_in_the_file(tmp_path: Path) -> None:
    lines = [ROW.format(category=name, value=98.4).strip() + f",{given}" for name, given in (("a", ""), ("b", 0.2))]
    found = published.table("new_table1", written(tmp_path, HEADER.strip() + ",tolerance\n" + "\n".join(lines) + "\n"))
    assert found["tolerance"].tolist() == [0.5, 0.2]
    assert TABLES["agpnet_table9"]["tolerance"].iloc[0] == pytest.approx(97.42 / 200)  # half a percent


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tables": {"t": {"suite": "x"}}}, "tables.t.suite"),
        ({"unmatched": [{"where": {"method": "x"}, "reason": ""}]}, "unmatched.0.reason"),
        ({"systems": None}, "systems"),
    ],
)
def test_a_wrong_key_of_the_mapping_is_told(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    content = yaml.safe_load((published.FOLDER / "names.yaml").read_text()) | change
    (tmp_path / "names.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(PublishedError, match=told):
        published.names(tmp_path)


def test_a_mapping_that_is_no_yaml_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "names.yaml").write_text("systems: [")
    with pytest.raises(PublishedError, match=r"names.yaml is not valid YAML: [^\n]*line 1[^\n]*$"):
        published.names(tmp_path)


def test_a_spelling_that_is_not_known_is_told(tmp_path: Path) -> None:
    written(tmp_path, HEADER + ROW.format(category="pcb1", value=98.4).replace("PaDiM", "Padim"))
    (row,) = published.records(published.table("new_table1", tmp_path))
    with pytest.raises(PublishedError, match="'Padim'; add it to `systems`, or to `unmatched`"):
        Joiner(NAMES).target("new_table1", row)


def test_a_table_without_an_entry_is_made_from_suites_of_its_name() -> None:
    assert Table().plans("new_table1", "full") == ("new_table1",)
    assert Table().plans("new_table1", "small") == ("new_table1-small",)
