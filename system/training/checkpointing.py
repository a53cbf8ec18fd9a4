"""Gradient checkpointing: blocks that keep their input alone and compute the rest again for the gradient.

Chen et al. 2016, "Training deep nets with sublinear memory cost". Random numbers and autocast are restored, so the
gradients are the same.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from system import machine, processes
from system.encoders.base import Encoder

# Shares of free memory that activations may take: the rest is for what lies outside the blocks, and on a machine's own
# memory for its other programs.
SHARE_OF_DEVICE, SHARE_OF_MACHINE = 0.8, 0.5
# Copies of the trained weights that come during the first step: gradients and the two moments of Adam.
STILL_TO_COME = 3


class _Ledger:
    """Bytes of the tensors that are kept for the gradient, each storage counted once."""

    def __init__(self, weights: set[int]):
        self.weights = weights  # storages that are there anyway
        self.bytes = 0
        self.users: Counter[int] = Counter()

    def keep(self, tensor: Tensor) -> "_Kept | Tensor":
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        return tensor if place in self.weights else _Kept(self, tensor, place, storage.nbytes())


class _Kept:
    """A tensor in the ledger as long as this object lives."""

    __slots__ = ("ledger", "place", "size", "tensor")

    def __init__(self, ledger: _Ledger, tensor: Tensor, place: int, size: int):
        self.ledger, self.tensor, self.place, self.size = ledger, tensor, place, size
        ledger.bytes += size * (not ledger.users[place])
        ledger.users[place] += 1

    def __del__(self) -> None:
        ledger = self.ledger
        ledger.users[self.place] -= 1
        if not ledger.users[self.place]:
            ledger.bytes -= self.size
            del ledger.users[self.place]


class Checkpointing:
    """Computes the blocks of a network's encoders in a way that their activations fit into memory.

    Args:
        module: network in training; the blocks are those of the encoders in it.
        mode: ``on`` for all blocks, ``off`` for none, ``auto`` for those whose activations do not fit any more.
        budget: bytes that activations may take in mode ``auto``.
    """

    def __init__(self, module: nn.Module, mode: str, budget: float):
        encoders = [each for each in module.modules() if isinstance(each, Encoder)]
        stacks = [encoder.get_submodule(name) for encoder in encoders for name in encoder.stacks]
        self.blocks = [block for stack in stacks for block in stack.children()]
        self.mode, self.budget = mode, budget
        self.ledger = _Ledger({p.untyped_storage().data_ptr() for p in module.parameters()})
        self.largest = 0  # bytes that a block kept
        self.again: set[int] = set()  # numbers of the blocks that were computed again

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Within, the blocks are computed so."""
        chosen = self.blocks if self.mode != "off" else []
        try:
            for number, block in enumerate(chosen):
                block.forward = self._wrapped(block.forward, number)
            yield
        finally:
            for block in chosen:
                del block.forward  # the class's comes back

    def _wrapped(self, forward: Callable[..., Any], number: int) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if not torch.is_grad_enabled():
                return forward(*args, **kwargs)
            # A block that is computed again needs as much as it would have kept.
            if self.mode == "on" or self.ledger.bytes + 2 * self.largest > self.budget:
                self.again.add(number)
                return checkpoint(forward, *args, use_reentrant=False, **kwargs)
            before = self.ledger.bytes
            with torch.autograd.graph.saved_tensors_hooks(self.ledger.keep, _kept):
                found = forward(*args, **kwargs)
            self.largest = max(self.largest, self.ledger.bytes - before)
            return found

        return run

    def hold(self, batches: int) -> bool:
        """Whether memory holds what all blocks keep of so many parts of a batch at once, by what one was seen to."""
        return not self.again and batches * len(self.blocks) * self.largest <= self.budget

    def note(self, key: str) -> str:
        """A line about blocks that memory did not hold; empty where all were kept or the settings say what to do."""
        if self.mode != "auto" or not self.again:
            return ""
        return (
            f"note: {key}.checkpointing: {len(self.again)} of {len(self.blocks)} blocks are computed again for the "
            f"gradient, since {self.budget / 1e9:.1f} GB are free for activations"
        )


def _kept(value: "_Kept | Tensor") -> Tensor:
    return value.tensor if isinstance(value, _Kept) else value


def room(module: nn.Module, device: torch.device) -> float:
    """Bytes that activations may take while a module is trained on a device; infinite where nobody knows."""
    sizes = [p.numel() * p.element_size() for p in module.parameters() if p.requires_grad]
    to_come = STILL_TO_COME * sum(sizes)
    if device.type == "cuda" and torch.cuda.is_initialized():
        free, _ = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return SHARE_OF_DEVICE * max(0, free - to_come)
    total = machine.memory() if device.type == "cpu" else 0
    if not total:
        return float("inf")
    return SHARE_OF_MACHINE * max(0, (total - _resident()) // processes.per_machine() - to_come)


def _resident() -> int:
    """Bytes of memory that this process takes; 0 where the system does not say so."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except (OSError, ValueError, IndexError):
        return 0
