"""Seeds: what is drawn depends on the names alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from adcore.core.draws import generator
from adcore.vision.cutpaste import cutpaste, scar
from adcore.vision.defects import Synthesiser
from adcore.vision.jigsaw import jigsaw, permutations

DRAWS = [Synthesiser(True), Synthesiser(False), cutpaste, scar, lambda x, rng: jigsaw(x, permutations(3, 5, 0), rng)]


def test_every_name_and_the_seed_count() -> None:
    def first(*names: object) -> float:
        return generator(0, *names).random()

    assert first("a", 1) == first("a", 1)
    assert len({first("a", 1), first("a", 2), first("b", 1), first("a"), generator(1, "a", 1).random()}) == 5


@pytest.mark.parametrize("draw", DRAWS)
def test_neither_order_nor_workers_change_what_is_drawn(draw, thing: np.ndarray) -> None:
    def made(epoch: int) -> bytes:
        image, other = draw(thing, generator(3, "sha", epoch))
        return image.tobytes() + np.asarray(other).tobytes()

    expected = [made(epoch) for epoch in range(6)]
    assert len(set(expected)) == 6
    assert [made(epoch) for epoch in reversed(range(6))] == expected[::-1]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(made, range(6))) == expected


@pytest.mark.parametrize("draw", DRAWS)
def test_the_input_is_left_alone_and_may_be_read_only(draw, thing: np.ndarray) -> None:
    before = thing.copy()
    thing.flags.writeable = False
    for epoch in range(5):
        image, _ = draw(thing, generator(0, epoch))
        assert image.dtype == np.uint8 and image.shape == thing.shape
        assert image.flags.writeable and image.flags.c_contiguous and not np.shares_memory(image, thing)
    assert (thing == before).all()
