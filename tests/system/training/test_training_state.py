"""Files of a training run: the state it resumes from, the curve, TensorBoard events; a full disk."""

import errno
import os
from dataclasses import replace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_training import CONFIG, Noisy, run

from system.errors import WheeltapperError
from system.training.state import Position, StateFile, left, write_curve


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04half"])
def test_a_damaged_state_is_an_error(tmp_path, content):
    run(tmp_path / "run")
    (tmp_path / "run" / "state.pt").write_bytes(content)
    with pytest.raises(WheeltapperError, match=r"state\.pt: damaged"):
        run(tmp_path / "run")


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("settings"),
        lambda state: state.pop("optimizer"),
        lambda state: state.update(optimizer="x"),
        lambda state: state["module"].pop("seen"),
        lambda state: state["module"].update({"linear.weight": torch.zeros(9, 9)}),
        lambda state: state.update(step="three"),
        lambda state: state["optimizer"].update(param_groups=[]),
    ],
)
def test_a_state_of_another_run_is_an_error(tmp_path, change):
    run(tmp_path / "run")
    path = tmp_path / "run" / "state.pt"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)
    with pytest.raises(WheeltapperError, match=r"state\.pt: does not fit this run .* remove it"):
        run(tmp_path / "run")


@pytest.mark.parametrize(
    ("other", "options", "found"),
    [
        ({"learning_rate": 0.01}, {}, r"expected loop\.learning_rate: 0\.01, found 0\.05"),
        ({"betas": [0.8, 0.9]}, {}, r"expected loop\.betas: \[0\.8, 0\.9\], found \[0\.9, 0\.95\]"),
        ({}, {"seed": 1}, "expected seed: 1, found 0"),
        ({}, {"settings": {"mask": {"ratio": 0.75}}}, r"expected mask\.ratio: 0\.75, found 0\.8"),
        ({}, {"settings": {}}, r"expected mask\.ratio: None, found 0\.8"),
    ],
)
def test_a_state_of_other_settings_is_refused(tmp_path, other, options, found):
    given = {"settings": {"mask": {"ratio": 0.8}}}
    run(tmp_path / "run", **given)
    with pytest.raises(WheeltapperError, match=rf"state\.pt: does not fit this run, {found}; remove it"):
        run(tmp_path / "run", config=replace(CONFIG, **other), **{**given, **options})


def test_a_run_may_go_on_with_settings_that_change_nothing(tmp_path):
    _, rows = run(tmp_path / "run")
    config = replace(CONFIG, accumulate=2, workers=3, log_every=5, save_every=9)
    assert run(tmp_path / "run", config=config)[1] == rows


@pytest.mark.parametrize("name", ["state.pt", "curve.csv"])
def test_a_full_disk_leaves_the_last_good_state(tmp_path, monkeypatch, name):
    whole, _ = run(tmp_path / "whole")
    synced, written = os.fsync, []

    def full(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        written.append(path)
        if f".{name}." in path and len(written) > 2:  # not the first time
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synced(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space") as caught:
            run(tmp_path / "run")
    assert caught.value.filename == str(tmp_path / "run" / name)
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == 3
    resumed, _ = run(tmp_path / "run")
    assert torch.equal(resumed.linear.weight, whole.linear.weight)


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".state.pt.123.tmp").write_bytes(b"half")
    run(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["curve.csv", "state.pt", "tensorboard"]


def test_tensorboard_reads_the_events(tmp_path):
    """With TensorBoard's own reader, which drops the steps that a resumed run repeats."""

    def stop(step, values):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", progress=stop)
    _, rows = run(tmp_path / "run")
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert set(found.Tags()["scalars"]) == set(rows[0]) - {"step"}
    for name in ("loss", "gradient_norm"):
        events = found.Scalars(name)
        assert [event.step for event in events] == [0, 2, 4, 6]
        assert [event.value for event in events] == pytest.approx([row[name] for row in rows], rel=1e-6)


def test_a_full_disk_under_the_events_is_an_error_like_any_other(tmp_path, monkeypatch):
    path = tmp_path / "run" / "tensorboard" / "events"
    path.parent.mkdir(parents=True)
    path.symlink_to("/dev/full")
    monkeypatch.setattr("system.training.state.Events.__init__", lambda self, *_: vars(self).update(path=path, first=0))
    with pytest.raises(OSError, match="No space") as caught:
        run(tmp_path / "run")
    assert caught.value.filename == str(path)


def test_the_loss_scaler_of_fp16_is_part_of_the_state(tmp_path):
    def state(scaler):
        module = Noisy()
        return StateFile(tmp_path, module, torch.optim.AdamW(module.parameters()), scaler, {})

    state(torch.amp.GradScaler("cpu", init_scale=2.0**7, growth_interval=77)).write(Position(3))
    scaler = torch.amp.GradScaler("cpu")
    assert state(scaler).read().step == 3
    assert scaler.get_scale() == 2.0**7
    assert scaler.state_dict()["growth_interval"] == 77


def test_what_is_left_in_words(tmp_path):
    assert left(tmp_path / "state.pt") == "no step was saved yet; the same command starts again"
    run(tmp_path)
    assert left(tmp_path / "state.pt").endswith("state.pt holds 7 steps; the same command resumes there")


def test_only_what_is_needed_is_kept(tmp_path):
    module = Noisy()
    module.linear.bias.requires_grad_(False)
    run(tmp_path / "run", module)
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert set(state["module"]) == {"linear.weight", "seen"}
    assert not module.linear.bias.any()


def test_curve_of_nothing(tmp_path):
    write_curve(tmp_path / "curve.csv", [])
    assert (tmp_path / "curve.csv").read_text() == "step\n"
