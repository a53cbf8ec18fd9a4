"""The official baseline's configurations from recordings to package and report, at toy size."""

import json
import re
import shutil
import signal
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import yaml

from submission.validate import validate
from system import score_tables
from system.bin import main
from system.config import load
from system.files import read_json

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "recipes" / "dcase2026" / "conf"
NAMES = ["baseline_mse", "baseline_mahala", "baseline_mse_corrected", "baseline_mahala_corrected"]
LABEL = "Wheeltapper_Demo_task2_1"
ZIP = "Wheeltapper_Demo_task2.zip"
SMALL = {"epochs": 2, "batch": 64, "hidden": [12], "bottleneck": 4}


def toy(folder: Path, name: str, **more) -> Path:
    """A configuration of the recipe at a size for tests."""
    path = folder / f"{name}.yaml"
    folds = {"folds": 2} if "corrected" in name else {}
    conf = {
        "base": str(CONF / f"{name}.yaml"),
        "branches": {"main": {"autoencoder": SMALL | folds}},
        "evaluate": {"bootstrap": 20},
    }
    path.write_text(yaml.safe_dump(conf | more))
    return path


@pytest.fixture(scope="module")
def data(recordings, tmp_path_factory) -> Path:
    exp = tmp_path_factory.mktemp("baseline") / "exp"
    options = ["--conf", str(CONF / "toy.yaml"), "--data", str(recordings)]
    assert main(["prepare", "--exp", str(exp), *options]) == 0
    return exp


def clone(data: Path, place: Path) -> Path:
    return Path(shutil.copytree(data, place, copy_function=shutil.copy2))


def run(exp: Path, conf: Path, first: int = 1, last: int = 9) -> int:
    options = ["--stage", str(first), "--stop-stage", str(last)]
    return main(["run", "--exp", str(exp), "--conf", str(conf), *options])


@pytest.fixture(scope="module")
def faithful(data, tmp_path_factory) -> Path:
    exp = clone(data, tmp_path_factory.mktemp("faithful") / "exp")
    assert run(exp, toy(exp.parent, "baseline_mse")) == 0
    return exp


def test_the_configurations_say_what_the_official_program_does():
    found = {name: load(CONF / f"{name}.yaml") for name in NAMES}
    for name, config in found.items():
        network, (system,) = config.branches["main"].autoencoder, config.systems
        assert (network.frames, network.hidden, network.bottleneck, network.batch_norm) == (5, [128] * 4, 8, True)
        assert (network.epochs, network.batch, network.learning_rate, network.validation) == (100, 256, 1e-3, 0.1)
        assert (config.seed, config.false_positive_rate) == (13711, 0.1)
        corrected = "corrected" in name
        assert (network.folds > 0, system.threshold) == (corrected, "references" if corrected else "batches")
    scores = [config.branches["main"].autoencoder.score for config in found.values()]
    assert scores == ["mse", "mahalanobis", "mse", "residual"]


def test_the_faithful_run_is_packaged_and_reported(faithful, recordings):
    assert [finding for finding in validate(faithful / ZIP, recordings) if finding.level == "error"] == []
    with zipfile.ZipFile(faithful / ZIP) as archive:
        meta = yaml.safe_load(archive.read(f"task2/{LABEL}/{LABEL}.meta.yaml"))
    described = meta["system"]["description"]
    assert described["machine_learning_method"] == "autoencoder, mean squared error"
    assert (described["embeddings"], described["data_augmentation"]) == (None, None)
    assert described["acoustic_features"] == "log-mel energies"
    assert "gamma distribution" in described["decision_making"]
    assert meta["system"]["external_datasets"] == [{"name": None, "url": None}]
    # 640 - 12 - 4 - 12 - 640: weights and biases, scale and shift of the normalised units.
    parameters = 640 * 12 + 12 + 12 * 4 + 4 + 4 * 12 + 12 + 12 * 640 + 640 + 2 * (12 + 4 + 12)
    assert meta["system"]["complexity"]["total_parameters"] == parameters
    assert not list((faithful / "pretrain").glob("*"))
    report = re.sub(r"<[^>]+>", " ", (faithful / "report.html").read_text())
    assert "Autoencoders of main: SimFan" in report
    assert "No network has two inputs" in report
    prose = (faithful / "package").glob("*technical_report.md")
    assert "low-rank" not in next(prose).read_text()


def test_the_faithful_threshold_is_the_official_one(faithful):
    """Decisions of the package against a gamma distribution fitted by hand, on the scores before calibration."""
    batches = read_json(faithful / "adapt" / "main" / "batches.json")
    raw = score_tables.read_rows(faithful / "scores" / "main.near_only.csv")
    for machine in ("SimFan", "SimPump"):
        threshold = scipy.stats.gamma.ppf(0.9, *scipy.stats.gamma.fit(batches[machine]["mse"]))
        scores = {row.file: row.score for row in raw if (row.machine, row.split) == (machine, "test")}
        decisions = (faithful / "systems" / LABEL / f"decision_result_{machine}_section_00_test.csv").read_text()
        found = dict(line.split(",") for line in decisions.split())
        assert found == {file: str(int(score > threshold)) for file, score in scores.items()}


def test_both_scores_come_from_one_training(faithful, tmp_path, capsys):
    exp = clone(faithful, tmp_path / "exp")
    before = (exp / "systems" / LABEL / "anomaly_score_SimFan_section_00_test.csv").read_bytes()
    assert run(exp, toy(tmp_path, "baseline_mahala"), last=6) == 0
    told = capsys.readouterr().out
    assert "stage 2 adapt: complete, nothing to do" in told
    assert "stage 3 embed: wrote" in told
    assert np.load(exp / "embeddings" / "main" / "near_only.npy").shape[1] == 2
    assert (exp / "systems" / LABEL / "anomaly_score_SimFan_section_00_test.csv").read_bytes() != before


