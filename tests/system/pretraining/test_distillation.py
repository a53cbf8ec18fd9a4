"""Self-distillation against plain NumPy: targets, losses, teacher."""

import numpy as np
import pytest
import torch
from numpy_fisher import NumpyFisher, layer_norm

from system.config import DecoderConfig, MaskConfig, PretrainConfig, TargetConfig
from system.encoders.echo import Echo, EchoConfig, centre_code
from system.errors import WheeltapperError
from system.pretraining.distillation import Decoder, SelfDistillation
from system.pretraining.objectives import EchoObjective, FisherObjective, build_objective

RATE = 8000


def config(**changes) -> PretrainConfig:
    settings = {"mask": MaskConfig(clones=2), "decoder": DecoderConfig(dim=16, layers=2, kernel=3, groups=4)}
    return PretrainConfig(**(settings | changes))


@pytest.fixture
def build(tiny_encoder):
    """An objective with the tiny encoder as student."""

    def make(**changes) -> FisherObjective:
        torch.manual_seed(0)
        return FisherObjective(tiny_encoder(), config(**changes))

    return make


@pytest.fixture
def waves() -> torch.Tensor:
    time = torch.arange(3200) / RATE
    tones = torch.stack([torch.sin(2 * torch.pi * hertz * time) for hertz in (300.0, 900.0, 2100.0)])
    return 0.3 * tones + 0.02 * torch.randn(3, 3200, generator=torch.Generator().manual_seed(0))


def batch_of(task: SelfDistillation, waves: torch.Tensor, **more) -> dict:
    """A batch as of ``Batches``, without mixing."""
    spectrogram = task.student.spectrogram(waves, RATE)
    drawn = [task.draw(RATE, spectrogram.shape[1], torch.Generator().manual_seed(k)) for k in range(len(waves))]
    batch = {name: torch.cat([one[name] for one in drawn]) for name in drawn[0]}
    return {"spectrograms": (spectrogram, spectrogram), "rate": RATE, **batch, **more}


def plain_updates(encoder, rows: torch.Tensor) -> list[list[np.ndarray]]:
    """MLP outputs of all blocks without the CLS token, for each row."""
    tensors = {name: tensor.detach().numpy() for name, tensor in encoder.to_published(encoder.state_dict()).items()}
    plain = NumpyFisher(tensors, heads=2, depth=2)
    return [[update[1:] for update in plain.band(row)[1]] for row in rows.numpy()]


def plain_target(encoder, rows: torch.Tensor) -> np.ndarray:
    targets = []
    for updates in plain_updates(encoder, rows):
        layers = [layer_norm(update.T, eps=1e-5).T for update in updates]  # over the tokens of each channel
        targets.append(layer_norm(np.mean(layers, axis=0), eps=1e-5))  # over the channels of each token
    return np.stack(targets)


def rows_of(task, waves) -> torch.Tensor:
    return task.student.split_bands(task.student.spectrogram(waves, RATE))


def test_targets_equal_plain_numpy(build, waves):
    task = build()
    rows = rows_of(task, waves)
    found, band = task.targets(rows)
    expected = plain_target(task.teacher, rows)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)
    np.testing.assert_allclose(band.numpy(), expected.mean(1), atol=2e-4)
    assert found.shape == (3, 2 * 6, 16)


def test_targets_normalised_over_the_channels_alone(build, waves):
    task = build(target=TargetConfig(norm="layer"))
    rows = rows_of(task, waves)
    layers = [np.mean([layer_norm(update, eps=1e-5) for update in one], 0) for one in plain_updates(task.teacher, rows)]
    np.testing.assert_allclose(task.targets(rows)[0].numpy(), layer_norm(np.stack(layers), eps=1e-5), atol=2e-4)


def test_targets_of_positions_are_standardised_over_the_steps_before(build, waves):
    task = build(target=TargetConfig(band="positions"))
    rows = rows_of(task, waves)
    means = plain_target(task.teacher, rows).reshape(3, 2, 6 * 16).mean(1)  # over time
    np.testing.assert_allclose(task.targets(rows)[1], means, atol=2e-4)  # the first step knows no statistics
    task.update_statistics()
    expected = (means - means.mean(0)) / np.sqrt(means.var(0) + 1e-6)
    np.testing.assert_allclose(task.targets(rows)[1], expected, atol=2e-2)


