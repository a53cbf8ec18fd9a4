"""Computational cost of a network, counted while it runs."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def multiply_adds(function: Callable[..., Any], *args: Any) -> int:
    """Number of multiply-accumulate operations in ``function(*args)``.

    Counts matrix products, convolutions and attention. Torch's counter does not know the attention kernel and the fused
    linear layers of CPUs, which are added here.
    """
    more: dict[Any, Any] = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        more[torch.ops.mkldnn._linear_pointwise] = _linear
    with FlopCounterMode(display=False, custom_mapping=more) as counter, torch.no_grad():
        function(*args)
    return counter.get_total_flops() // 2


def _attention(query, key, value, *args, out_val=None, **kwargs) -> int:
    return sdpa_flop_count(query, key, value)


def _linear(x, weight, *args, out_val=None, **kwargs) -> int:
    return 2 * math.prod(x) * weight[0]
