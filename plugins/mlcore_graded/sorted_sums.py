"""Sums over all pairs with a larger key, by one sort in place of a loop over pairs."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 2**18
"""Numbers of a long list that are summed at once: 2 MiB of float64."""


def sum_of_larger(key: Tensor, value: Tensor, *, ties: bool) -> Tensor:
    """Return for each j the sum of ``value_k`` over k with ``key_k > key_j``.

    O(n log n) for n numbers, along the last dimension.

    Args:
        key: ``(..., n)``.
        value: ``(..., n)``, not negative: nothing cancels, each sum is exact to rounding.
        ties: Include k with ``key_k == key_j``, j itself among them.
    """
    keys, order = key.sort(dim=-1, descending=True)
    running = value.gather(-1, order).cumsum(dim=-1)
    found = running if ties else torch.nn.functional.pad(running[..., :-1], (1, 0))
    new = keys[..., 1:] != keys[..., :-1]
    if not new.all():
        found = found.gather(-1, _last_of_ties(new) if ties else _first_of_ties(new))
    return torch.empty_like(found).scatter(-1, order, found)


def sum_before(value: Tensor, key: Tensor) -> Tensor:
    """Return for each j the sum of the values before its run of equal keys.

    :func:`sum_of_larger` without ties, of a list that is sorted already. Memory beyond the
    result is that of blocks.

    Args:
        value: ``(n,)``, n > 0, not negative.
        key: ``(n,)``, sorted in either direction.
    """
    found = torch.empty_like(value)
    total = first = value.new_zeros(1)
    for start in range(0, len(value), _BLOCK):
        part = slice(start, start + _BLOCK)
        running = total + value[part].cumsum(dim=0)
        before = torch.cat([total, running[:-1]])
        begins = torch.ones_like(before, dtype=torch.bool)
        keys = key[max(start - 1, 0) : start + _BLOCK]
        begins[len(begins) - len(keys) + 1 :] = keys[1:] != keys[:-1]
        # Sums only grow: the sum before a run is the largest of those where a run begins.
        found[part] = torch.where(begins, before, first).cummax(dim=0).values
        total, first = running[-1:], found[part][-1:].clone()
    return found


def _last_of_ties(new: Tensor) -> Tensor:
    """Return the last place of each place's run of equal keys, ``(..., n)`` int64.

    ``new`` ``(..., n - 1)``: whether the key after a place differs from the place's.
    """
    last = new.shape[-1]
    return last - _first_of_ties(new.flip(-1)).flip(-1)


def _first_of_ties(new: Tensor) -> Tensor:
    """Return the first place of each place's run of equal keys, ``(..., n)`` int64."""
    places = torch.arange(1, new.shape[-1] + 1, device=new.device)
    starts = torch.nn.functional.pad(torch.where(new, places, 0), (1, 0))
    return starts.cummax(dim=-1).values
