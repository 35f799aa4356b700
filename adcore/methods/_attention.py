"""Reads attention off transformers: what a frozen ViT looks at, and how much every token is looked at."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from adcore.features import backbones

Projected = list[torch.Tensor]  # (B, N, 3 * heads * width), the queries, keys and values of one module
Result = TypeVar("Result")
Kind = Literal["cls", "column"]


@contextlib.contextmanager
def recorded(modules: Sequence[Any]) -> Iterator[Projected]:
    """A list that gets the projections of each module (timm's Attention) when it runs within the block, in order.

    The module itself may run a fused kernel, which shows no weights: `weights` makes them from the projections.
    """
    found: Projected = []

    def keep(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        found.append(output)

    hooks = [module.qkv.register_forward_hook(keep) for module in modules]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def weights(module: Any, projected: torch.Tensor, queries: int | None = None) -> torch.Tensor:
    """softmax(Q K^T / sqrt(d)) of a timm Attention from its projections: (B, heads, N, N), float32.

    `queries`: of the first so many tokens alone, (B, heads, queries, N).
    """
    parts = torch.unflatten(projected, 2, (3, module.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, heads, N, width)
    query, key = module.q_norm(parts[0][:, :, :queries]), module.k_norm(parts[1])
    products = (query.float() * module.scale) @ key.float().transpose(2, 3)
    shares: torch.Tensor = products.softmax(3)
    return shares


class Looks:
    """What a frozen ViT, as timm's `features_only` gives it, looks at in some of the blocks that are read from it.

    `of`: `cls`: the class token's attention to each patch; `column`: the mean attention that each patch gets from all
    tokens. Mean over heads and blocks.
    """

    def __init__(self, model: Any, places: Sequence[int], of: Kind) -> None:
        read = readable(model)
        self.prefix: int = model.model.num_prefix_tokens
        self.grid: tuple[int, int] = model.model.patch_embed.grid_size
        self.modules = [read[place] for place in places]
        self.queries = 1 if of == "cls" else None

    def during(self, run: Callable[[], Result]) -> tuple[Result, torch.Tensor]:
        """What `run` gives, which runs the model once, and its (B, rows, columns) of patches, float32."""
        with recorded(self.modules) as projected:
            result = run()
        pairs = zip(self.modules, projected, strict=True)
        found = [weights(module, one, self.queries).mean((1, 2))[:, self.prefix :] for module, one in pairs]
        return result, torch.unflatten(torch.stack(found).mean(0), 1, self.grid)


def readable(model: Any) -> list[Any]:
    """The attention modules of the blocks that a `features_only` model gives; none where it has no class token, is no
    ViT, or attends in a way that `weights` does not know (rotary positions, say)."""
    from timm.layers.attention import Attention
    from timm.models.vision_transformer import VisionTransformer

    vit = backbones.transformer(model)
    if not isinstance(vit, VisionTransformer) or not vit.has_class_token:
        return []
    modules = [vit.blocks[index].attn for index in model.out_indices]
    return modules if all(type(module) is Attention for module in modules) else []
