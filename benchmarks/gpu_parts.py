"""The parts of `benchmarks.gpu` that run a piece of adcore alone: extraction, decoding, kernels, metrics.

Each gives rows, the CPU's form beside that of the session's device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from adcore.core.devices import is_accelerator
from adcore.core.plan import BackboneSpec, ImageSpec
from adcore.core.prefetch import WORKERS
from adcore.features.extractor import Extraction, Extractor, decoded
from adcore.kernels import coreset, gaussian, nearest
from adcore.metrics import pixel_metrics
from adcore.vision.images import image_files
from benchmarks import metrics as peers
from benchmarks.coreset import clustered
from benchmarks.gpu_session import LEVELS, Row, Session, apart, farthest, once, reason, within

ROUNDS = 10  # of k-means


class Halved(torch.nn.Module):
    """A network in bf16 where autocast takes it for safe."""

    def __init__(self, network: torch.nn.Module, device: str) -> None:
        super().__init__()
        self.network, self.kind = network, torch.device(device).type

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        with torch.autocast(self.kind, torch.bfloat16):
            maps: list[torch.Tensor] = self.network(pixels)
        return maps


def extraction(session: Session) -> Iterator[Row]:
    """Images/s from uint8 on the host to feature maps on the device, in channels_last as always."""
    device, size = session.device, session.size
    for name in ("tf_efficientnet_lite0", "wide_resnet50_2")[: session.of(2, 1)]:
        what = Extraction(BackboneSpec(name=name, weights="random"), ImageSpec(resize=size), LEVELS)
        host, other = Extractor(what, "cpu"), Extractor(what, device)
        plain = other.network.model
        forms = {"float32": (plain, 1e-2), "bf16 autocast": (Halved(plain, device), 0.1)}
        if session.compiles:
            forms["torch.compile"] = (torch.compile(plain, dynamic=False), 1e-2)
        for batch in (1, 4) if session.quick else (1, 32, 128):
            images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
            base, truth = session.timed(lambda: host(images))  # noqa: B023  (called at once)
            beside = "CPU", batch / base
            for form, (network, most) in forms.items():
                title = f"extract {name}, batch {batch}, {form}"
                if form == "torch.compile" and batch == 32:
                    continue  # compiling takes half a minute: the two ends will do
                other.network.model = network
                try:
                    spent, found = session.timed(lambda: other(images), device)  # noqa: B023
                except Exception as error:
                    yield Row(title, note=reason(error))
                    continue
                agreement = within(apart(truth, found), most)
                yield Row(title, *beside, "images/s", form=batch / spent, **agreement)
                if form == "float32":
                    beside = f"float32 on {device}", batch / spent
                    session.rate = max(session.rate, batch / spent) if "lite0" in name else session.rate
    if not session.compiles:
        yield Row("extract, torch.compile", note="not asked for: --compile")


def grey(truth: Iterable[torch.Tensor], found: Iterable[torch.Tensor]) -> dict[str, Any]:
    """Of a row: whether pixels differ by a grey level at most in the mean, and by how many at most."""
    gaps = [(a.cpu().int() - b.cpu().int()).abs() for a, b in zip(truth, found, strict=True)]
    mean, most = float(np.mean([gap.float().mean() for gap in gaps])), max(int(gap.max()) for gap in gaps)
    return {"agrees": mean <= 1, "note": f"{most} grey levels, {mean:.2g} in the mean"}


def decoding(session: Session) -> Iterator[Row]:
    """Images/s from files in the page cache to what the network is given; and torchvision's decoders."""
    from torchvision.io import ImageReadMode, decode_image, decode_jpeg, encode_jpeg, read_file
    from torchvision.transforms.v2.functional import resize

    size, device, rgb = session.size, session.device, ImageReadMode.RGB
    files = image_files(session.category.root, session.cells[0].train)
    count, title = len(files), f"decode and resize, {WORKERS} threads"

    def theirs() -> list[torch.Tensor]:
        return [resize(decode_image(read_file(str(file.path)), rgb), [size, size]) for file in files]

    base, truth = session.timed(lambda: [torch.from_numpy(file.load(size, size)) for file in files])
    ours = "ours, one thread", count / base, "images/s"
    spent, found = session.timed(lambda: list(decoded(files, ImageSpec(resize=size))))
    yield Row(title, *ours, count / spent, **grey(truth, torch.cat(found)))
    slow = "decoding" if count / spent < session.rate else "extraction"
    if session.rate:
        yield Row(title, f"extracting on {device}", session.rate, "images/s", count / spent, note=f"{slow} limits")
    spent, pictures = session.timed(theirs)
    yield Row("decode and resize, torchvision, one thread", *ours, count / spent, **grey(truth, pictures))
    jpegs = [encode_jpeg(torch.from_numpy(file.decode()).permute(2, 0, 1).contiguous(), 95) for file in files]
    base, truth = session.timed(lambda: [decode_jpeg(jpeg, rgb) for jpeg in jpegs])
    title, one = f"decode JPEG, torchvision on {device}", ("torchvision, one thread", count / base, "images/s")
    try:
        spent, pictures = session.timed(lambda: decode_jpeg(jpegs, rgb, device), device)
        yield Row(title, *one, count / spent, **grey(truth, pictures))
    except RuntimeError as error:  # a torchvision that was built without nvJPEG
        yield Row(title, note=reason(error))


