"""A fitted method as one torch module that can be traced: images in, smoothed maps and scores out.

Some methods score by faiss, in chunks or image by image, which no graph can hold. What stands here takes their place
while a graph is made: the same mathematics in tensor operations alone, for a batch of any size. The methods themselves
are not changed, and what comes out of a graph is measured against them (adcore/line/bundle.py)."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn import functional

from adcore.core.contracts import FeatureMethod, Maps, Method
from adcore.enhancers import _lgffp
from adcore.features.extractor import Extractor, Pixels
from adcore.methods import _tfa_net, anomaly_dino
from adcore.methods.dfm import DFM
from adcore.methods.padim import PaDiM
from adcore.methods.patchcore import NEIGHBOURS, PatchCore
from adcore.methods.spade import SPADE
from adcore.methods.subspace_ad import SubspaceAD
from adcore.methods.tfa_net import TFANet
from adcore.vision import maps as vision

Found = tuple[torch.Tensor, torch.Tensor | None]
SQUARINGS = 12  # of a covariance, to find its first component: 4,096 steps of the power method


class Model(nn.Module):
    """Images (B, 3, size, size), uint8, resized and cropped -> smoothed maps (B, size, size) and image scores (B,)."""

    def __init__(self, method: Method, reader: Extractor | Pixels) -> None:
        super().__init__()
        extractor = reader if isinstance(reader, Extractor) else _extractor(method)
        self.extractor = None if extractor is None else Opened(extractor)
        self.method = opened(method, self.extractor)
        self.reads_features = isinstance(method, FeatureMethod)
        self.networks = nn.ModuleList(networks(self.method))
        self.eval().requires_grad_(False)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """In float32."""
        seen: Any = images
        if self.reads_features:
            assert self.extractor is not None
            seen = self.extractor(images)
        raw, given = self.method.score(seen)
        smooth = smoothed(raw, self.method.context.image_size, self.method.smoothing)
        return smooth, vision.image_scores(smooth, given).float()


class Opened(nn.Module):
    """An extractor as a module, its enhancers among its parts, and without inference mode."""

    def __init__(self, extractor: Extractor) -> None:
        super().__init__()
        self.network, self.added = extractor.network, extractor.added
        self.maps = extractor.maps
        self.size, self.device = extractor.size, extractor.device

    def forward(self, images: torch.Tensor) -> Maps:
        """As the extractor."""
        return self.maps(images)


@contextlib.contextmanager
def traceable() -> Iterator[None]:
    """Within the block the helpers of methods are such as a graph can hold. Nothing else may score meanwhile."""
    with contextlib.ExitStack() as stack:
        for place, name, form in (
            ("adcore.kernels.nearest", "nearest", nearest),
            ("adcore.vision.maps", "postprocess", smoothed),
            (_tfa_net, "postprocess", smoothed),
            (_lgffp.LGFFP, "_tokens", _tokens),
            (anomaly_dino, "_first_component", first_component),
            (torch, "inference_mode", _no_inference_mode),
        ):
            target = f"{place}.{name}" if isinstance(place, str) else None
            stack.enter_context(mock.patch(target, form) if target else mock.patch.object(place, name, form))
        yield


def opened(method: Method, extractor: Any) -> Method:
    """A copy of a method, and of those inside it, that scores as `traceable` allows; what it has learned is shared."""
    twin = copy.copy(method)
    twin.context = replace(method.context, extractor=lambda: extractor)
    for name, value in vars(method).items():
        if isinstance(value, Method):
            setattr(twin, name, opened(value, extractor))
    for kind, form in FORMS.items():
        if isinstance(twin, kind):
            form(twin)
    return twin


def networks(method: Method) -> list[nn.Module]:
    """Those that a method and the methods inside it have learned."""
    values = list(vars(method).values())
    inside = [network for value in values if isinstance(value, Method) for network in networks(value)]
    return [value for value in values if isinstance(value, nn.Module)] + inside


def _extractor(method: Method) -> Extractor | None:
    if method.context.extractor is None:
        return None
    found = method.context.extractor()
    assert isinstance(found, Extractor)
    return found


def nearest(queries: torch.Tensor, bank: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As `adcore.kernels.nearest.nearest`, the search by one product."""
    found = torch.addmm(bank.square().sum(1), queries, bank.T, alpha=-2).topk(k, dim=1, largest=False).indices
    distances = (queries[:, None] - bank[found]).square().sum(2).sqrt()
    if k == 1:
        return distances, found
    distances, order = distances.topk(k, dim=1, largest=False)
    return distances, found.gather(1, order)


def smoothed(maps: torch.Tensor, size: tuple[int, int], sigma: float) -> torch.Tensor:
    """As `adcore.vision.maps.postprocess`, all images at once."""
    rows, columns = _operator(maps.shape[1], size[0], sigma), _operator(maps.shape[2], size[1], sigma)
    return rows.to(maps.device) @ (maps.float() @ columns.to(maps.device).T)


@lru_cache(maxsize=64)
def _operator(source: int, target: int, sigma: float) -> torch.Tensor:
    """Not the one that scoring has kept, which may have been made in inference mode."""
    return vision.axis_operator(source, target, sigma).clone()


