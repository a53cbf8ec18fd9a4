"""The arithmetic of a training follows the device, and stays what it began with; errors of memory say what to do."""

from dataclasses import replace

import pytest
import torch
from test_training import CONFIG, Noisy, batch, run

from system.accelerator import can_pin, pinned, products
from system.adaptation.augment import Part
from system.bin import main
from system.errors import WheeltapperError
from system.memory_errors import is_out_of_memory
from system.training import loading
from system.training.arithmetic import settle
from system.training.loading import loader_threads
from system.training.loop import learning_rate
from system.training.state import saved_setting, step_seed

ALLOCATOR = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: 9 bytes"


@pytest.mark.parametrize(
    ("device", "fast", "chosen"),
    [("cpu", True, "no"), ("mps", True, "no"), ("cuda", True, "bf16"), ("cuda", False, "tf32")],
)
def test_auto_follows_the_device(tmp_path, monkeypatch, device, fast, chosen):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: fast)
    assert settle(CONFIG, device, tmp_path).precision == chosen
    assert settle(replace(CONFIG, precision="bf16"), device, tmp_path).precision == "bf16"
    assert settle(replace(CONFIG, precision="no"), device, tmp_path).precision == "no"


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_what_needs_a_gpu(tmp_path, precision):
    with pytest.raises(WheeltapperError, match=f"loop.precision: {precision} needs a GPU, found device cpu"):
        run(tmp_path / "run", config=replace(CONFIG, precision=precision))


def test_a_training_keeps_to_what_it_was_begun_with(tmp_path, monkeypatch):
    def stop(step, values):
        if step == 4:
            raise KeyboardInterrupt

    whole, _ = run(tmp_path / "whole", config=replace(CONFIG, precision="bf16"))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", config=replace(CONFIG, precision="bf16"), progress=stop)
    assert saved_setting(tmp_path / "cut" / "state.pt", "loop.precision") == "bf16"
    resumed, _ = run(tmp_path / "cut")  # auto, on a device where a new training would be in float32
    assert torch.equal(resumed.linear.weight, whole.linear.weight)
    with pytest.raises(WheeltapperError, match=r"expected loop\.precision: no, found bf16"):
        run(tmp_path / "cut", config=replace(CONFIG, precision="no"))
    monkeypatch.setattr("system.training.arithmetic.saved_setting", lambda *given: "tf32")
    with pytest.raises(WheeltapperError, match=r"state\.pt: expected a GPU to go on with a training in tf32"):
        settle(CONFIG, "cpu", tmp_path)


def test_products_of_a_gpu():
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [each.allow_tf32 for each in flags]
    for expected in (True, False):
        with products(expected, "cuda"):
            assert [each.allow_tf32 for each in flags] == [expected] * 2
        assert [each.allow_tf32 for each in flags] == before
    with products(not before[0], "cpu"):
        assert [each.allow_tf32 for each in flags] == before


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(ALLOCATOR), MemoryError()]
)
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "raise here.loop.accumulate, which is 1, as the result stays the same, or lower here.loop.batch_size, "),
        ({"accumulate": 8, "checkpointing": "off"}, "set here.loop.checkpointing, which is off, to auto, or lower "),
        ({"batch_size": 1}, "in training: use a device with more memory;"),
    ],
)
def test_memory_that_is_used_up(tmp_path, error, settings, said):
    def full(step, part, parts):
        if step == 5:
            raise error
        return batch(step)

    with pytest.raises(WheeltapperError, match=r"^out of memory on cpu in training: ") as caught:
        run(tmp_path / "run", make_batch=full, config=replace(CONFIG, **settings), key="here.loop")
    assert said in str(caught.value)
    assert str(caught.value).endswith("holds 3 steps; the same command resumes there")
    whole, _ = run(tmp_path / "whole")
    if not settings:
        resumed, _ = run(tmp_path / "run", config=replace(CONFIG, accumulate=2))
        torch.testing.assert_close(resumed.linear.weight, whole.linear.weight)


def test_other_errors_are_not_of_memory(tmp_path):
    with pytest.raises(RuntimeError, match="something else"):
        run(tmp_path / "run", make_batch=lambda *key: (_ for _ in ()).throw(RuntimeError("something else")))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(WheeltapperError("out of paper"))


def test_any_command_says_so_without_a_traceback(monkeypatch, capsys):
    monkeypatch.setattr("system.bin.doctor.main", lambda args: (_ for _ in ()).throw(RuntimeError(ALLOCATOR)))
    assert main(["doctor"]) != 0
    assert capsys.readouterr().err.startswith("wheeltapper doctor: not enough memory (")


@pytest.mark.parametrize(
    ("cores", "processes", "cpu", "gpu"), [(2, 1, 1, 1), (16, 1, 4, 12), (16, 8, 1, 1), (12, 1, 3, 11), (1, 1, 1, 1)]
)
def test_loader_threads(monkeypatch, cores, processes, cpu, gpu):
    monkeypatch.setattr(loading, "cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert [loader_threads(0, device) for device in ("cpu", "cuda")] == [cpu, gpu]
    assert loader_threads(5, "cpu") == 5


def test_pinned_values_keep_their_form(monkeypatch):
    seen = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: seen.append(self) or self + 1)
    given = {"x": torch.zeros(2), "part": Part(1, 2), "waves": {8000: (torch.zeros(1), [torch.zeros(1)])}, "rate": 3}
    found = pinned(given)
    assert (len(seen), found["part"], found["rate"]) == (3, Part(1, 2), 3)
    assert isinstance(found["part"], Part)
    assert [found["x"].sum(), found["waves"][8000][0], found["waves"][8000][1][0]] == [2, 1, 1]
    assert not can_pin("cpu")


def test_one_pass_over_the_weights_is_adam(tmp_path):
    """Seven steps of the fused optimiser against torch's plain one, from the same gradients."""
    module, _ = run(tmp_path / "run", config=replace(CONFIG, clip_norm=1e6))
    plain = Noisy()
    matrix, bias = plain.linear.weight, plain.linear.bias
    groups = [{"params": [matrix], "weight_decay": CONFIG.weight_decay}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), foreach=False)
    for step in range(CONFIG.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(CONFIG, step)
        torch.manual_seed(step_seed(0, step))
        plain(batch(step))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(module.linear.weight, matrix.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(module.linear.bias, bias.detach(), rtol=1e-6, atol=1e-6)
