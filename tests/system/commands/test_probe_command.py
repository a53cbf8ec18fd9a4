"""``wheeltapper probe`` as a user types it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from system import manifest
from system.benchmarks import frozen
from system.bin import main, probe
from system.encoders.fisher import Fisher


@pytest.fixture
def sets(record, tmp_path) -> dict[str, str]:
    """Manifests of classes in folds, of classes alone, and of a machine with anomalies."""
    esc = [
        record(f"{i}.wav", machine="esc", section=str(i % 2), seed=i, attributes=f"class_{'ab'[i // 2 % 2]}")
        for i in range(8)
    ]
    cwru = [record(f"{i}.wav", machine="cwru", seed=i, attributes=f"class_{'ab'[i % 2]}") for i in range(8)]
    fan = [record(f"{i}.wav", label="normal", seed=i, domain=("source", "target")[i % 2]) for i in range(6)]
    for i in range(8):
        fields = {"label": ("normal", "anomaly")[i % 2], "domain": ("source", "target")[i // 2 % 2]}
        fan.append(record(f"t{i}.wav", split="test", seed=20 + i, **fields))
    paths = {}
    for name, clips in (("esc50", esc), ("cwru", cwru), ("propeller", fan)):
        paths[name] = str(tmp_path / f"{name}.csv")
        manifest.write(paths[name], clips)
    return paths


@pytest.fixture
def checkpoints(tiny_encoder, tmp_path) -> list[str]:
    paths = []
    for seed in (7, 8):
        paths.append(str(tmp_path / f"w{seed}.safetensors"))
        tiny_encoder(seed).save(paths[-1])
    return paths


def command(sets: dict[str, str], *options: object) -> list[str]:
    given = [text for name, path in sets.items() for text in ("--data", f"{name}={path}")]
    return ["probe", *given, "--encoder", "fisher-nano", *map(str, options)]


def test_trained_against_random_with_baselines(sets, checkpoints, tmp_path, capsys):
    out = tmp_path / "new" / "probe.json"
    options = ["--checkpoint", *checkpoints, "--against", "random", "--seeds", 0, 1, 2, "--baselines", "--json", out]
    assert main(command(sets, *options)) == 0
    found = json.loads(out.read_text())
    assert found["runs"] == {"trained": checkpoints, "random": ["seed 0", "seed 1", "seed 2"]}
    assert found["sets"]["esc50"] == {"manifest": sets["esc50"], "task": "folds", "recordings": 8}
    assert [found["sets"][name]["task"] for name in ("cwru", "propeller")] == ["files", "anomalies"]
    assert found["encoder"]["family"] == "FISHER"
    assert found["encoder"]["config"]["embed_dim"] == 16
    assert {"command", "commit", "versions"} <= set(found["record"])
    figures = {(f["weights"], f["readout"], f["set"], f["figure"]): f for f in found["figures"]}
    assert len(figures) == len(found["figures"]) == (2 + 2 + 4) * (1 + 2 + 4)
    own = figures["trained", "tokens", "esc50", "1-NN"]
    other = figures["random", "tokens", "esc50", "1-NN"]
    assert [len(own["values"]), len(other["values"])] == [2, 3]
    assert own["mean"] == pytest.approx(np.mean(own["values"]))
    assert other["std"] == pytest.approx(np.std(other["values"], ddof=1))
    assert own["ratio"] == pytest.approx(own["mean"] / other["mean"])
    assert "ratio" not in other
    assert figures["statistics", "log-mel mean", "cwru", "clean"]["std"] is None
    assert "Mahalanobis fan" in {figure for *_, figure in figures}
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["weights", "read-out", "esc50", "cwru", "cwru", "propeller", "propeller"]
    assert lines[1] == ["1-NN", "clean", "as-coded", "Mahalanobis", "1-NN"]
    row = next(line for line in lines if line[:2] == ["trained", "tokens"])
    assert row[2:5] == [f"{own['mean']:.2f}", "±", f"{own['std']:.2f}"]
    ratio = next(line for line in lines if line[:2] == ["ratio", "tokens"])
    assert ratio[2] == f"{own['ratio']:.2f}"


def test_random_weights_are_those_of_their_seed(sets, tmp_path):
    only = {"cwru": sets["cwru"]}
    values = {}
    for name, seeds in (("both", [3, 4]), ("first", [3]), ("second", [4])):
        options = ["--checkpoint", "random", "--seeds", *seeds, "--readout", "tokens", "--json", tmp_path / name]
        assert main(command(only, *options)) == 0
        found = json.loads((tmp_path / name).read_text())
        assert {f["readout"] for f in found["figures"]} == {"tokens"}
        values[name] = {f["figure"]: f["values"] for f in found["figures"]}
    for figure, both in values["both"].items():
        assert both == values["first"][figure] + values["second"][figure]


def test_a_checkpoint_is_read_out_as_the_library_does(sets, checkpoints, tmp_path):
    from functools import partial

    from system.benchmarks.labelled import choose_task, figures

    assert main(command(sets, "--checkpoint", checkpoints[0], "--json", tmp_path / "x.json")) == 0
    found = json.loads((tmp_path / "x.json").read_text())["figures"]
    network = {"own": partial(frozen.compute_readouts, Fisher.load(checkpoints[0]))}
    for name, near in (("esc50", False), ("propeller", True)):
        task, clips = choose_task(manifest.read(sets[name]))
        vectors = frozen.embed_clips(clips, network, near)["own"]
        for kind in frozen.READOUTS:
            expected = figures(clips, task, vectors[kind])
            assert expected == {f["figure"]: f["values"][0] for f in found if (f["set"], f["readout"]) == (name, kind)}


def test_read_outs_are_those_of_the_library():
    assert probe.READOUTS == frozen.READOUTS


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--checkpoint", "random", "--against", "random"], "--checkpoint random: expected it alone"),
        (["--checkpoint", "{0}", "random"], "--checkpoint random: expected it alone"),
        (["--checkpoint", "{0}", "--data", "esc50={esc}"], "--data: expected NAME=MANIFEST, each name once"),
        (["--checkpoint", "{0}", "--data", "more"], "--data: expected NAME=MANIFEST, each name once, found 'more'"),
        (["--checkpoint", "{0}", "--data", "more=no.csv"], "no.csv: expected a manifest"),
        (["--checkpoint", "{0}", "{other}"], "other.safetensors: expected an encoder of the same sizes"),
        (["--checkpoint", "random", "--workers", "-1"], "--workers: expected 0 or more"),
        (["--checkpoint", "random", "--device", "tpu"], "device: expected one of auto, cuda, mps, cpu"),
        ([], "--encoder fisher-nano: expected --checkpoint FILE, or random"),
    ],
)
def test_mistakes(sets, checkpoints, tiny_encoder, tmp_path, capsys, options, text):
    other = tmp_path / "other.safetensors"
    tiny_encoder(embed_dim=32).save(other)
    given = [option.format(*checkpoints, esc=sets["esc50"], other=other) for option in options]
    assert main(command(sets, *given)) == 1
    assert text in capsys.readouterr().err


def test_a_manifest_without_labels_is_named(sets, checkpoints, tmp_path, capsys):
    clips = [replace(clip, attributes="") for clip in manifest.read(sets["cwru"])]
    manifest.write(tmp_path / "bare.csv", clips)
    assert main(command({"bare": str(tmp_path / "bare.csv")}, "--checkpoint", checkpoints[0])) == 1
    assert f"{tmp_path / 'bare.csv'}: expected labelled test clips, or attributes class_" in capsys.readouterr().err


def test_earlier_spellings_and_a_table_of_the_figures(sets, checkpoints, tmp_path):
    """--set and --out are the earlier names of --data and --json."""
    model = ["--encoder", "fisher-nano", "--checkpoint", *checkpoints]
    files = ["--out", str(tmp_path / "old.json"), "--csv", str(tmp_path / "new.csv")]
    assert main(["probe", "--set", f"cwru={sets['cwru']}", *model, *files]) == 0
    figures = json.loads((tmp_path / "old.json").read_text())["figures"]
    head, *rows = (line.split(",") for line in (tmp_path / "new.csv").read_text().splitlines())
    assert head == ["weights", "readout", "set", "figure", "mean", "std"]
    assert rows == [[f["weights"], f["readout"], f["set"], f["figure"], str(f["mean"]), str(f["std"])] for f in figures]


def test_without_recordings_nothing_is_measured(capsys):
    assert main(["probe", "--encoder", "fisher-nano"]) == 1
    assert "--data: expected NAME=MANIFEST at least once, found none" in capsys.readouterr().err
