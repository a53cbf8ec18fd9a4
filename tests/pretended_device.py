"""A CUDA device for tests on machines without one.

What is moved there keeps its numbers in main memory and answers ``cuda:0`` when asked where it is. Operations that
mix it with tensors of the processor raise, as they would on a GPU, and every wait of the host for a result of the
device is noted with the line of the project that waited. Not shown: speed, memory, and what the optimiser does to
parameters, which modules exchange for others when they move.
"""

import concurrent.futures
import contextlib
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map

SYSTEM = str(Path(__file__).resolve().parent.parent / "system")
HERE = torch.device("cuda", 0)
ops = torch.ops.aten
# Operations whose result's size or value the host must know before it goes on.
BLOCKING = {
    ops._local_scalar_dense.default,
    ops._linalg_check_errors.default,
    ops.nonzero.default,
    ops.masked_select.default,
    ops.equal.default,
    ops._unique2.default,
}
BY_INDEX = {ops.index.Tensor, ops.index_put.default, ops.index_put_.default, ops._unsafe_index.Tensor}
TRANSFERS = {ops._to_copy.default, ops.copy_.default}


class Far(torch.Tensor):
    """A tensor of the pretended device; ``near`` is where its numbers are."""

    near: torch.Tensor

    @staticmethod
    def __new__(cls, near: torch.Tensor):
        layout = {"strides": near.stride(), "storage_offset": near.storage_offset(), "dtype": near.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, near.shape, **layout, device="meta")
        made.near = near
        return made

    device = property(lambda self: HERE)
    is_cuda, is_cpu, is_meta = (property(lambda self, answer=answer: answer) for answer in (True, False, False))

    def __repr__(self, **_):
        return f"Far{tuple(self.shape)}"

    def cpu(self, *_, **__):
        return self.detach().to("cpu") if not self.requires_grad else self.to("cpu")

    def tolist(self):
        return self.detach().to("cpu").tolist()

    def numpy(self, *_, **__):
        raise TypeError("a tensor of cuda:0 has no NumPy array; it must be copied to the processor first")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} outside the pretended device")


class Device(TorchDispatchMode):
    """Computes in main memory what is asked of the pretended device.

    Attributes:
        waits: number of waits by ``file:line`` of the project.
    """

    def __init__(self):
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        given = [x for x in tree_iter((args, kwargs)) if isinstance(x, torch.Tensor)]
        far = any(isinstance(x, Far) for x in given)
        if far:
            self._check(func, args, kwargs, given)
        if "device" in kwargs and kwargs["device"] is not None:
            stays = torch.device(kwargs["device"]).type != "cpu"  # torch itself takes it for meta
            if far and not stays:
                self._wait()
            kwargs |= {"device": torch.device("cpu")}
        else:
            stays = isinstance(args[0], Far) if func is ops.copy_.default else far
            if func is ops.copy_.default and far and not stays:
                self._wait()
        return self._run(func, args, kwargs, stays)

    def _run(self, func, args, kwargs, stays: bool):
        real_args, real_kwargs = tree_map(lambda x: x.near if isinstance(x, Far) else x, (args, kwargs))
        real_kwargs.pop("pin_memory", None)
        found = func(*real_args, **real_kwargs)
        schema = func._schema
        if not schema.returns:
            return None
        if schema.name.rpartition("::")[2].endswith("_") and schema.arguments[0].alias_info:
            return args[0]  # changed in place
        if not stays:
            return found
        made = tree_map(lambda x: Far(x) if isinstance(x, torch.Tensor) else x, found)
        with contextlib.suppress(RuntimeError, AssertionError):
            return return_and_correct_aliasing(func, args, kwargs, made)
        return made

    def _check(self, func, args, kwargs, given) -> None:
        """Raises RuntimeError for mixed operands; those of no dimension and index tensors may be anywhere."""
        near = [x for x in given if not isinstance(x, Far) and x.dim() > 0]
        if func in BY_INDEX:
            near = [x for x in near if x is args[0] or (len(args) > 2 and x is args[2])]
            if any(isinstance(x, torch.Tensor) and x.dtype == torch.bool for x in args[1]):
                self._wait()
        if near and func not in TRANSFERS:
            raise RuntimeError(f"{func}: tensors of cpu and cuda:0 at {_line()}")
        counts = func is ops.repeat_interleave.Tensor and kwargs.get("output_size") is None
        if func in BLOCKING or counts:
            self._wait()

    def _wait(self) -> None:
        self.waits[_line()] += 1


class _Indexed(TorchFunctionMode):
    """``cuda`` without a number is the device that is there."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def numbered(x):
            bare = (isinstance(x, str) and x == "cuda") or (isinstance(x, torch.device) and x.type == "cuda")
            return HERE if bare else x

        named = {name: numbered(x) for name, x in (kwargs or {}).items()}
        if func is torch.tensor and named.get("device") is HERE:  # which asks the driver before it dispatches
            return func(*args, **named | {"device": "cpu"}).to(HERE)
        return func(*map(numbered, args), **named)


class _AtOnce(concurrent.futures.Executor):
    """Works where it is called, because modes of torch hold for one thread."""

    def __init__(self, *_, **__):
        super().__init__()

    def submit(self, fn, /, *args, **kwargs):
        future: concurrent.futures.Future = concurrent.futures.Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _enter(mode: torch.inference_mode) -> None:
    mode.before = torch.is_grad_enabled()
    torch.set_grad_enabled(not mode.mode)


def _leave(mode: torch.inference_mode, *_) -> None:
    torch.set_grad_enabled(mode.before)


def _line() -> str:
    """The innermost line of the program that is being run."""
    frames = [f for f in traceback.extract_stack() if f.filename.startswith(SYSTEM)]
    return f"{Path(frames[-1].filename).relative_to(SYSTEM)}:{frames[-1].lineno}" if frames else "a test"


@contextlib.contextmanager
def pretended_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """Torch with a pretended ``cuda:0`` within the block."""
    answers = {
        "_lazy_init": None, "is_available": True, "device_count": 1, "current_device": 0, "set_device": None,
        "synchronize": None, "empty_cache": None, "is_bf16_supported": True, "get_device_capability": (9, 0),
        "get_device_name": "pretended", "is_current_stream_capturing": False, "mem_get_info": (2**33, 2**33),
        "get_device_properties": SimpleNamespace(name="pretended", major=9, minor=0, total_memory=2**33),
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    for module in [concurrent.futures, *(m for name, m in sys.modules.items() if name.startswith("system."))]:
        if "ThreadPoolExecutor" in vars(module):
            monkeypatch.setattr(module, "ThreadPoolExecutor", _AtOnce)
    # Wrapped tensors cannot live in inference mode; to compute without gradients is enough here.
    monkeypatch.setattr(torch.inference_mode, "__enter__", _enter)
    monkeypatch.setattr(torch.inference_mode, "__exit__", _leave)
    monkeypatch.setattr(torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda self: None)
    monkeypatch.setattr("system.machine._chosen", [])  # the tests that follow have no such device
    # Shapes on torch's own meta device would pass for this one's.
    monkeypatch.setattr("system.encoders.base.building_shapes", contextlib.nullcontext)
    monkeypatch.setattr("system.machine._chosen", {})
    swap = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Indexed(), Device() as device:
            yield device
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(swap)
