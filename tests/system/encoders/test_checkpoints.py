"""Checkpoints: no code runs, no partial files, and every fault is one error that names the file."""

import argparse
import io
import os
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from system.encoders import checkpoints
from system.errors import WheeltapperError

STATE = {"cfg": {"model": {"depth": 2}}, "model": {"w": torch.arange(6.0).view(2, 3)}}


def saved(state, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


class Code:
    """A pickle that would create a folder when loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files(tmp_path, zipped):
    (tmp_path / "x.pt").write_bytes(saved(STATE, zipped))
    loaded = checkpoints.load_file(tmp_path / "x.pt")
    assert loaded["cfg"] == STATE["cfg"]
    assert torch.equal(loaded["model"]["w"], STATE["model"]["w"])


def test_safetensors(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {"a": torch.randn(3, 4).t(), "b": torch.tensor(2)}
    checkpoints.save(path, tensors, {"text": "plain", "value": {"k": [1, None]}})
    loaded = checkpoints.load_file(path)
    assert loaded["metadata"] == {"text": "plain", "value": '{"k": [1, null]}'}
    assert all(torch.equal(loaded["model"][name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    "wrap", [saved, lambda state: saved(state, False), pickle.dumps], ids=["zip", "legacy", "pickle"]
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_is_refused_and_not_run(tmp_path, wrap):
    (tmp_path / "x.pt").write_bytes(wrap({"model": Code(tmp_path / "ran")}))
    with pytest.raises(WheeltapperError, match=r"x\.pt: (refused|damaged)"):
        checkpoints.load_file(tmp_path / "x.pt")
    assert not (tmp_path / "ran").exists()


def test_refusal_is_told_from_damage(tmp_path):
    (tmp_path / "x.pt").write_bytes(saved({"model": Code(tmp_path / "ran")}))
    with pytest.raises(WheeltapperError, match="refused, its pickle asks for more"):
        checkpoints.load_file(tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes(b"hello world")
    with pytest.raises(WheeltapperError, match="damaged, expected a torch checkpoint") as caught:
        checkpoints.load_file(tmp_path / "x.pt")
    assert "weights_only" not in str(caught.value)


def test_a_damaged_length_asks_for_more_memory_than_there_is(tmp_path):
    """Found by damaging files at random."""
    good = saved(STATE, zipped=False)
    name = b"X" + len("protocol_version").to_bytes(4, "little") + b"protocol_version"
    assert name in good
    (tmp_path / "x.pt").write_bytes(good.replace(name, b"X\x10\x00\xff\xff" + name[5:]))  # 4 GB
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), limits[1]))
    try:
        with pytest.raises(WheeltapperError, match=r"x\.pt: expected a checkpoint that fits into memory, found"):
            checkpoints.load_file(tmp_path / "x.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def masked_autoencoder() -> dict:
    """A file of AudioMAE's training program: weights, optimiser state and command line."""
    options = argparse.Namespace(
        batch_size=8, blr=2e-4, output_dir="out", resume="", roll_mag_aug=True, mask=(0.1, None)
    )
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"betas": (0.9, 0.95), "params": [0]}]}
    return {"model": STATE["model"], "optimizer": optimizer, "epoch": 32, "scaler": {"scale": 1.0}, "args": options}


def fairseq() -> dict:
    """A file of fairseq, with NumPy scalars in the training records."""
    numbers = [np.float64(0.25), np.float32(-3), np.int64(7), np.bool_(True), np.uint8(255), np.float16(0.5)]
    extra = {"metrics": [("default", numbers)], "val_loss": np.float64(1.5), "epoch": np.int32(4)}
    return {"cfg": {"model": {"depth": 2}}, "args": None, "model": STATE["model"], "extra_state": extra}


@pytest.mark.parametrize("zipped", [True, False])
def test_settings_of_a_training_run_do_no_harm(tmp_path, zipped):
    (tmp_path / "x.pth").write_bytes(saved(masked_autoencoder(), zipped))
    loaded = checkpoints.load_file(tmp_path / "x.pth")
    assert vars(loaded["args"]) == vars(masked_autoencoder()["args"])
    assert torch.equal(loaded["model"]["w"], STATE["model"]["w"])


@pytest.mark.parametrize("zipped", [True, False])
def test_numbers_of_numpy_are_read(tmp_path, zipped):
    (tmp_path / "x.pt").write_bytes(saved(fairseq(), zipped))
    assert checkpoints.load_file(tmp_path / "x.pt")["extra_state"] == fairseq()["extra_state"]


def test_numbers_of_older_numpy_are_read(tmp_path):
    content = saved(fairseq(), zipped=False)
    newer, older = b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"
    assert newer in content or older in content
    for names in ((newer, older), (older, newer)):
        (tmp_path / "x.pt").write_bytes(content.replace(*names))
        assert checkpoints.load_file(tmp_path / "x.pt")["extra_state"] == fairseq()["extra_state"]


