"""What the pre-training recipe writes of its runs: the model card, and the table of the ablation."""

import importlib.util
import json
from pathlib import Path

import pytest
import yaml

from system.encoders.fisher import Fisher

LOCAL = Path(__file__).resolve().parent.parent / "recipes" / "pretrain" / "local"


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, LOCAL / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path) -> Path:
    """A finished run as the command leaves it, its figures made up."""
    exp = tmp_path / "exp"
    (exp / "pretrain").mkdir(parents=True)
    (exp / "stages").mkdir()
    Fisher.build("nano", 0).save(exp / "pretrain" / "encoder.safetensors")
    head = "step,loss,loss_band,loss_patch,target_std,band_std,ema,seconds"
    rows = [f"{step},{9 - step / 10},4,5,1,0.5,0.98,{6 * step}" for step in range(0, 50, 2)]
    (exp / "pretrain" / "curve.csv").write_text("\n".join([head, *rows]) + "\n")
    config = {
        "seed": 7,
        "device": "cpu",
        "encoder": {"family": "fisher", "size": "nano"},
        "pretrain": {"loop": {"steps": 50, "batch_size": 4}, "crop_seconds": 2.0, "sources": ["left out"]},
    }
    (exp / "config.yaml").write_text(yaml.safe_dump(config))
    sources = [
        {"name": "learn_esc50", "clips": 400, "hours": 0.56, "weight": 3.0},
        {"name": "elsewhere", "clips": 10, "hours": 1.0, "weight": 1.0},
    ]
    record = {"settings": {"sources": sources}, "cpus": 2, "processes": 2, "commit": "abc", "command": "wheeltapper x"}
    (exp / "stages" / "1_pretrain.json").write_text(json.dumps(record))
    return exp


def test_the_model_card_says_what_was_learned_from_and_how(run, tmp_path):
    script("model_card").write_card(run, tmp_path / "weights", "small")
    assert (tmp_path / "weights" / "small.safetensors").read_bytes() == (
        run / "pretrain" / "encoder.safetensors"
    ).read_bytes()
    card = (tmp_path / "weights" / "small.md").read_text()
    assert "863,936 parameters" in card
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in card.splitlines() if line.startswith("|")]
    assert rows[2] == [
        "ESC-10: the part of ESC-50 under CC BY",
        "400",
        "0.6",
        "75%",
        "CC BY 3.0 (authors in its LICENSE)",
        "https://github.com/karolpiczak/ESC-50",
    ]
    assert rows[3][:5] == ["elsewhere", "10", "1.0", "25%", "not stated"]
    curve = rows[6:]
    assert (curve[0][:2], curve[-1][:2], len(curve)) == (["0", "9"], ["48", "4.2"], 12)
    assert "50 steps of 4 crops of 2.0 s, seed 7, 5 minutes" in card
    assert "processes: 2, commit abc" in card
    assert "left out" not in card


def test_the_model_card_names_the_network_that_was_distilled(run, tmp_path):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["encoder"]["checkpoint"] = "exp/first/encoder.safetensors"
    config["pretrain"] |= {"teacher": {"checkpoint": "checkpoints/mn04.pt", "blocks": [6, 10]}}
    config["pretrain"] |= {"band_weight": 0.0, "patch_weight": 0.0}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    script("model_card").write_card(run, tmp_path / "weights", "small")
    card = (tmp_path / "weights" / "small.md").read_text()
    assert "began with the weights encoder.safetensors. It learned" in card
    assert "pre-trained by distillation of a published network for" in card
    assert "blocks 6, 10 of mn04.pt (EfficientAT, MIT" in card


def test_the_table_averages_the_emulated_sets_of_each_seed(tmp_path, capsys, monkeypatch):
    def entry(name: str, figure: str, readout: str, values: list[float]) -> dict:
        return {"weights": "trained", "readout": readout, "set": name, "figure": figure, "values": values}

    figures = [
        entry("esc50", "1-NN", "cls", [20.0, 30.0]),
        entry("propeller1", "1-NN", "cls", [50.0, 60.0]),
        entry("propeller2", "1-NN", "cls", [54.0, 62.0]),
        entry("propeller2", "Mahalanobis", "cls", [1.0, 1.0]),
        entry("cwru", "clean", "tokens", [80.0, 80.0]),
        entry("cwru", "as-coded", "tokens", [1.0, 1.0]),
        entry("esc50", "1-NN", "tokens", [22.0, 22.0]) | {"weights": "random"},
    ]
    (tmp_path / "full.json").write_text(json.dumps({"figures": figures}))
    monkeypatch.setattr("sys.argv", ["ablation_table.py", str(tmp_path), "full"])
    script("ablation_table").main()
    lines = capsys.readouterr().out.splitlines()
    # Seeds: (50 + 54) / 2 = 52 and (60 + 62) / 2 = 61; deviations of n - 1.
    assert lines[2] == "| full | 25.0 ± 7.1 | - | 56.5 ± 6.4 | - | 80.0 ± 0.0 | - |"
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
