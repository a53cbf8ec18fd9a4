"""Runs on an accelerator, a pretended one: tensors of two devices never meet, and a training step waits once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pretended_device import pretended_device
from test_study_recipe import TOY, table
from test_suite_command import put_cwru, put_iiee

from system.bin import main
from system.files import read_json

LOOP = "{steps: 2, batch_size: 4, warmup_steps: 1}"
SMALL = [
    f"{place}.{key}"
    for place in ("pretrain", "branches.main", "branches.aux")
    for key in ("crop_seconds=0.5", f"loop={LOOP}")
]
TRAINING = ("training/", "adaptation/", "pretraining/")  # where a step could wait


@pytest.fixture
def run(recordings, tmp_path, monkeypatch, capsys) -> Callable[..., Path]:
    """Runs a small version of the default recipe on the pretended device; checks that nothing fails and that each of
    its training steps waits once."""

    def start(steps: int, *settings: str, stop: int = 9) -> Path:
        command = ["run", "--exp", str(tmp_path / "exp"), "--conf", "toy.yaml", "--data", str(recordings)]
        for setting in ("device=cuda", *SMALL, *settings):
            command += ["--set", setting]
        with pretended_device(monkeypatch) as device:
            assert main([*command, "--stop-stage", str(stop)]) == 0, capsys.readouterr().err
        waits = {line: count for line, count in device.waits.items() if line.startswith(TRAINING)}
        start_of_branches = [count for line, count in waits.items() if line.startswith("adaptation/__init__")]
        assert start_of_branches in ([], [1], [2]), waits  # of the projection, once for each branch
        assert sorted(waits.values()) == sorted([steps, *start_of_branches]), waits
        return tmp_path / "exp"

    return start


def test_all_stages_of_a_run_mix_no_devices(run, capsys):
    exp = run(6)  # of pre-training and two branches
    for stage in ("1_pretrain", "2_adapt", "3_embed", "8_benchmark"):
        record = read_json(exp / "stages" / f"{stage}.json")
        assert (record["device"], record["gpu"]) == ("cuda", "pretended")
    assert "\non cuda (pretended): " in capsys.readouterr().out


def test_integers_stay_on_the_processor(recordings, tmp_path, monkeypatch, capsys):
    command = ["embed", "--audio", str(next(recordings.rglob("*.wav"))), "--precision", "int8"]
    with pretended_device(monkeypatch):
        for place in (["--out", str(tmp_path / "rows.npz")], ["--store", str(tmp_path / "store")]):
            assert main([*command, *place]) == 0, capsys.readouterr().err
        assert main([*command, "--out", str(tmp_path / "rows.npz"), "--device", "cuda"]) == 1
    assert "precision: expected fp32, bf16 or auto on cuda, found int8" in capsys.readouterr().err


NANO = ["pretrain.loop.steps=0", "encoder.checkpoint="]
MIXED = "branches.main.augment={mixup: 0.7, channel_swap: 0.5, channel_drop: 0.3, time_mask: 8, frequency_mask: 8}"


@pytest.mark.matrix
@pytest.mark.parametrize("family", ["fisher", "echo", "beats", "eat", "audiomae", "ast", "cnn", "mn"])
@pytest.mark.parametrize("tune", ["lora", "full", "frozen"])
def test_every_family(run, family, tune):
    encoder = [f"encoder={{family: {family}, size: nano, simam: global, simam_machines: {{SimFan: local}}}}"]
    run(4, *NANO, *encoder, MIXED, f"branches.main.tune={tune}", stop=8)


@pytest.mark.matrix
@pytest.mark.parametrize("kind", ["arcface", "adacos", "adaproj"])
@pytest.mark.parametrize("subclusters", [1, 3])
@pytest.mark.parametrize("parts", [1, 2])
def test_every_head(run, kind, subclusters, parts):
    head = f"branches.main.heads={{kind: {kind}, subclusters: {subclusters}, adaptive_scale: {kind != 'arcface'}}}"
    run(4, *NANO, head, MIXED, f"branches.main.loop.accumulate={parts}", stop=3)


@pytest.mark.matrix
@pytest.mark.parametrize("front_end", ["worker", "device"])
@pytest.mark.parametrize("target", ["{}", "{norm: whitened, band: whitened}", "{norm: layer, band: positions}"])
def test_pre_training(run, front_end, target):
    run(2, f"pretrain.front_end={front_end}", f"pretrain.target={target}", "pretrain.mix_share=0.5", stop=1)


@pytest.mark.matrix
def test_a_study(tmp_path, monkeypatch, capsys):
    data = table(tmp_path / "recordings", 8, 4)
    with pretended_device(monkeypatch):
        command = ["study", "--exp", str(tmp_path / "exp"), "--conf", TOY, "--data", str(data), "--set", "device=cuda"]
        assert main(command) == 0, capsys.readouterr().err
        page = ["explain", "--exp", str(tmp_path / "exp"), "--out", str(tmp_path / "page.html"), "--device", "auto"]
        assert main(page) == 0, capsys.readouterr().err


@pytest.mark.matrix
@pytest.mark.parametrize(("suite", "precision"), [("rmis", "fp32"), ("siren", "bf16")])
@pytest.mark.parametrize("family", ["fisher", "cnn"])
def test_a_benchmark(tmp_path, monkeypatch, capsys, suite, precision, family):
    put_cwru(tmp_path)
    put_iiee(tmp_path)
    command = ["benchmark", suite, "--data", str(tmp_path), "--store", str(tmp_path / "store"), "--device", "auto"]
    encoder = ["--encoder", f"{family}-nano", "--checkpoint", "random", "--precision", precision]
    with pretended_device(monkeypatch):
        assert main([*command, *encoder]) == 0, capsys.readouterr().err
