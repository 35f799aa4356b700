"""Made defects, jigsaw puzzles and CutPaste for fine-tuning on normal images.

Sources: docs/papers/sbm-pfam.md#synthetic-defects, docs/papers/sbm-pfam.md#jigsaw-puzzles, docs/papers/mffa.md#psg.

Images are uint8 arrays (3, H, W) as `adcore.images.ImageFile.load` gives them (of a tensor: `tensor.numpy()`), masks
bool (H, W). No function changes its input, and all that is random comes from the generator it is handed.
"""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, *names: object) -> np.random.Generator:
    """Random numbers that depend on the seed and the names alone: neither on the order of a batch nor on its worker.

    Name what makes a draw its own: the image's sha256, the epoch, and what is drawn ("cutpaste").
    """
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
