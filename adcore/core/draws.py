"""Random numbers that are the same on every machine, in every order and by every worker."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, *names: object) -> np.random.Generator:
    """Random numbers that depend on the seed and the names alone: neither on the order of a batch nor on its worker.

    Name what makes a draw its own: the image's sha256, the epoch, and what is drawn ("cutpaste").
    """
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
