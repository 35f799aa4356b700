"""A memory bank of normal patches: its coreset, and the image score that asks it."""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from adcore.kernels.coreset import greedy_k_centre
from adcore.kernels.nearest import nearest

PROJECTED = 128  # dimensions of the random projection that the coreset is chosen in (PatchCore's official code)


def coreset_memory(
    patches: Callable[[], Iterable[torch.Tensor]],
    count: int,
    share: float,
    seed: int,
    progress: Callable[[float], None],
) -> torch.Tensor:
    """The greedy k-centre coreset (k, d) of `count` patches, k = max(1, floor(share * count)).

    `patches()` yields them anew, in the same order, as blocks (n, d): once to project, once to gather, so that only
    the projected ones are ever held together. Chosen in a Gaussian random projection where d > 128; what is kept is
    not projected. Fewer rows come back when there are fewer distinct patches (Roth et al. 2022, Algorithm 1).
    """
    generator = torch.Generator().manual_seed(seed)
    start = int(torch.randint(count, (1,), generator=generator))
    projected: np.ndarray[tuple[int, int], np.dtype[np.float32]] | None = None
    projection = None
    filled = 0
    for block in patches():
        if projected is None:
            dims = block.shape[1]
            if dims > PROJECTED:
                projection = torch.randn(dims, PROJECTED, generator=generator).to(block.device) / PROJECTED**0.5
            projected = np.empty((count, min(dims, PROJECTED)), np.float32)
        projected[filled : filled + len(block)] = (block if projection is None else block @ projection).cpu().numpy()
        filled += len(block)
    assert projected is not None and filled == count
    # floor, but 0.29 * 100 is 28.999...
    size = max(1, int(share * count + 1e-9))
    picks = greedy_k_centre(projected, size, start, progress)[0]
    return _gather(patches(), np.sort(picks))


def _gather(blocks: Iterable[torch.Tensor], picks: np.ndarray[tuple[int], np.dtype[np.int64]]) -> torch.Tensor:
    """The rows of the concatenated blocks at the sorted `picks`."""
    chosen = []
    begin = 0
    for block in blocks:
        inside = picks[(picks >= begin) & (picks < begin + len(block))] - begin
        chosen.append(block[torch.from_numpy(inside).to(block.device)])
        begin += len(block)
    return torch.cat(chosen)


def reweighted(
    patches: torch.Tensor, distances: torch.Tensor, neighbours: torch.Tensor, memory: torch.Tensor, b: int
) -> torch.Tensor:
    """Image score () from the patches (P, d) of one image, their distances (P,) and nearest rows (P,) of `memory`.

    The largest distance, times 1 - exp(|p - m|) / sum of exp(|p - m'|) over the b rows m' nearest to m, m among
    them (Roth et al. 2022, Eq. 7). With b = 1, or a memory of one row, the weight is 1.
    """
    worst = distances.argmax()
    score = distances[worst]
    b = min(b, len(memory))
    if b == 1:
        return score
    around = nearest(memory[neighbours[worst], None], memory, b)[1][0]
    spread = torch.linalg.vector_norm(patches[worst] - memory[around], dim=1)
    return -torch.expm1(score - spread.logsumexp(0)) * score
