"""The training loop: schedule, seeds, resuming bit for bit, errors that stop it."""

import csv
import math
import threading
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from system.config import LoopConfig
from system.errors import WheeltapperError
from system.training.loading import prepared
from system.training.loop import fit, learning_rate, parameter_groups, step_seed


class Noisy(nn.Module):
    """A regression whose loss draws noise, like masks and dropout."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("constant", torch.ones(()))
        with torch.no_grad():
            self.linear.weight.fill_(0.5)
            self.linear.bias.zero_()

    def extra_state(self):
        return ["seen"]

    def forward(self, batch):
        self.seen += 1
        loss = (self.linear(batch["x"]) * torch.rand(2) - 1).square().mean() * batch.get("scale", 1.0)
        return {"loss": loss, "half": loss / 2}


def batch(step: int, part: int = 0, parts: int = 1) -> dict:
    return {"x": torch.randn(4, 3, generator=torch.Generator().manual_seed(step))}


CONFIG = LoopConfig(steps=7, learning_rate=0.05, warmup_steps=2, save_every=3, log_every=2)


def run(folder, module=None, make_batch=batch, config=CONFIG, seed=0, **options):
    module = module or Noisy()
    return module, fit(module, make_batch, config, folder, seed, **options)


def test_schedule():
    config = LoopConfig(steps=12, learning_rate=1.0, final_learning_rate=0.2, warmup_steps=4)
    found = [learning_rate(config, step) for step in range(13)]
    assert found[:4] == [0.25, 0.5, 0.75, 1.0]
    assert found[4] == 1.0
    assert found[6] == pytest.approx(0.2 + 0.4 * (1 + math.cos(math.pi / 4)))
    assert found[8] == pytest.approx(0.6)  # half way down
    assert found[12] == pytest.approx(0.2)
    assert learning_rate(LoopConfig(steps=3, learning_rate=1.0, warmup_steps=0), 0) == 1.0
    assert learning_rate(LoopConfig(steps=2, learning_rate=1.0, warmup_steps=4), 1) == 0.5


def test_a_step_is_what_it_says(tmp_path):
    """One AdamW step by hand: the first changes every weight by the learning rate, after decay, for any gradient."""
    config = LoopConfig(steps=1, learning_rate=0.05, warmup_steps=0, weight_decay=0.1, clip_norm=1e6)
    module, rows = run(tmp_path / "run", config=config)
    torch.manual_seed(step_seed(0, 0))
    reference = Noisy()
    reference(batch(0))["loss"].backward()
    weight, bias = reference.linear.weight, reference.linear.bias
    expected = weight * (1 - 0.05 * 0.1) - 0.05 * weight.grad.sign()
    torch.testing.assert_close(module.linear.weight, expected.detach(), atol=1e-4, rtol=1e-4)
    expected = bias - 0.05 * bias.grad.sign()  # no decay
    torch.testing.assert_close(module.linear.bias, expected.detach(), atol=1e-4, rtol=1e-4)
    assert rows[0]["half"] == pytest.approx(rows[0]["loss"] / 2)


def test_rows_and_curve(tmp_path):
    module, rows = run(tmp_path / "run")
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    assert [row["learning_rate"] for row in rows] == [learning_rate(CONFIG, step) for step in (0, 2, 4, 6)]
    with open(tmp_path / "run" / "curve.csv") as file:
        found = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in found] == [row["loss"] for row in rows]
    assert list(found[0]) == [
        *("step", "loss", "half", "learning_rate", "gradient_norm", "seconds", "clips_per_second")
    ]
    assert any((tmp_path / "run" / "tensorboard").iterdir())
    assert not module.training


@pytest.mark.parametrize("stop_after", [0, 2, 3, 4, 5])
def test_resuming_equals_running_through(tmp_path, stop_after):
    whole, rows = run(tmp_path / "whole")

    def stop(step, values):
        if step == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", progress=stop)
    module = Noisy()
    with torch.no_grad():
        module.linear.weight.fill_(9.0)  # must be replaced by the state if there is one
    resumed, resumed_rows = run(tmp_path / "cut", module if stop_after >= 2 else None)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    drop = {"seconds", "clips_per_second"}
    assert [{k: v for k, v in row.items() if k not in drop} for row in resumed_rows] == [
        {k: v for k, v in row.items() if k not in drop} for row in rows
    ]
    assert float(resumed.seen) == 7


def test_a_finished_run_has_nothing_to_do(tmp_path):
    whole, rows = run(tmp_path / "run")
    again, found = run(tmp_path / "run", make_batch=lambda *key: pytest.fail("a batch was asked for"))
    assert found == rows
    assert torch.equal(again.linear.weight, whole.linear.weight)


def test_the_callers_random_state_is_left_alone(tmp_path):
    module = Noisy()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, _ = run(tmp_path / "1", module)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    second, _ = run(tmp_path / "2")
    other, _ = run(tmp_path / "3", seed=1)
    assert torch.equal(first.linear.weight, second.linear.weight)
    assert not torch.equal(first.linear.weight, other.linear.weight)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops(tmp_path, value):
    def broken(step, part, parts):
        return batch(step) | {"scale": value if step == 5 else 1.0}

    with pytest.raises(WheeltapperError, match=f"step 5: expected a finite loss, found {value}; a lower learning_rate"):
        run(tmp_path / "run", make_batch=broken)
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["step"] == 3
    assert all(torch.isfinite(tensor).all() for tensor in state["module"].values())
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["curve.csv", "state.pt", "tensorboard"]


def test_a_gradient_that_is_not_finite_stops_before_it_spoils_the_weights(tmp_path):
    class Root(Noisy):
        def forward(self, batch):
            figures = super().forward(batch)
            figures["loss"] = figures["loss"] + (self.linear.weight * batch["zero"]).abs().sum().sqrt()
            return figures

    def broken(step, part, parts):
        return batch(step) | {"zero": 0.0 if step == 2 else 1.0}

    module = Root()
    with pytest.raises(WheeltapperError, match="step 2: expected a finite gradient, found nan"):
        run(tmp_path / "run", module, broken)
    assert torch.isfinite(module.linear.weight).all()


def test_fp16_needs_a_gpu(tmp_path):
    with pytest.raises(WheeltapperError, match="fp16 needs a GPU"):
        run(tmp_path / "run", config=replace(CONFIG, precision="fp16"))


def test_figures_after_the_step_are_logged_and_may_stop(tmp_path):
    _, rows = run(tmp_path / "run", after_step=lambda step: {"decay": step / 10})
    assert [row["decay"] for row in rows] == [0.0, 0.2, 0.4, 0.6]

    def refuse(step):
        raise WheeltapperError("collapsed")

    with pytest.raises(WheeltapperError, match="collapsed"):
        run(tmp_path / "other", after_step=refuse)


def test_occasional_figures_are_in_the_next_row(tmp_path):
    """Also across an interruption."""

    def after_step(step):
        return {"probe": step / 10} if step in (1, 3) else {}

    def stop(step, values):
        if step == 3:
            raise KeyboardInterrupt

    config = replace(CONFIG, save_every=2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", config=config, after_step=after_step, progress=stop)
    _, rows = run(tmp_path / "run", config=config, after_step=after_step)
    assert [row.get("probe") for row in rows] == [None, 0.1, 0.3, None]
    with open(tmp_path / "run" / "curve.csv") as file:
        assert [row["probe"] for row in csv.DictReader(file)] == ["", "0.1", "0.3", ""]


def test_what_watches_may_stop_before_a_state_is_written(tmp_path):
    seen = []

    def watch(step, values):
        seen.append(values)
        if step == 5:
            raise WheeltapperError("collapsed")

    with pytest.raises(WheeltapperError, match="collapsed"):
        run(tmp_path / "run", watch=watch, after_step=lambda step: {"decay": step / 10})
    assert [values["decay"] for values in seen] == [step / 10 for step in range(6)]
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == 3


def test_gradient_norm_and_throughput(tmp_path):
    config = replace(CONFIG, batch_size=4, clip_norm=1e-3)
    module = Noisy()
    torch.manual_seed(step_seed(0, 0))
    module(batch(0))["loss"].backward()
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in module.parameters()))
    _, rows = run(tmp_path / "run", config=config, after_step=lambda step: time.sleep(0.05) or {})
    assert rows[0]["gradient_norm"] == pytest.approx(norm)  # before it is clipped
    assert all(0 < row["clips_per_second"] < 4 / 0.05 for row in rows)
    assert rows[2]["clips_per_second"] == pytest.approx(8 / (rows[2]["seconds"] - rows[1]["seconds"]), rel=0.2)


def test_precisions_follow_one_another_in_one_process(tmp_path):
    for precision in ("no", "bf16", "no"):
        config = LoopConfig(steps=1, precision=precision)
        run(tmp_path / precision, config=config)


def test_an_error_in_a_batch_passes(tmp_path):
    def broken(step, part, parts):
        if step == 2:
            raise WheeltapperError("x.wav: truncated")
        return batch(step)

    with pytest.raises(WheeltapperError, match=r"x\.wav: truncated"):
        run(tmp_path / "run", make_batch=broken)


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_prepared_ahead_and_in_order(workers):
    begun, ready = [], threading.Event()

    def make(step, part, parts):
        begun.append(step)
        if step == workers + 1:
            ready.set()
        time.sleep(0.02 if step % 2 else 0.0)
        return step

    batches = prepared(make, ((step, 0, 1) for step in range(20)), workers)
    assert next(batches) == 0
    assert ready.wait(5)  # workers + 1 batches ahead
    assert max(begun) == workers + 1
    assert list(batches) == list(range(1, 20))
    assert sorted(begun) == list(range(20))


def test_an_error_ahead_waits_for_its_turn():
    def make(step, part, parts):
        if step == 2:
            raise KeyError(step)
        return step

    batches = prepared(make, ((step, 0, 1) for step in range(99)), 4)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(KeyError):
        next(batches)


def test_the_parts_of_a_batch_share_their_noise_and_their_gradients(tmp_path):
    """Two parts in turn against the mean of both, with the same state of torch's generator."""
    config = replace(CONFIG, steps=1, accumulate=2, batch_size=4, warmup_steps=0, clip_norm=1e6)

    def halves(step, part, parts):
        assert (part, parts) in ((0, 2), (1, 2))
        return {"x": batch(step)["x"].chunk(parts)[part]}

    module, rows = run(tmp_path / "run", make_batch=halves, config=config)
    reference = Noisy()
    for part in (0, 1):
        torch.manual_seed(step_seed(0, 0))
        (reference(halves(0, part, 2))["loss"] / 2).backward()
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in reference.parameters()))
    assert rows[0]["gradient_norm"] == pytest.approx(norm, rel=1e-6)
    assert float(module.seen) == 2


def test_a_batch_must_be_divisible(tmp_path):
    with pytest.raises(WheeltapperError, match="expected a multiple of 1 processes x accumulate 3, found 8"):
        run(tmp_path / "run", config=replace(CONFIG, accumulate=3))


def test_weight_decay_spares_vectors_and_tokens():
    module = nn.Module()
    module.linear, module.norm = nn.Linear(3, 2), nn.LayerNorm(2)
    module.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
    module.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)
    decayed, plain = parameter_groups(module, 0.3)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert [p.shape for p in decayed["params"]] == [(2, 3)]
    assert sorted(tuple(p.shape) for p in plain["params"]) == [(1, 1, 4), (2,), (2,), (2,)]


def test_seeds_do_not_meet():
    seeds = {step_seed(seed, step) for seed in range(40) for step in range(-1, 200)}
    assert len(seeds) == 40 * 201
    assert all(0 <= seed < 2**63 for seed in seeds)