def test_whitened_targets_know_nothing_of_the_codes(echo):
    echo.config.target = TargetConfig(layers="block", norm="whitened", band="whitened")
    task = EchoObjective(echo.student, echo.config)
    generator = torch.Generator().manual_seed(1)
    rows = 0.5 * torch.randn(400, 3, 32 * 16, generator=generator) + 0.5 * torch.randn(400, 1, 1, generator=generator)
    first = torch.randint(0, 69, (400,), generator=generator)
    code = centre_code(first, first + 31, 200, 16).float()
    patches = task.teacher.embed_patches(rows, code)
    layers = [layer[:, 1:].numpy() for layer in task.teacher.encode(patches, code, keep="block")[1]]
    mean = np.mean([layer_norm(layer, eps=1e-5) for layer in layers], axis=0)
    found = task.targets(rows, code)
    np.testing.assert_allclose(found[0], mean, atol=1e-4)  # the first step knows no statistics
    np.testing.assert_allclose(found[1], mean.mean(1), atol=1e-4)
    task.update_statistics()
    target, band = (target.numpy() for target in task.targets(rows, code))
    assert target.shape == (400, 3, 16)
    assert band.shape == (400, 16)

    def told(vectors: np.ndarray) -> float:
        """Share of the variance over the rows that the frequency tells."""
        design = np.concatenate([np.ones((400, 1)), code[:, 0].numpy()], axis=1)
        rest = vectors - design @ np.linalg.lstsq(design, vectors, rcond=1e-6)[0]
        return 1.0 - rest.var(0).sum() / vectors.var(0).sum()

    assert told(mean.mean(1)) > 0.5
    assert told(target.mean(1)) < 0.1
    assert told(band) < 0.1
    # Nor on the time.
    before, after = (x.mean(0).var(0).sum() / x.var((0, 1)).sum() for x in (mean, target))
    assert before > 0.05
    assert after < 0.02


def test_losses_equal_plain_numpy(build, waves, monkeypatch):
    task = build()
    seen = {}

    def keep(name, function):
        def wrapped(*args, **kwargs):
            seen[name] = function(*args, **kwargs)
            return seen[name]

        return wrapped

    monkeypatch.setattr(task.decoder, "forward", keep("predicted", task.decoder.forward))
    monkeypatch.setattr(task.student, "encode", keep("encoded", task.student.encode))
    batch = batch_of(task, waves)
    losses = {name: float(value.detach()) for name, value in task(batch).items()}
    visible, predicted = batch["visible"].numpy(), seen["predicted"].detach().numpy()
    cls = seen["encoded"][0][:, 0].detach().numpy()
    target = np.repeat(plain_target(task.teacher, rows_of(task, waves)), 2, axis=0)  # two masks of each sub-band
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
    assert losses["target_std"] == pytest.approx(target.reshape(-1, 16)[:].std(axis=0).mean(), rel=2e-2)
    task.config.band_weight, task.config.patch_weight = 0.5, 2.0
    weighted = 0.5 * losses["loss_band"] + 2.0 * losses["loss_patch"]
    assert float(task(batch)["loss"].detach()) == pytest.approx(weighted, rel=2e-2)  # other noise in the masked patches


def test_only_hidden_patches_count(build, waves, monkeypatch):
    task = build(mask=MaskConfig(clones=1))
    original = task.targets
    batch = batch_of(task, waves, visible=torch.tensor([[0, 7]] * 3))

    def loss(change=None) -> float:
        def targets(rows):
            patches, band = original(rows)
            patches = patches.clone()
            if change is not None:
                patches[:, change] += 100.0
            return patches, band

        monkeypatch.setattr(task, "targets", targets)
        torch.manual_seed(0)
        return float(task(batch)["loss_patch"].detach())

    assert loss(change=0) == loss(change=7) == loss()
    assert loss(change=1) > loss() + 1.0


def test_the_student_sees_nothing_of_hidden_patches(build, waves, monkeypatch):
    task = build(mask=MaskConfig(clones=1))
    inputs = []
    encode = task.student.encode
    monkeypatch.setattr(task.student, "encode", lambda x: (inputs.append(x.detach()), encode(x))[1])
    task(batch_of(task, waves, visible=torch.tensor([[0, 1]] * 3)))
    torch.testing.assert_close(inputs[0], task.student.embed_patches(rows_of(task, waves))[:, :2].detach())