def farthest_first(points: torch.Tensor, k: int, start: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The plain algorithm, the reference: a pick is one matrix-vector product, which reads every point once.

    `points` (N, d) float32 on any device; the k picks, int64, and the covering radius come back there, so that nobody
    waits. The lowest index is picked on a tie, as on the CPU (argmax promises none on a card). Squared distances are
    |x|^2 - 2 x c + |c|^2, rounded relative to the lengths: nearer ties than that may fall otherwise than ours.
    """
    norms, numbers = points.square().sum(1), torch.arange(len(points), device=points.device)
    nearest = torch.full_like(norms, torch.inf)
    picks, pick = torch.empty(k, dtype=torch.int64, device=points.device), torch.tensor([start], device=points.device)
    for number in range(k):
        picks[number : number + 1] = pick
        squared = torch.addmv(norms, points, points.index_select(0, pick)[0], alpha=-2).add_(norms[pick]).clamp_(min=0)
        nearest = torch.minimum(nearest, squared).index_fill_(0, pick, 0)  # a pick's own may round to more
        pick = numbers.where(nearest == nearest.max(), len(points)).min().view(1)
    return picks, nearest.max().sqrt()


def picking(session: Session) -> Iterator[Row]:
    """PatchCore's coreset: 10 % of the patches of 209 images, as in a category of MVTec AD."""
    points, device = clustered(session.of(163_856, 1_000), session.of(297, 24)), session.device
    k = len(points) // 10
    coreset.greedy_k_centre(points[:100], 10, 0)  # compiles
    base, (truth, radius) = once(lambda: coreset.greedy_k_centre(points, k, 0))
    there = torch.from_numpy(points).to(device)
    farthest_first(there[:100], 10, 0)
    spent, (found, reached) = once(lambda: farthest_first(there, k, 0), device)
    same = int((torch.from_numpy(truth) == found.cpu()).int().cumprod(0).sum())  # a tie in rounding parts them for good
    wide = abs(float(reached) - radius) / radius
    agreement = within(wide, 1e-2, f" in the radius; the first {same} of {k} picks are the same")
    title = f"coreset, {len(points)} x {points.shape[1]}, plain torch on {device}"
    yield Row(title, "CPU, pruned (numba)", base, "s", spent, **agreement)


def lloyd(points: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """k-means from these centres, ROUNDS rounds; a cluster without points keeps its centre."""
    for _ in range(ROUNDS):
        owner = nearest.search(points, centres, 1)[:, 0]
        counts = torch.bincount(owner, minlength=len(centres))[:, None]
        sums = torch.zeros_like(centres).index_add_(0, owner, points)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres


def clustering(session: Session) -> Iterator[Row]:
    """CFA's k-means at `gamma_c` 4: a quarter as many centroids as positions."""
    from sklearn.cluster import KMeans

    points = torch.from_numpy(clustered(session.of(3_136, 400), session.of(176, 24)))
    start, device = points[::4].clone(), session.device

    def inertia(centres: Any) -> float:
        return float(nearest.nearest(points, torch.as_tensor(centres).cpu(), 1)[0].square().sum())

    def by_faiss(gpu: bool) -> Any:
        import faiss

        kept = {"min_points_per_centroid": 1, "max_points_per_centroid": len(points)}
        means = faiss.Kmeans(points.shape[1], len(start), niter=ROUNDS, gpu=gpu, **kept)
        means.train(points.numpy(), init_centroids=start.numpy())
        return means.centroids

    settled = KMeans(len(start), init=start.numpy(), n_init=1, max_iter=ROUNDS, tol=0)
    base, truth = session.timed(lambda: settled.fit(points.numpy()).cluster_centers_)
    there = points.to(device), start.to(device)
    forms = [(f"torch on {device}", "", lambda: lloyd(*there))]
    forms += [("faiss on the CPU", without_faiss(), lambda: by_faiss(False))]
    forms += [("faiss-gpu", without_faiss_gpu(device), lambda: by_faiss(True))]
    title = f"k-means, {len(points)} x {points.shape[1]}, {len(start)} centres"
    for name, missing, form in forms:
        if missing:
            yield Row(f"{title}, {name}", note=missing)
            continue
        spent, found = session.timed(form, device)
        gap = abs(inertia(found) / inertia(truth) - 1)
        yield Row(f"{title}, {name}", "CPU, scikit-learn", base, "s", spent, **within(gap, 2e-2, " in the inertia"))


def without_faiss() -> str:
    """Why there is no faiss; "" where there is one."""
    return "" if nearest._has_faiss() else "faiss is not installed: pip install faiss-cpu, or faiss-gpu"


def without_faiss_gpu(device: str) -> str:
    """Why faiss cannot use the device; "" where it can."""
    if without_faiss() or not is_accelerator(device):
        return without_faiss() or "faiss-gpu wants a CUDA card"
    import faiss

    there = "StandardGpuResources" in vars(faiss)
    return "" if there else "the faiss here is faiss-cpu: pip uninstall faiss-cpu, pip install faiss-gpu"


def gaussians(session: Session) -> Iterator[Row]:
    """PaDiM's: 100 channels at every position of 56 x 56, 40 images, and the distances of a batch."""
    positions, dims, device = session.of(3_136, 64), session.of(100, 8), session.device
    samples = torch.randn(40, positions, dims, generator=torch.Generator().manual_seed(0))
    there = samples.to(device)
    base, truth = session.timed(lambda: gaussian.fit(samples, 0.01))
    spent, found = session.timed(lambda: gaussian.fit(there, 0.01), device)
    title = f"Gaussians, {positions} of {dims} dimensions"
    yield Row(f"{title}, fit", "CPU", base, "s", spent, **within(apart(truth, found), 1e-3))
    base, distances = session.timed(lambda: gaussian.mahalanobis(samples[:16], *truth))
    spent, others = session.timed(lambda: gaussian.mahalanobis(there[:16], *found), device)
    yield Row(f"{title}, 16 images", "CPU", base, "s", spent, **within(apart([distances], [others]), 1e-3))


def neighbours(session: Session) -> Iterator[Row]:
    """PatchCore's: the patches of 16 images in a memory of 16,385, k = 9."""
    bank, k, device = session.of(16_385, 500), 9, session.device
    points = torch.from_numpy(clustered(bank + session.of(12_544, 300), session.of(297, 24)))
    memory, queries = points[:bank], points[bank:]
    base, truth = session.timed(lambda: nearest.nearest(queries, memory, k))
    there = queries.to(device), memory.to(device)
    beside = f"CPU, {'torch' if without_faiss() else 'faiss'}", base, "s"
    title = f"neighbours, {len(queries)} in {bank} x {points.shape[1]}"

    def agreement(distances: torch.Tensor, found: torch.Tensor) -> dict[str, Any]:
        same = float((found.cpu() == truth[1]).float().mean())
        return within(apart([truth[0]], [distances]), 1e-3, f"; {same:.3%} of the indices are the same")

    spent, found = session.timed(lambda: nearest.nearest(*there, k), device)
    yield Row(f"{title}, our product on {device}", *beside, spent, **agreement(*found))
    if missing := without_faiss_gpu(device):
        yield Row(f"{title}, faiss-gpu", note=missing)
        return
    import faiss
    import faiss.contrib.torch_utils  # has knn_gpu take tensors where they are

    resources = faiss.StandardGpuResources()
    spent, (squared, indices) = session.timed(lambda: faiss.knn_gpu(resources, *there, k), device)
    yield Row(f"{title}, faiss-gpu", *beside, spent, **agreement(squared.clamp(min=0).sqrt(), indices))


def judging(session: Session) -> Iterator[Row]:
    """The pixel metrics, which have no form on a card."""
    maps, masks = peers.generated(session.of(83, 6), session.of(256, 64))
    spent, found = session.timed(lambda: pixel_metrics(maps, masks))
    base, truth = once(lambda: peers.scikit_learn(maps, masks))
    gap = farthest(truth, found)
    title = f"pixel metrics, {len(maps)} maps of {maps.shape[1]}, CPU alone"
    yield Row(title, "scikit-learn, without AUPRO", base, "s", spent, gap < 1e-6, f"{gap:.1e}")
