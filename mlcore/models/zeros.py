"""Networks whose weights come from a file: built without drawing random ones first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_DRAWS = frozenset(
    {
        *(Tensor.uniform_, Tensor.normal_),
        *(nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_),
    }
)
_CHANGES = frozenset({Tensor.erfinv_, Tensor.mul_, Tensor.add_, Tensor.clamp_})
"""What makes truncated normals of uniform numbers; as costly as drawing them."""


class ZeroParameters(TorchFunctionMode):
    """A context in which networks are built with zeros where they draw parameters.

    Only for a network that is then given all its parameters: drawing those of a large
    transformer takes longer than reading them. Buffers are computed as usual.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, unless it would draw a parameter."""
        kwargs = kwargs or {}
        if func in _DRAWS or func in _CHANGES:
            filled = args[0] if args else kwargs["tensor"]
            if isinstance(filled, nn.Parameter):
                if func in _DRAWS:
                    filled.detach().zero_()
                return filled
        return func(*args, **kwargs)


def assign(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Make the tensors of ``state`` those of a module, in the memory layout that its own have.

    A tensor of another layout or dtype is copied; names and shapes must be the module's.
    """
    own = module.state_dict()
    laid_out = {name: _like(own[name], value) for name, value in state.items()}
    module.load_state_dict(laid_out, assign=True)


def _like(own: Tensor, value: Tensor) -> Tensor:
    if own.dtype == value.dtype and own.stride() == value.stride():
        return value
    return torch.empty_like(own).copy_(value)