@pytest.mark.parametrize(
    "value",
    [np.array(["a", 1], dtype=object), np.void(b"12345678"), io.StringIO, os.system],
    ids=["objects", "bytes", "type", "system"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_more_than_plain_values_is_refused(tmp_path, value, zipped):
    (tmp_path / "x.pt").write_bytes(saved({"model": STATE["model"], "extra_state": {"value": value}}, zipped))
    with pytest.raises(WheeltapperError, match="refused, its pickle asks for more than tensors"):
        checkpoints.load_file(tmp_path / "x.pt")


def test_code_behind_harmless_names_is_refused(tmp_path):
    options = argparse.Namespace(path=Code(tmp_path / "ran"))
    (tmp_path / "x.pt").write_bytes(saved({"model": STATE["model"], "args": options}))
    with pytest.raises(WheeltapperError, match="refused"):
        checkpoints.load_file(tmp_path / "x.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"\n", b"weights\n" * 50, b"<!DOCTYPE html><html></html>", b"PK\x03\x04"])
@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_files_that_are_none(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WheeltapperError, match=r"x\.\w+: damaged, expected a (torch checkpoint|safetensors file)"):
        checkpoints.load_file(tmp_path / name)


def test_safetensors_by_another_name(tmp_path):
    checkpoints.save(tmp_path / "x.safetensors", {"a": torch.ones(3)}, {"k": "v"})
    content = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.bin").write_bytes(content)
    assert checkpoints.load_file(tmp_path / "x.bin")["metadata"] == {"k": "v"}
    (tmp_path / "x.bin").write_bytes(content[:-5])
    with pytest.raises(WheeltapperError, match="damaged, expected a safetensors file"):
        checkpoints.load_file(tmp_path / "x.bin")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_named(value):
    module = nn.Linear(2, 2)
    tensors = {"weight": torch.ones(2, 2), "bias": torch.tensor([0.0, value])}
    with pytest.raises(WheeltapperError, match="bias holds NaN or infinity"):
        checkpoints.load_strict(module, tensors, "file")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_bytes_give_one_error(tmp_path, zipped):
    whole, path = saved(STATE, zipped), tmp_path / "x.pt"
    generator = np.random.default_rng(0)
    contents = [whole[:size] for size in generator.integers(0, len(whole), 20)]
    for _ in range(60):
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole), 3):
            damaged[place] = generator.integers(256)
        contents.append(bytes(damaged))
    contents += [generator.bytes(size) for size in generator.integers(0, 300, 10)]
    errors = []
    for content in contents:
        path.write_bytes(content)
        try:
            checkpoints.load_file(path)
        except WheeltapperError as error:  # any other exception fails the test
            errors.append(str(error))
    assert len(errors) > 30
    assert all(text.startswith(f"{path}: ") and "\n" not in text for text in errors)


@pytest.mark.parametrize("size", [0, 4, 50, 200])
def test_truncated_safetensors(tmp_path, size):
    path = tmp_path / "x.safetensors"
    checkpoints.save(path, {"a": torch.zeros(100)}, {})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(WheeltapperError, match=r"x\.safetensors: damaged"):
        checkpoints.load_file(path)


def test_missing_folder_and_not_a_dict(tmp_path):
    with pytest.raises(WheeltapperError, match="expected a checkpoint, found nothing"):
        checkpoints.load_file(tmp_path / "x.pt")
    with pytest.raises(WheeltapperError, match="found a folder"):
        checkpoints.load_file(tmp_path)
    torch.save([1, 2], tmp_path / "x.pt")
    with pytest.raises(WheeltapperError, match="expected a dict of tensors, found list"):
        checkpoints.load_file(tmp_path / "x.pt")


def test_strict_loading_lists_what_does_not_fit():
    module = nn.Sequential(*(nn.Linear(2, 2) for _ in range(6)))
    with pytest.raises(
        WheeltapperError, match=r"file: does not fit Sequential: missing 0\.weight; .* and 4 more"
    ) as caught:
        checkpoints.load_strict(
            module, {"0.bias": torch.zeros(2), "extra": torch.zeros(1), "5.bias": torch.zeros(3)}, "file"
        )
    assert str(caught.value).count("; ") == 7
    good = {name: torch.full_like(tensor, 2.0) for name, tensor in module.state_dict().items()}
    checkpoints.load_strict(module, good, "file")
    assert all(tensor.eq(2.0).all() for tensor in module.state_dict().values())


def test_strict_loading_fills_a_module_without_storage():
    with torch.device("meta"):
        module = nn.Linear(2, 3)
    checkpoints.load_strict(module, {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}, "file")
    assert module(torch.ones(1, 2)).tolist() == [[2.0, 2.0, 2.0]]


def test_the_same_weights_are_the_same_bytes(tmp_path):
    """The bytes do not depend on the order of the metadata, and load to the saved tensors."""
    about = {name: str(number) for number, name in enumerate("abcdefgh")} | {"steps": 3}
    tensors = {"w": torch.arange(6.0).view(2, 3), "b": torch.arange(3), "ü": torch.ones(1, dtype=torch.bfloat16)}
    contents = set()
    for path in (tmp_path / f"{number}.safetensors" for number in range(4)):
        checkpoints.save(path, tensors, about)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    checkpoints.save(path, dict(reversed(tensors.items())), dict(reversed(about.items())))
    assert {path.read_bytes()} == contents
    found = checkpoints.load_file(path)
    assert found["metadata"] == about | {"steps": "3"}
    assert set(found["model"]) == set(tensors)
    assert all(torch.equal(found["model"][name], tensor) for name, tensor in tensors.items())


def test_saving_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.pt"
    checkpoints.save_torch(path, STATE)
    before = path.read_bytes()
    with pytest.raises(AttributeError):
        checkpoints.save_torch(path, {"model": lambda: None})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt"]
