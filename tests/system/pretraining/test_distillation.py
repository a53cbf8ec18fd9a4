"""Self-distillation against plain NumPy: targets, losses, teacher; then whole small trainings."""

import csv

import numpy as np
import pytest
import torch
from numpy_fisher import NumpyFisher, layer_norm

from system.config import DecoderConfig, LoopConfig, MaskConfig, PretrainConfig
from system.errors import WheeltapperError
from system.pretraining import batch_rates, make_batch, pretrain
from system.pretraining import distillation as module
from system.pretraining.distillation import Decoder, SelfDistillation

RATE = 8000


def config(**loop) -> PretrainConfig:
    settings = {"steps": 6, "batch_size": 3, "learning_rate": 2e-3, "warmup_steps": 2, "save_every": 2, "log_every": 1}
    return PretrainConfig(
        loop=LoopConfig(**(settings | loop)),
        mask=MaskConfig(clones=2),
        decoder=DecoderConfig(dim=16, layers=2, groups=4),
        crop_seconds=0.4,
        max_rate=8000,
    )


@pytest.fixture
def task(tiny_encoder) -> SelfDistillation:
    torch.manual_seed(0)
    return SelfDistillation(tiny_encoder(), config())


@pytest.fixture
def batch() -> dict:
    time = torch.arange(3200) / RATE
    tones = torch.stack([torch.sin(2 * torch.pi * hertz * time) for hertz in (300.0, 900.0, 2100.0)])
    noise = torch.randn(3, 3200, generator=torch.Generator().manual_seed(0))
    return {"wave": 0.3 * tones + 0.02 * noise, "rate": RATE}


def plain_target(encoder, rows: torch.Tensor) -> np.ndarray:
    tensors = {name: tensor.detach().numpy() for name, tensor in encoder.to_published(encoder.state_dict()).items()}
    plain = NumpyFisher(tensors, heads=2, depth=2)
    targets = []
    for row in rows.numpy():
        _, updates = plain.band(row)
        layers = [layer_norm(update[1:].T, eps=1e-5).T for update in updates]  # over the tokens of each channel
        targets.append(layer_norm(np.mean(layers, axis=0), eps=1e-5))  # over the channels of each token
    return np.stack(targets)


def test_target_equals_plain_numpy(task, batch):
    rows = task.student.split_bands(task.student.spectrogram(batch["wave"], RATE))
    found = task._target(rows).numpy()
    np.testing.assert_allclose(found, plain_target(task.teacher, rows), atol=2e-4)
    assert found.shape == (3, 2 * 6, 16)


def test_losses_equal_plain_numpy(task, batch, monkeypatch):
    seen = {}

    def keep(name, function):
        def wrapped(*args, **kwargs):
            seen[name] = function(*args, **kwargs)
            return seen[name]

        return wrapped

    monkeypatch.setattr(module, "inverse_block_mask", keep("visible", module.inverse_block_mask))
    monkeypatch.setattr(task.decoder, "forward", keep("predicted", task.decoder.forward))
    monkeypatch.setattr(task.student, "encode", keep("encoded", task.student.encode))
    losses = {name: float(value.detach()) for name, value in task(batch).items()}
    visible, predicted = seen["visible"].numpy(), seen["predicted"].detach().numpy()
    cls = seen["encoded"][0][:, 0].detach().numpy()
    rows = task.student.split_bands(task.student.spectrogram(batch["wave"], RATE))
    target = np.repeat(plain_target(task.teacher, rows), 2, axis=0)  # two masks of each sub-band
    assert visible.shape == (6, int(12 * 0.2))
    squares = [
        ((predicted[row, token] - target[row, token]) ** 2).sum()
        for row in range(6)
        for token in range(12)
        if token not in visible[row]
    ]
    assert losses["loss_patch"] == pytest.approx(np.mean(squares) / 4, rel=1e-4)
    band = ((cls - target.mean(axis=1)) ** 2).sum(axis=1).mean() / 4
    assert losses["loss_band"] == pytest.approx(band, rel=1e-4)
    assert losses["loss"] == pytest.approx(losses["loss_patch"] + losses["loss_band"], rel=1e-6)
    assert losses["target_std"] == pytest.approx(target.reshape(-1, 16).std(axis=0, ddof=1).mean(), rel=1e-3)