def first_component(maps: torch.Tensor) -> torch.Tensor:
    """As `anomaly_dino._first_component`, by the power method, since ONNX has no eigenvectors."""
    patches = maps.flatten(2).transpose(1, 2).double()
    patches = patches - patches.mean(1, keepdim=True)
    wide = patches.shape[2] > patches.shape[1]
    square = patches @ patches.transpose(1, 2) if wide else patches.transpose(1, 2) @ patches
    power = square
    for _ in range(SQUARINGS):
        power = power / power.square().sum((1, 2), keepdim=True).sqrt().clamp(min=1e-300)
        power = power @ power
    # Of a matrix that is one vector times itself, the column with the largest entry on the diagonal is that vector.
    longest = power.diagonal(dim1=1, dim2=2).argmax(1)
    vector = power.gather(2, longest[:, None, None].expand(-1, power.shape[1], 1))
    vector = vector / vector.square().sum(1, keepdim=True).sqrt().clamp(min=1e-300)
    along = vector * (square @ vector).square().sum(1, keepdim=True).sqrt().sqrt() if wide else patches @ vector
    scores: torch.Tensor = along.reshape(-1, *maps.shape[2:])
    return scores


def _no_inference_mode(mode: bool = True) -> Any:
    """Tensors made in inference mode take no part in a graph."""
    return torch.no_grad() if mode else contextlib.nullcontext()


def _tokens(self: Any, aggregate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `LGFFP._tokens`, all images at once."""
    if self.standardise:
        aggregate = (aggregate - self.mean[:, None, None]) / self.deviation[:, None, None]
    before = aggregate.flatten(2).transpose(1, 2).contiguous()
    return before, self._mixed(before)


def _padim(method: Any) -> None:
    """The drawn channels of each layer as lists that are there before a graph is made."""
    channels = method.channels.cpu()

    def embed(layers: Maps) -> torch.Tensor:
        parts, first = [], 0
        for layer in layers:
            own = [each - first for each in drawn if first <= each < first + layer.shape[1]]
            first += layer.shape[1]
            if own:
                kept = layer if len(own) == layer.shape[1] else layer[:, own]
                parts.append(functional.interpolate(kept, size=layers[0].shape[2:], mode="nearest"))
        return torch.cat(parts, 1).flatten(2).transpose(1, 2)

    drawn: list[int] = channels.tolist()
    method._embed = embed


def _patchcore(method: Any) -> None:
    """The weight of the image score (`adcore.kernels.memory.reweighted`) for all images at once."""

    def score(features: Maps) -> Found:
        memory = method.memory
        patches = method._embed(features)
        distances, neighbours = (x.reshape(patches.shape[:2]) for x in nearest(patches.flatten(0, 1), memory, 1))
        maps = distances.reshape(-1, *features[0].shape[2:])
        worst = distances.argmax(1, keepdim=True)
        scores = distances.gather(1, worst)[:, 0]
        few = min(NEIGHBOURS, len(memory))
        if not method.options.reweight or few == 1:
            return maps, scores
        around = nearest(memory[neighbours.gather(1, worst)[:, 0]], memory, few)[1]
        patch = patches.gather(1, worst[:, :, None].expand(-1, -1, patches.shape[2]))
        spread = torch.linalg.vector_norm(patch - memory[around], dim=2)
        return maps, -torch.expm1(scores - spread.logsumexp(1)) * scores

    method.score = score


def _spade(method: Any) -> None:
    """One neighbour after the other for all images at once (`adcore.kernels.pyramid.nearest_squared`)."""
    from adcore.kernels.pyramid import arranged, families

    orders = families(method.grids)
    members, coarsest = orders[0].shape
    positions = torch.zeros(int(orders[0].max()) + 1, dtype=torch.int64)
    positions[orders[0].flatten()] = torch.arange(members * coarsest)

    def score(features: Maps) -> Found:
        count = min(method.options.neighbours, len(method.vectors))
        far, images = nearest(features[-1].mean((2, 3)), method.vectors, count)
        asked = [arranged(maps, order) for maps, order in zip(features, orders, strict=False)]
        least = None
        for place in range(count):
            best = None
            for query, level in zip(asked, method.gallery, strict=True):
                own = _squared(query, level[images[:, place]])
                if best is not None:  # of the positions below one coarse position only the nearest counts
                    best = torch.unflatten(best, 2, (-1, own.shape[2])).amin(2)
                    own = (torch.unflatten(best, 1, (-1, own.shape[1])) + own[:, None]).flatten(1, 2)
                best = own
            assert best is not None
            found = best.amin(2)
            least = found if least is None else torch.minimum(least, found)
        assert least is not None
        maps = least.clamp(min=0)[:, positions].reshape(-1, *method.grids[0])
        return maps, far.square().mean(1) if method.options.image_score == "pooled" else None

    method.score = score


def _squared(query: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """Squared distances (B, n, m) of rows (B, n, C) and (B, m, C)."""
    products = query @ part.transpose(1, 2)
    return part.square().sum(2)[:, None] - 2 * products + query.square().sum(2)[:, :, None]


def _subspace(method: Any) -> None:
    """How many components are kept is known before a graph is made."""
    from adcore.methods._pca import Subspace

    count = method.subspace.kept(method.options.variance)

    class Known(Subspace):
        def kept(self, share: float) -> int:
            return int(count)

    method.subspace = Known(*method.subspace)


def _tfa(method: Any) -> None:
    """All images at once."""

    def score(features: Maps) -> Found:
        maps = method._map(features)
        return maps, maps.flatten(1).std(1, correction=0)

    method.score = score


FORMS: dict[type[Method], Callable[[Any], None]] = {
    PaDiM: _padim,
    PatchCore: _patchcore,
    SPADE: _spade,
    DFM: _subspace,
    SubspaceAD: _subspace,
    TFANet: _tfa,
}
