"""``wheeltapper convert``: the same embedding from our file, one line for every file that cannot be converted."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from system.bin import main
from system.encoders import checkpoints, family_class
from system.encoders.eat import Eat
from system.encoders.fisher import Fisher

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "encoders"


@pytest.mark.parametrize("family", ["fisher", "eat"])
@pytest.mark.parametrize("named", [True, False])
def test_the_converted_file_gives_the_official_embedding(tmp_path, capsys, family, named):
    source, out = FIXTURES / family / f"{family}.pt", tmp_path / "out.safetensors"
    assert main(["convert", str(source), str(out), *(["--encoder", family] if named else [])]) == 0
    said = capsys.readouterr().out
    encoder = family_class(family).load(out)
    count = sum(parameter.numel() for parameter in encoder.parameters())
    assert said == f"{out}: {encoder.family} of a size of its own, {count} parameters, from {source}\n"
    cases = np.load(FIXTURES / family / f"{family}_cases.npz")
    found = encoder.embed(torch.from_numpy(cases["case0.wav"])[None], int(cases["case0.sr"]))[0].detach().numpy()
    reference = cases["case0.embedding"]
    assert np.abs(found - reference).max() < 1e-4 * np.abs(reference).max()
    assert checkpoints.load_file(out)["metadata"]["source"] == source.name


def test_our_own_file_goes_through_and_its_size_is_named(tmp_path, capsys):
    Eat.build("nano", 0).save(tmp_path / "a.safetensors")
    assert main(["convert", str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")]) == 0
    assert "EAT nano, " in capsys.readouterr().out
    one, other = (checkpoints.load_file(tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    assert one["model"].keys() == other["model"].keys()
    assert all(torch.equal(tensor, other["model"][name]) for name, tensor in one["model"].items())


def test_heads_decide_where_the_file_does_not_say_them(tmp_path):
    bare = dict(checkpoints.load_file(FIXTURES / "fisher" / "fisher.pt")["model"])
    torch.save(bare, tmp_path / "bare.pt")
    for heads in (1, 4):
        out = tmp_path / f"{heads}.safetensors"
        assert main(["convert", str(tmp_path / "bare.pt"), str(out), "--heads", str(heads)]) == 0
        assert Fisher.load(out).config.num_heads == heads


def test_a_downloaded_checkpoint_is_found_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copy(FIXTURES / "fisher" / "fisher.pt", folder / "FISHER-tiny.pt")
    assert main(["convert", "fisher-tiny", "out.safetensors"]) == 0
    assert (tmp_path / "out.safetensors").is_file()
    assert main(["convert", "fisher-mini", "out.safetensors"]) == 1
    assert "download-checkpoint fisher-mini" in capsys.readouterr().err


class Code:
    """A pickle that would create a folder when loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def a_file(kind: str, folder: Path) -> Path:
    """A file that cannot be converted."""
    path, state = folder / f"{kind}.pt", checkpoints.load_file(FIXTURES / "fisher" / "fisher.pt")
    whole = (FIXTURES / "fisher" / "fisher.pt").read_bytes()
    if kind == "folder":
        path.mkdir()
    elif kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind in ("empty", "text"):
        path.write_bytes(b"" if kind == "empty" else b"These are not weights.\n" * 100)
    elif kind == "code":
        torch.save(state | {"optimizer": Code(folder / "ran")}, path)
    elif kind == "nan":
        state["model"]["blocks.0.attn.proj.bias"][3] = torch.nan
        torch.save(state, path)
    elif kind == "shape":
        state["model"]["blocks.1.norm1.weight"] = torch.ones(7)
        torch.save(state, path)
    elif kind == "missing":
        del state["model"]["blocks.1.mlp.fc2.bias"]
        torch.save(state, path)
    elif kind == "heads":
        state["cfg"]["model"]["num_heads"] = 7
        torch.save(state, path)
    elif kind == "unknown":
        torch.save({"weight": torch.ones(3)}, path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nothing", "expected a file or a name that download-checkpoint --list shows, found neither"),
        ("folder", "found a folder"),
        ("truncated", "damaged, expected a torch checkpoint"),
        ("empty", "damaged, expected a torch checkpoint"),
        ("text", "damaged, expected a torch checkpoint"),
        ("code", "refused, its pickle asks for more than tensors and plain values; if you trust the file"),
        ("nan", "blocks.0.attn.proj.bias holds NaN or infinity"),
        ("shape", "blocks.1.norm1.weight (7,) instead of (64,)"),
        ("missing", "missing blocks.1.mlp.fc2.bias"),
        ("heads", "impossible sizes"),
        ("unknown", "expected tensors of a known encoder, found other names"),
    ],
)
def test_what_cannot_be_converted_is_one_line_and_leaves_nothing(tmp_path, capsys, kind, message):
    path, out = a_file(kind, tmp_path), tmp_path / "out" / "x.safetensors"
    assert main(["convert", str(path), str(out)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"wheeltapper convert: {path}: ")
    assert message in error
    assert error.count("\n") == 1
    assert not out.parent.exists()
    assert not (tmp_path / "ran").exists()


def test_wrong_family_and_wrong_options(tmp_path, capsys):
    source, out = str(FIXTURES / "fisher" / "fisher.pt"), str(tmp_path / "x.safetensors")
    Eat.build("nano", 0).save(tmp_path / "eat.safetensors")
    assert main(["convert", str(tmp_path / "eat.safetensors"), out, "--encoder", "fisher"]) == 1
    assert main(["convert", source, out, "--encoder", "wav2vec"]) == 1
    assert main(["convert", source, out, "--heads", "0"]) == 1
    assert main(["convert", source, str(tmp_path / "x.pt")]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 4
    assert "expected a FISHER config in its metadata, found EAT" in errors[0]
    assert "encoder family: expected one of fisher" in errors[1]
    assert "--heads: expected at least 1, found 0" in errors[2]
    assert "expected a name that ends in .safetensors" in errors[3]
    assert not Path(out).exists()