def test_only_hidden_patches_count(task, batch, monkeypatch):
    task.config.mask.clones = 1
    original = task._target
    visible = torch.tensor([[0, 7]] * 3)
    monkeypatch.setattr(module, "inverse_block_mask", lambda *args: visible)

    def loss(change=None) -> float:
        def target(rows):
            value = original(rows).clone()
            if change is not None:
                value[:, change] += 100.0
            return value

        monkeypatch.setattr(task, "_target", target)
        torch.manual_seed(0)
        return float(task(batch)["loss_patch"].detach())

    assert loss(change=0) == loss(change=7) == loss()
    assert loss(change=1) > loss() + 1.0


def test_the_student_sees_nothing_of_hidden_patches(task, batch, monkeypatch):
    task.config.mask.clones = 1
    monkeypatch.setattr(module, "inverse_block_mask", lambda *args: torch.tensor([[0, 1]] * 3))
    inputs = []
    encode = task.student.encode
    monkeypatch.setattr(task.student, "encode", lambda x: (inputs.append(x.detach()), encode(x))[1])
    task(batch)
    rows = task.student.split_bands(task.student.spectrogram(batch["wave"], RATE))
    torch.testing.assert_close(inputs[0], task.student.embed_patches(rows)[:, :2].detach())


def test_gradients_reach_the_student_and_not_the_teacher(task, batch):
    task(batch)["loss"].backward()
    assert all(p.grad is None and not p.requires_grad for p in task.teacher.parameters())
    for name, parameter in [*task.student.named_parameters(), *task.decoder.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or name.endswith("qkv.bias"), name


def test_the_teacher_stays_in_evaluation_mode(task):
    task.train()
    assert task.student.training
    assert not any(part.training for part in task.teacher.modules())


@pytest.mark.parametrize("step", [0, 150, 300, 1000])
def test_moving_average(task, step):
    before = {name: p.clone() for name, p in task.teacher.named_parameters()}
    with torch.no_grad():
        for parameter in task.student.parameters():
            parameter.add_(torch.randn_like(parameter))
    decay = task.update_teacher(step)
    assert decay == pytest.approx(0.98 + min(step / 300, 1.0) * 0.019)
    student = dict(task.student.named_parameters())
    for name, parameter in task.teacher.named_parameters():
        expected = decay * before[name] + (1 - decay) * student[name]
        torch.testing.assert_close(parameter, expected.detach(), rtol=1e-5, atol=1e-6)


def test_collapse_is_told():
    task = SelfDistillation.__new__(SelfDistillation)
    task.config = PretrainConfig()
    SelfDistillation.check_alive(task, 5, 0.5, 0.5)
    with pytest.raises(
        WheeltapperError, match=r"collapsed at step 5: expected a spread of the targets of at least 0\.01"
    ):
        SelfDistillation.check_alive(task, 5, 0.001, 0.5)
    with pytest.raises(WheeltapperError, match="spread of the predictions"):
        SelfDistillation.check_alive(task, 5, 0.5, 1e-6)


def test_decoder_keeps_the_grid():
    torch.manual_seed(0)
    decoder = Decoder(16, DecoderConfig(dim=16, layers=2, groups=4))
    x = torch.randn(2, 5, 6, 16)
    assert decoder(x).shape == (2, 30, 16)
    changed = x.clone()
    changed[:, 0, 0] += 1.0
    moved = (decoder(changed) - decoder(x)).abs().sum((0, 2)).view(5, 6) > 1e-6
    assert moved[:3, :3].all()  # two layers of width three reach two patches far
    assert not moved[3:].any()
    assert not moved[:, 3:].any()


def test_rates_are_multiples_of_the_base(train_clips, record):
    settings = PretrainConfig(crop_seconds=0.2, max_rate=32000)
    clips = [*train_clips, record("fast.wav", rate=18000)]
    assert batch_rates(train_clips, settings) == [8000]
    assert batch_rates(clips, settings) == [8000, 12000, 16000]
    assert batch_rates(clips, PretrainConfig(max_rate=12000)) == [8000, 12000]
    assert batch_rates(clips, PretrainConfig(min_rate=4000, max_rate=8000)) == [4000, 8000]
    assert batch_rates([record("slow.wav", rate=6000)], settings) == [6000]
    drawn = set()
    for step in range(12):
        found = make_batch(clips, settings, 0, step)
        assert found["wave"].shape == (settings.loop.batch_size, round(0.2 * found["rate"]))
        drawn.add(found["rate"])
    assert drawn == {8000, 12000, 16000}


def test_batches_depend_on_seed_and_step_alone(train_clips):
    settings = config()
    first = make_batch(train_clips, settings, 0, 5)["wave"]
    assert torch.equal(make_batch(train_clips, settings, 0, 5)["wave"], first)
    assert not torch.equal(make_batch(train_clips, settings, 0, 6)["wave"], first)
    assert not torch.equal(make_batch(train_clips, settings, 1, 5)["wave"], first)


def test_loss_falls(tiny_encoder, train_clips, tmp_path):
    losses = []
    settings = config(steps=40, batch_size=4, learning_rate=5e-3)
    pretrain(tiny_encoder(), train_clips, settings, tmp_path / "run", 0, "cpu", lambda s, v: losses.append(v["loss"]))
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def curve(folder) -> list[dict]:
    with open(folder / "curve.csv") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def test_resuming_equals_running_through(tiny_encoder, train_clips, tmp_path):
    whole = pretrain(tiny_encoder(), train_clips, config(), tmp_path / "whole", 3)

    def stop(step, values):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny_encoder(), train_clips, config(), tmp_path / "cut", 3, "cpu", stop)
    steps = []
    resumed = pretrain(
        tiny_encoder(9), train_clips, config(), tmp_path / "cut", 3, "cpu", lambda step, values: steps.append(step)
    )
    assert steps == [4, 5]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert len(curve(tmp_path / "whole")) == 6
    assert set(curve(tmp_path / "whole")[0]) >= {"step", "loss", "loss_band", "loss_patch", "target_std", "ema"}


