"""benchmarks/cluster_simulation.py against closed forms."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.cluster_simulation import CATEGORIES, CELLS, NODES, STEPS, Costs, Outcome, drawn, logged, simulate

NONE = Costs.none()


def test_groups_that_are_drawn_have_the_mean_that_was_asked_for_and_are_the_same_again() -> None:
    assert sum(drawn(20_000, 60.0)) / 20_000 == pytest.approx(60.0, rel=0.02)
    assert drawn(50, 3.0, seed=1) == drawn(50, 3.0, seed=1) != drawn(50, 3.0, seed=2)


def test_one_node_takes_the_sum_of_all() -> None:
    assert simulate([3.0, 1.0, 2.5], 1, NONE).makespan == pytest.approx(6.5)


def test_as_many_nodes_as_groups_take_the_longest() -> None:
    assert simulate([3.0, 1.0, 2.5], 3, NONE).makespan == pytest.approx(3.0)


def test_groups_are_taken_in_order_by_the_node_that_is_free_first() -> None:
    assert simulate([3.0, 2.0, 2.0, 2.0, 4.0], 2, NONE).makespan == pytest.approx(2.0 + 2.0 + 4.0)


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("groups", [1, 7, 300])
def test_where_nothing_else_costs_anything_the_bounds_of_list_scheduling_hold(nodes: int, groups: int) -> None:
    durations = drawn(groups, 60.0)
    share, longest = sum(durations) / nodes, max(durations)
    assert max(longest, share) - 1e-6 <= simulate(durations, nodes, NONE).makespan <= share + longest + 1e-6


def test_a_driver_that_takes_a_second_a_group_bounds_the_makespan() -> None:
    found = simulate([3.0] * 500, 256, replace(NONE, submitted=1.0))
    assert found.makespan == pytest.approx(500 * 1.0 + 3.0)
    assert (found.busiest, found.used["driver"]) == ("driver", pytest.approx(500 / 503))


def test_four_drivers_submit_four_times_as_fast() -> None:
    found = simulate([3.0] * 500, 256, replace(NONE, submitted=1.0), drivers=4)
    assert found.makespan == pytest.approx(125 * 1.0 + 3.0)


def test_a_bucket_that_takes_a_second_a_cell_bounds_the_makespan() -> None:
    costs = replace(NONE, request=1 / 6)
    assert simulate([3.0] * 100, 256, costs).makespan == pytest.approx(1.0 + 100 * CELLS * 1.0)


def test_each_node_starts_a_worker_once() -> None:
    assert simulate([2.0] * 6, 2, replace(NONE, worker=10.0)).makespan == pytest.approx(10.0 + 3 * 2.0)


def test_what_the_driver_does_before_and_after_the_groups_adds_to_them() -> None:
    costs = replace(NONE, start=5.0, planned=0.1, fetched=0.2, published=0.3)
    assert simulate([2.0] * 4, 2, costs).makespan == pytest.approx(5.0 + 4 * CELLS * 0.6 + 2 * 2.0)


def test_mlflow_comes_last_a_run_for_the_cells_of_all_categories() -> None:
    found = simulate([2.0] * CATEGORIES, CATEGORIES, replace(NONE, logged=1.5))
    assert found.makespan == pytest.approx(2.0 + CELLS * 1.5)
    assert logged(replace(NONE, logged=1.5)) * CATEGORIES == pytest.approx(CELLS * 1.5)


def test_nobody_waits_for_prefect_which_is_behind_at_the_end() -> None:
    found = simulate([3.0] * 10, 10, replace(NONE, told=1.0))
    recorded = 10 * (CELLS * STEPS + 1)
    assert found.makespan == pytest.approx(3.0)
    assert found.behind == pytest.approx(1.0 + recorded - 3.0)  # the first cells have ended after a second
    assert found.used["Prefect"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("mean", [3.0, 60.0])
@pytest.mark.parametrize("nodes", NODES)
def test_no_part_is_busy_for_more_than_all_of_the_time(nodes: int, mean: float) -> None:
    used = simulate(drawn(400, mean), nodes, Costs()).used
    assert all(0.0 < share <= 1.0 for share in used.values())


def test_efficiency_is_the_share_of_the_nodes_that_computes() -> None:
    found = Outcome(nodes=4, work=60.0, makespan=20.0)
    assert (found.speedup, found.efficiency) == (3.0, 0.75)
