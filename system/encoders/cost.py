"""Computational cost of a network, counted while it runs."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def multiply_adds(function: Callable[..., Any], *args: Any) -> int:
    """Number of multiply-accumulate operations in ``function(*args)``.

    Counts matrix products, convolutions and attention. Torch's counter does not know the attention kernel of CPUs,
    which is added here.
    """
    attention = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
    with FlopCounterMode(display=False, custom_mapping=attention) as counter, torch.no_grad():
        function(*args)
    return counter.get_total_flops() // 2


def _attention(query, key, value, *args, out_val=None, **kwargs) -> int:
    return sdpa_flop_count(query, key, value)