def test_the_corrected_run_beside_an_encoder(data, tmp_path):
    """Cross-fitted residuals, and a system that adds an encoder branch to them."""
    exp = clone(data, tmp_path / "exp")
    encoder = {"crop_seconds": 1.0, "loop": {"steps": 2, "batch_size": 2, "warmup_steps": 1}}
    encoder |= {"encoder": {"family": "fisher", "size": "nano"}, "scorer": {"name": "knn"}}
    branches = {"main": {"autoencoder": SMALL | {"folds": 2}}, "other": encoder}
    systems = [
        {"name": "alone", "abbreviation": "alone", "view": "near_only", "weights": {"main": 1.0}},
        {"name": "both", "abbreviation": "both", "view": "two_channel", "weights": {"main": 0.5, "other": 0.5}},
    ]
    more = {"branches": branches, "systems": systems, "pretrain": {"loop": {"steps": 0}}}
    conf = toy(tmp_path, "baseline_mahala_corrected", **more)
    assert run(exp, conf, last=7) == 0
    assert [finding for finding in validate(exp / ZIP) if finding.level == "error"] == []
    with zipfile.ZipFile(exp / ZIP) as archive:
        texts = [archive.read(f"task2/{LABEL[:-1]}{k}/{LABEL[:-1]}{k}.meta.yaml") for k in (1, 2)]
    alone, both = (yaml.safe_load(text)["system"]["description"] for text in texts)
    assert alone["machine_learning_method"] == "autoencoder, Mahalanobis distance"
    assert "cross-fitted" in alone["decision_making"]
    assert alone["embeddings"] is None
    assert both["embeddings"] == "FISHER-nano with low-rank adapters"
    assert both["machine_learning_method"] == "autoencoder, Mahalanobis distance, k-nearest neighbours, ensemble"
    assert len(list((exp / "adapt" / "main").glob("SimFan*.safetensors"))) == 3


def test_killed_while_it_trains_it_goes_on_to_the_same_package(faithful, data, server, tmp_path):
    """As soon as one machine's network is there the run is killed; that network is not trained again."""
    exp, conf = clone(data, tmp_path / "exp"), toy(tmp_path, "baseline_mse")
    running = server.start(["run", "--exp", str(exp), "--conf", str(conf), "--stage", "1"])
    limit = time.monotonic() + 120
    while not (kept := sorted((exp / "adapt").rglob("*.safetensors"))) and time.monotonic() < limit:
        time.sleep(0.005)
    assert kept
    assert server.wait(running, seconds=0).status == -signal.SIGKILL
    assert not (exp / "stages" / "2_adapt.json").exists()
    before = kept[0].stat().st_mtime_ns
    assert run(exp, conf, last=7) == 0
    assert kept[0].stat().st_mtime_ns == before
    assert (exp / ZIP).read_bytes() == (faithful / ZIP).read_bytes()


@pytest.mark.parametrize(
    ("branch", "system", "expected"),
    [
        ({"scorer": {"name": "knn"}}, {}, "branches.main.scorer.name: expected precomputed for autoencoder.score mse"),
        ({"autoencoder": {"score": "max"}}, {}, "autoencoder.score: expected one of mse, mahalanobis, residual"),
        ({"autoencoder": {"folds": 1}}, {}, "autoencoder.folds: expected 0, or 2 and more, found 1"),
        ({"autoencoder": {"batch": 1}}, {}, "autoencoder.batch: expected at least 2, found 1"),
        ({"autoencoder": {"hidden": [0]}}, {}, "autoencoder.hidden.0: expected at least 1, found 0"),
        ({"autoencoder": {"epoch": 3}}, {}, "unknown key branches.main.autoencoder.epoch: did you mean epochs?"),
        ({}, {"threshold": "batch"}, "systems.0.threshold: expected one of references, batches, found 'batch'"),
        (
            {"autoencoder": {"score": "residual"}, "scorer": {"name": "mahalanobis"}},
            {"threshold": "batches"},
            "systems.0.threshold: batches: expected one autoencoder branch with the scorer precomputed",
        ),
    ],
)
def test_mistakes_in_the_configuration(branch, system, expected, tmp_path, capsys):
    conf = tmp_path / "wrong.yaml"
    systems = [{"view": "near_only", "weights": {"main": 1.0}} | system]
    conf.write_text(
        yaml.safe_dump({"base": str(CONF / "baseline_mse.yaml"), "branches": {"main": branch}, "systems": systems})
    )
    assert main(["pretrain", "--exp", str(tmp_path / "exp"), "--conf", str(conf)]) == 1
    assert expected in capsys.readouterr().err


def test_a_damaged_network_ends_in_one_line(faithful, tmp_path, capsys):
    exp, conf = clone(faithful, tmp_path / "exp"), toy(tmp_path, "baseline_mse")
    weights = exp / "adapt" / "main" / "SimFan.safetensors"
    content = bytearray(weights.read_bytes())
    content[-40:] = b"\xff" * 40
    weights.write_bytes(content)
    assert main(["embed", "--exp", str(exp), "--conf", str(conf)]) == 1
    told = capsys.readouterr().err
    assert "SimFan.safetensors: " in told.splitlines()[-1]
    assert "Traceback" not in told
    metrics = json.loads((exp / "metrics.json").read_text())
    assert set(metrics["per_machine"]) == {"SimFan", "SimGearbox", "SimValve"}