def test_training_is_deterministic_by_seed(tiny_encoder, train_clips, tmp_path):
    found = [
        pretrain(tiny_encoder(), train_clips, config(steps=2), tmp_path / str(number), seed).state_dict()
        for number, seed in enumerate((1, 1, 2))
    ]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not torch.equal(found[0]["cls_token"], found[2]["cls_token"])


def test_the_position_table_is_not_trained(tiny_encoder, train_clips, tmp_path):
    trained = pretrain(tiny_encoder(), train_clips, config(steps=2), tmp_path / "run", 0)
    assert torch.equal(trained.positions, tiny_encoder().positions)
    assert not torch.equal(trained.cls_token, tiny_encoder().cls_token)


def test_a_collapsed_run_stops(tiny_encoder, train_clips, tmp_path):
    settings = config()
    settings.min_target_std = 100.0
    with pytest.raises(WheeltapperError, match="pre-training collapsed at step 2"):  # after the warm-up of two steps
        pretrain(tiny_encoder(), train_clips, settings, tmp_path / "run", 0)


def test_only_normal_training_clips_are_taken(tiny_encoder, record, tmp_path):
    clips = {
        "anomaly": record("a.wav", label="anomaly"),
        "test": record("b.wav", split="test", label="normal"),
        "unlabelled test": record("c.wav", split="test"),
    }
    for text, clip in clips.items():
        with pytest.raises(WheeltapperError, match=f"expected a normal training clip, found .*{text.split()[-1]}"):
            pretrain(tiny_encoder(), [clip], config(), tmp_path / "run", 0)
    with pytest.raises(WheeltapperError, match="at least one clip"):
        pretrain(tiny_encoder(), [], config(), tmp_path / "run", 0)
