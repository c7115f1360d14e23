"""Functions with a gradient of their own, called in one typed place."""

from __future__ import annotations

from typing import Any

import torch


def apply_function(function: type[torch.autograd.Function], *inputs: Any) -> Any:
    """What `function.forward` gives for `inputs`; its gradient is what `function.backward` says."""
    return function.apply(*inputs)
