"""A transformer encoder over packed cells: no padding, so no work on tokens that do not exist.

The tokens of several cells lie one after the other in one ``(n_tokens, width)`` matrix.
Linear layers and norms do not care where a cell ends; only attention does.
On the CPU attention runs cell by cell, which needs no mask.
On a GPU it runs through the variable-length kernel where the precision allows it, else padded
with a key mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sclin.errors import ModelError

__all__ = ["Block", "Encoder", "Packing"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "gelu": functional.gelu,
    "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
    "leaky_relu": functional.leaky_relu_,
    "silu": lambda x: functional.silu(x, inplace=True),
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """Return an activation by its configuration name; it may work in place."""
    if name.lower() not in _ACTIVATIONS:
        raise ModelError(f"The activation {name!r} is not one of {sorted(_ACTIVATIONS)}.")
    return _ACTIVATIONS[name.lower()]


#: Queries whose scores are held at a time, and rows that a CPU feeds forward at a time.
_QUERIES, _ROWS = 512, 1024


@dataclass(frozen=True)
class Packing:
    """Where the cells of a batch lie.

    Attributes
    ----------
    lengths
        Rows of each cell in the batch matrix.
    valid
        Rows of each cell that are tokens; less than `lengths` only when cells are padded.
    starts
        First row of each cell, on the device, ``(n_cells,)``.
    ends
        Row after the last of each cell, on the device, ``(n_cells,)``.
    tokens
        `valid` on the device, ``(n_cells,)``.
    bias
        Added to the score of each row as a key, ``(n_rows,)``; minus infinity hides it.
    """

    lengths: list[int]
    valid: list[int]
    starts: Tensor
    ends: Tensor
    tokens: Tensor
    bias: Tensor | None = None

    @classmethod
    def of(
        cls, lengths: list[int], device: torch.device, *, padded: bool = False,
        bias: Tensor | None = None,
    ) -> Packing:  # fmt: skip
        """Describe a batch of cells, all padded to the longest when `padded`."""
        rows = torch.full((len(lengths),), max(lengths)) if padded else torch.tensor(lengths)
        ends = rows.cumsum(0)
        places = torch.stack([ends - rows, ends, torch.tensor(lengths)])
        starts, ends, tokens = to_device(places, device)
        return cls(rows.tolist(), list(lengths), starts, ends, tokens, bias)

    @property
    def cells(self) -> Tensor:
        """Cell of each row, ``(n_rows,)``."""
        return torch.repeat_interleave(self.ends - self.starts, output_size=sum(self.lengths))

    @property
    def places(self) -> Tensor:
        """Place of each row in its cell, ``(n_rows,)``."""
        cells = self.cells
        return torch.arange(len(cells), device=cells.device) - self.starts[cells]


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Copy to the device without waiting for it."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x


def _attend(qkv: Tensor, heads: int, packing: Packing) -> Tensor:
    """Full attention inside each cell, ``(n_rows, 3 * width) -> (n_rows, width)``."""
    n, width = qkv.shape[0], qkv.shape[1] // 3
    qkv = qkv.view(n, 3, heads, width // heads)
    if qkv.is_cuda:
        return _attend_on_gpu(qkv, packing).reshape(n, width)
    out = []
    for cell, valid in zip(qkv.split(packing.lengths), packing.valid, strict=True):
        mask = None if valid == len(cell) else (torch.arange(len(cell)) < valid)[None, None, None]
        q, k, v = cell.permute(1, 2, 0, 3)[:, None]
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out.append(seen[0].transpose(0, 1))
    return torch.cat(out).view(n, width)


def _attend_on_gpu(qkv: Tensor, packing: Packing) -> Tensor:
    (q, k, v), longest = qkv.unbind(1), max(packing.lengths)
    if q.dtype in (torch.bfloat16, torch.float16) and packing.lengths == packing.valid:
        from torch.nn.attention.varlen import varlen_attn

        ends = functional.pad(packing.ends, (1, 0)).to(torch.int32)
        packed: Any = varlen_attn(q, k, v, ends, ends, longest, longest)
        return packed
    rows = packing.cells * longest + packing.places
    n_cells = len(packing.lengths)

    def pad(x: Tensor) -> Tensor:
        full = x.new_zeros(n_cells * longest, *x.shape[1:]).index_copy_(0, rows, x)
        return full.view(n_cells, longest, *x.shape[1:]).transpose(1, 2)

    keys = torch.arange(longest, device=q.device) < packing.tokens[:, None]
    mask = None if min(packing.valid) == longest else keys[:, None, None, :]
    out = functional.scaled_dot_product_attention(pad(q), pad(k), pad(v), attn_mask=mask)
    return out.transpose(1, 2).flatten(0, 1)[rows]


def _attend_causally(qkv: Tensor, heads: int, packing: Packing, softcap: float) -> Tensor:
    """Attention to earlier keys, their bias added and the scores capped, ``(n_rows, width)``.

    No fused kernel knows all three, so scores are made for a block of queries at a time.
    """
    n, width = qkv.shape[0], qkv.shape[1] // 3
    q, k, v = qkv.view(n, 3, heads, width // heads).permute(1, 2, 0, 3)
    bias = qkv.new_zeros(n) if packing.bias is None else packing.bias
    unseen, cap = bias.isneginf(), softcap or 1.0
    q, bias = q * (1 / (cap * (width // heads) ** 0.5)), bias / cap
    out, start = q.new_empty(heads, n, width // heads), 0
    for rows in packing.lengths:
        for first in range(start, start + rows, _QUERIES):
            stop = min(first + _QUERIES, start + rows)
            score = (q[:, first:stop] @ k[:, start:stop].mT).float().add_(bias[start:stop])
            score = score.tanh_().mul_(softcap) if softcap else score
            column = torch.arange(start, stop, device=q.device)
            hidden = (column > column[first - start :, None]) | unseen[start:stop]
            weight = score.masked_fill_(hidden, -torch.inf).softmax(-1).to(v.dtype)
            out[:, first:stop] = weight @ v[:, start:stop]
        start += rows
    # A cell whose first token is no key leaves that token nothing to look at.
    head = packing.starts
    out[:, head] = out[:, head].masked_fill(unseen[head][:, None], 0)
    return out.transpose(0, 1).reshape(n, width)


class Block(nn.Module):
    """One encoder block, norm first or norm last.

    Parameters
    ----------
    width, hidden, heads
        Sizes of the residual stream, of the feed-forward layer, and number of heads.
    norm_first
        ``x + f(norm(x))`` when true, else ``norm(x + f(x))``.
    act
        Name of the activation.
    eps
        Added to the variance in both norms.
    normed
        With the norm first, whether ``f`` is added to ``norm(x)`` rather than to ``x``.
    causal, softcap
        Whether a token sees earlier ones only, and the largest score it can give one (0: any).
    biases
        Whether the layers of the attention, and those of the feed-forward part, have biases.
    """

    def __init__(
        self, width: int, hidden: int, heads: int, *, norm_first: bool, act: str, eps: float,
        normed: bool = False, causal: bool = False, softcap: float = 0.0,
        biases: tuple[bool, bool] = (True, True),
    ) -> None:  # fmt: skip
        super().__init__()
        if width % heads:
            raise ModelError(f"A width of {width} does not divide into {heads} heads.")
        self.heads, self.norm_first, self.act = heads, norm_first, activation(act)
        self.normed, self.causal, self.softcap = normed, causal, softcap
        self.qkv = nn.Linear(width, 3 * width, bias=biases[0])
        self.out = nn.Linear(width, width, bias=biases[0])
        self.up = nn.Linear(width, hidden, bias=biases[1])
        self.down = nn.Linear(hidden, width, bias=biases[1])
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.norm2 = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """Run the block on ``(n_rows, width)``; `x` may be overwritten."""
        if self.norm_first:
            y = self.norm1(x)
            x = (y if self.normed else x).add_(self._attention(y, packing))
            y = self.norm2(x)
            return self._fed(y if self.normed else x, y)
        x = self.norm1(x.add_(self._attention(x, packing)))
        return self.norm2(self._fed(x, x))

    def _fed(self, x: Tensor, y: Tensor) -> Tensor:
        """Add the feed-forward part of `y` to `x`, so many rows at a time as a cache can hold."""
        rows = len(x) if x.is_cuda else _ROWS
        for part, fed in zip(x.split(rows), y.split(rows), strict=True):
            part.add_(self.down(self.act(self.up(fed))))
        return x

    def _attention(self, x: Tensor, packing: Packing) -> Tensor:
        qkv = self.qkv(x)
        if self.causal:
            return self.out(_attend_causally(qkv, self.heads, packing, self.softcap))
        return self.out(_attend(qkv, self.heads, packing))


class Encoder(nn.Module):
    """A stack of blocks, whose sizes and options `Block` lists, and for most models a last norm."""

    def __init__(self, depth: int, *sizes: int, final_norm: bool = True, **options: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(*sizes, **options) for _ in range(depth))
        self.final_norm = nn.LayerNorm(sizes[0], eps=options["eps"]) if final_norm else None

    def run(self, x: Tensor, packing: Packing, *, depth: int | None = None) -> Iterator[Tensor]:
        """Yield the input, the output of each block, and the normed output of the last.

        Each yielded tensor is valid until the next one is asked for.
        `depth` stops after that many blocks, without the last norm.
        """
        yield x
        for block in self.blocks[:depth]:
            x = block(x, packing)
            yield x
        if self.final_norm is not None and depth in (None, len(self.blocks)):
            yield self.final_norm(x)