def test_the_student_alone_hears_other_levels_and_other_recordings(build, waves, monkeypatch):
    task = build(mask=MaskConfig(clones=1), gain_db=6.0)
    heard = {"student": [], "teacher": []}
    for name, encoder in (("student", task.student), ("teacher", task.teacher)):
        embed = encoder.embed_patches

        def listen(rows, name=name, embed=embed):
            heard[name].append(rows)
            return embed(rows)

        monkeypatch.setattr(encoder, "embed_patches", listen)
    batch = batch_of(task, waves)
    batch["gain"] = torch.tensor([0.6931472, 0.0, 0.0]) * task.student.log_gain_per_neper  # twice the amplitude
    other = 0.1 * torch.randn(1, 3200, generator=torch.Generator().manual_seed(7))
    snr = np.array([np.inf, 6.0, np.inf], np.float32)
    groups = {RATE: (torch.arange(4), torch.cat([waves, other]))}
    batch |= task.inputs({**batch, "waves": groups, "snr": snr, "samples": 3200}, torch.device("cpu"))
    task(batch)
    torch.testing.assert_close(heard["teacher"][0], rows_of(task, waves))
    mixed = waves[1] + other[0] * waves[1].std() / other.std() * 10 ** (-6 / 20)
    expected = rows_of(task, torch.stack([2.0 * waves[0], mixed, waves[2]]))
    torch.testing.assert_close(heard["student"][0], expected, atol=1e-4, rtol=1e-4)


def test_gradients_reach_the_student_and_not_the_teacher(build, waves):
    for norm, band in (("instance", "mean"), ("layer", "positions"), ("whitened", "whitened")):
        task = build(target=TargetConfig(norm=norm, band=band))
        task(batch_of(task, waves))["loss"].backward()
        assert all(p.grad is None and not p.requires_grad for p in task.teacher.parameters())
        learners = [task.student, task.decoder, task.head]
        for name, parameter in [item for part in learners for item in part.named_parameters()]:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0 or name.endswith("qkv.bias"), name


@pytest.mark.parametrize(("norm", "band"), [("instance", "positions"), ("whitened", "whitened")])
def test_a_split_batch_gives_the_same_losses(build, waves, norm, band):
    task = build(target=TargetConfig(norm=norm, band=band))
    statistics = [buffer for name, buffer in task.named_buffers() if name.endswith("moments")]
    task(batch_of(task, waves))
    task.update_statistics()
    before = [moments.clone() for moments in statistics]
    whole, parts = batch_of(task, waves[[0, 1, 2, 0]]), []
    for rows in ([0, 1], [2, 3]):
        part = dict(whole)
        part["spectrograms"] = tuple(spectrogram[rows] for spectrogram in whole["spectrograms"])
        part["visible"] = whole["visible"].unflatten(0, (4, 2))[rows].flatten(0, 1)
        torch.manual_seed(3)
        parts.append({name: float(value.detach()) for name, value in task(part).items()})
    task.update_statistics()
    apart = [moments.clone() for moments in statistics]
    for moments, earlier in zip(statistics, before, strict=True):
        moments.copy_(earlier)
    torch.manual_seed(3)
    together = task(whole)
    task.update_statistics()
    for name in ("loss", "loss_band", "loss_patch"):
        assert float(together[name].detach()) == pytest.approx((parts[0][name] + parts[1][name]) / 2, rel=1e-5)
    # Sums of single-precision features, whose rounding depends on the size of the batch.
    torch.testing.assert_close(statistics, apart, rtol=1e-4, atol=1e-5)


def test_the_teacher_stays_in_evaluation_mode(build):
    task = build()
    task.train()
    assert task.student.training
    assert not any(part.training for part in task.teacher.modules())


@pytest.mark.parametrize("step", [0, 150, 300, 1000])
def test_moving_average(build, step):
    task = build()
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


def test_collapse_is_told(build):
    alive = {"target_std": 0.5, "prediction_std": 0.5, "band_std": 0.5}
    task = build()
    task.check_alive(5, alive)
    for figure, name in (
        ("target_std", r"targets of at least 0\.01, found 1e-06"),
        ("prediction_std", r"predictions of at least 0\.001"),
        ("band_std", r"sub-bands' summaries of at least 0\.001"),
    ):
        with pytest.raises(WheeltapperError, match=rf"collapsed at step 5: expected a spread of the {name}"):
            task.check_alive(5, alive | {figure: 1e-6})


def test_decoder_keeps_the_grid():
    torch.manual_seed(0)
    decoder = Decoder(16, 6, DecoderConfig(dim=16, layers=2, kernel=3, groups=4))
    x = torch.randn(2, 5, 6, 16)
    assert decoder(x).shape == (2, 30, 16)
    changed = x.clone()
    changed[:, 0, 0] += 1.0
    moved = (decoder(changed) - decoder(x)).abs().sum((0, 2)).view(5, 6) > 1e-6
    assert moved[:3, :3].all()  # two layers of width three have a reach of two patches
    assert not moved[3:].any()
    assert not moved[:, 3:].any()


def test_decoder_of_a_single_column_looks_along_time_alone():
    decoder = Decoder(16, 1, DecoderConfig(dim=16, layers=2, kernel=5, groups=4))
    assert decoder.blocks[0].kernel_size == (5, 1)
    assert decoder(torch.randn(2, 7, 1, 16)).shape == (2, 7, 16)


@pytest.fixture
def echo() -> EchoObjective:
    torch.manual_seed(0)
    student = Echo(EchoConfig(embed_dim=16, depth=2, num_heads=2, mlp_ratio=2.0))
    return EchoObjective(student, config(objective="echo", mask=MaskConfig(ratio=0.5, clones=3, max_bands=12)))


def test_echo_draws_bands_anywhere(echo):
    counts, places = [], []
    for seed in range(200):
        drawn = echo.draw(RATE, 38, torch.Generator().manual_seed(seed))
        count = int(drawn["bands"])
        counts.append(count)
        places += drawn["first_bin"].tolist()
        assert drawn["first_bin"].shape == (count,)
        # 12 // 5 masks a band, so that recordings of 2 and of 5 bands fit in a batch; half of the 3 patches of 38
        # frames, rounded down.
        assert drawn["visible"].shape == (count * 2, 1)
    assert set(counts) == {2, 3, 4, 5}
    assert min(places) == 0
    assert max(places) == 101 - 32 - 1  # ECHO's code draws from [0, bins - 32)
    assert len({place % 32 for place in places}) > 20


def test_echo_gives_each_band_its_own_code(echo, waves):
    spectrogram = echo.student.spectrogram(waves, RATE)
    first = torch.tensor([0, 32, 64, 7, 40])
    batch = {"rate": RATE, "bands": torch.tensor([2, 1, 2]), "first_bin": first, "code": echo.codes(first, RATE)}
    patches, code = echo.rows(spectrogram, batch)
    assert patches.shape == (5, 3, 32 * 16)
    # Aligned bands are those of the encoder, with its codes.
    whole = echo.student.split_patches(spectrogram).unflatten(0, (3, -1))
    torch.testing.assert_close(patches[:2], whole[0, :2])
    torch.testing.assert_close(patches[2], whole[1, 2])
    share = (np.array([0, 32, 64, 7, 40]) * 2 + 31) / 200  # centres over half the rate, 200 samples a window
    angles = 25.0 * share[:, None] * 10000.0 ** -(np.arange(0, 16, 2) / 16)
    np.testing.assert_allclose(code[:, 0, 0::2], np.sin(angles), atol=1e-5)
    np.testing.assert_allclose(code[:, 0, 1::2], np.cos(angles), atol=1e-5)


def test_echo_weighs_recordings_alike_whatever_their_bands(echo, waves):
    losses = []
    for wave, bands in ((waves[:1], [5]), (waves[1:2], [2])):
        first = torch.arange(bands[0])
        visible = torch.zeros(bands[0], 1, dtype=torch.int64)
        spectrogram = echo.student.spectrogram(wave, RATE)
        part = {"spectrograms": (spectrogram,) * 2, "rate": RATE, "bands": torch.tensor(bands), "first_bin": first}
        part["code"] = echo.codes(first, RATE)
        torch.manual_seed(0)
        losses.append(float(echo(part | {"visible": visible})["loss"].detach()))
    spectrogram = echo.student.spectrogram(waves[:2], RATE)
    whole = {"spectrograms": (spectrogram,) * 2, "rate": RATE, "bands": torch.tensor([5, 2])}
    first = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    whole |= {"first_bin": first, "code": echo.codes(first, RATE), "visible": torch.zeros(7, 1, dtype=torch.int64)}
    torch.manual_seed(0)
    assert float(echo(whole)["loss"].detach()) == pytest.approx(np.mean(losses), rel=1e-5)


def test_echo_learns_from_all_its_parts(echo, waves):
    echo(batch_of(echo, waves))["loss"].backward()
    for name, parameter in [*echo.student.named_parameters(), *echo.decoder.named_parameters()]:
        assert parameter.grad is not None, name
    assert all(p.grad is None for p in echo.teacher.parameters())


def test_objectives_fit_their_encoders(tiny_encoder):
    assert isinstance(build_objective(tiny_encoder(), config()), FisherObjective)
    with pytest.raises(WheeltapperError, match="echo expects an encoder of the family ECHO, found FISHER"):
        build_objective(tiny_encoder(), config(objective="echo"))
    student = Echo(EchoConfig(embed_dim=16, depth=2, num_heads=2))
    with pytest.raises(WheeltapperError, match="fisher expects an encoder of the family FISHER or EAT, found ECHO"):
        build_objective(student, config())
