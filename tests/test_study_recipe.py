"""The MIMII paper's study from recordings to table, at toy size, through run.sh and through the command."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from shell_scripts import run_script

from system import manifest
from system.bin import main
from system.config import load
from system.encoders import cards
from system.encoders.cnn import ResNeXt
from system.study import supervised
from system.study.data import read_split
from system.study.features import log_mel_front_end
from system.study.supervised import load_classifier
from system.study.unsupervised import autoencoder_scores

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "recipes" / "mimii_ast_cnn"
TOY = str(RECIPE / "conf" / "toy.yaml")
ROWS = ["Autoencoder", "CNN - supervised", "AST - supervised", "CNN - LOF", "AST - LOF", "FISHER - LOF"]


def record(path: Path, number: int, anomalous: bool, channels: int = 2, seconds: float = 0.5) -> None:
    generator = np.random.default_rng([number, anomalous])
    wave = 0.05 * generator.normal(size=(int(16000 * seconds), channels))
    wave += 0.3 * np.sin(2 * np.pi * (700 if anomalous else 400) * np.arange(len(wave)) / 16000)[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, 16000)


def table(folder: Path, normal: int = 14, anomalous: int = 6) -> Path:
    rows = []
    for machine in ("ccw", "cw"):
        for label, count in (("normal", normal), ("anomaly", anomalous)):
            for number in range(count):
                name = f"{machine}_{label}_{number}.wav"
                record(folder / name, number, label == "anomaly")
                rows.append([name, machine, label, "source", f"{machine}{label}{number // 2}"])
    path = folder / "table.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["file", "machine", "label", "domain", "group"], *rows])
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return table(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    exp = tmp_path_factory.mktemp("study")
    for seed in ("1", "2"):
        options = ["--conf", TOY, "--data", str(data), "--store", str(exp / "store"), "--set", f"seed={seed}"]
        assert main(["study", "--exp", str(exp / f"seed{seed}"), *options]) == 0
    return exp


def test_run_sh_does_the_same(finished, data, tmp_path):
    """Its stages find all done that the command did with the same settings, and make the table of all seeds."""
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    options = ["--conf", TOY, "--data", data, "--exp", finished, "--seeds", "1 2"]
    done = run_script(RECIPE / "run.sh", *options, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("complete, nothing to do") == done.stdout.count(": reads ") > 20
    assert {path.name for path, t in before.items() if path.stat().st_mtime_ns != t} <= {".lock"}
    assert "| AST - supervised | " in done.stdout
    with open(finished / "table.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["row"] for row in found][:6] == ROWS
    for row in found:
        aucs = [auc(finished / f"seed{seed}" / "results.json", row["row"]) for seed in (1, 2)]
        assert float(row["propellers"]) == pytest.approx(np.mean(aucs), abs=1e-4)
        assert float(row["propellers_std"]) == pytest.approx(np.std(aucs, ddof=1), abs=1e-4)


def auc(path: Path, name: str) -> float:
    results = json.loads(path.read_text())["scopes"]["propellers"]["results"]
    return next(row["auc"] for row in results if row["row"] == name)


def test_everything_a_reader_wants_is_there(finished):
    scope = finished / "seed1" / "propellers"
    rows = read_split(scope / "split.csv")
    for model in ("ast", "cnn", "fisher"):
        with np.load(scope / model / "embeddings.npz") as archive:
            arrays = dict(archive)
        assert arrays["names"].tolist() == [row.name for row in rows]
        assert arrays["labels"].tolist() == [row.label for row in rows]
        assert arrays["parts"].tolist() == [row.part for row in rows]
        trained = {"frozen", "finetuned"} if model != "fisher" else {"frozen"}
        assert arrays.keys() - {"names", "labels", "parts"} == trained
        if model == "fisher":
            assert not (scope / model / "classifier.safetensors").exists()
            continue
        classifier = load_classifier(scope / model / "classifier.safetensors")
        assert classifier.head[0].in_features == arrays["frozen"].shape[1] == arrays["finetuned"].shape[1]
        assert not np.array_equal(arrays["frozen"], arrays["finetuned"])
        assert not (scope / model / "state.pt").exists()
    results = json.loads((finished / "seed1" / "results.json").read_text())
    assert results["scopes"]["propellers"] == json.loads((scope / "results.json").read_text())
    assert (finished / "seed2" / "propellers" / "split.csv").read_text() != (scope / "split.csv").read_text()


def test_every_row_belongs_to_its_recording(finished):
    """Embeddings, logits and reconstruction errors again, from the sound files."""
    scope, clips = finished / "seed1" / "propellers", manifest.read(finished / "seed1" / "manifest.csv")
    of = {"/".join(clip.key): clip for clip in clips}
    rows = read_split(scope / "split.csv")
    classifier = load_classifier(scope / "cnn" / "classifier.safetensors")
    frozen = ResNeXt.build("nano", 1)
    with np.load(scope / "cnn" / "embeddings.npz") as archive:
        arrays = dict(archive)
    logits = column(scope / "cnn" / "supervised.csv", "supervised")
    for place in range(0, len(rows), 5):
        wave, rate = soundfile.read(of[rows[place].name].path, dtype="float32")
        mono = torch.from_numpy(wave.mean(1)[None])
        with torch.inference_mode():
            np.testing.assert_allclose(arrays["frozen"][place], frozen.embed(mono, rate)[0], rtol=1e-3, atol=1e-5)
            spectrogram = frozen.spectrogram(mono, rate)
            features = classifier.features(spectrogram)[0]
            np.testing.assert_allclose(arrays["finetuned"][place], features, rtol=1e-3, atol=1e-5)
            if rows[place].part != "train":
                assert logits[rows[place].name] == pytest.approx(classifier(spectrogram).item(), rel=1e-3, abs=1e-5)
    config = load(finished / "seed1" / "config.yaml").study.autoencoder
    spectrograms = [log_mel_front_end().function(of[row.name]) for row in rows]
    errors = autoencoder_scores(rows, spectrograms, config, 1)["autoencoder"]
    found = column(scope / "autoencoder" / "scores.csv", "autoencoder")
    names = [row.name for row in rows if row.part != "train"]
    np.testing.assert_allclose([found[name] for name in names], errors, rtol=1e-5)


def column(path: Path, name: str) -> dict[str, float]:
    with open(path, newline="") as file:
        return {row["name"]: float(row[name]) for row in csv.DictReader(file)}


def test_seeds_share_spectrograms_and_published_weights(finished):
    kinds = [path.name.rsplit("-", 1)[0] for path in (finished / "store").iterdir()]
    assert kinds.count("spectrograms-ast") == kinds.count("spectrograms-logmel") == kinds.count("frozen-fisher") == 1
    assert kinds.count("frozen-ast") == 2  # random weights of two seeds


def test_changed_settings_run_what_hangs_on_them(finished, data, tmp_path, capsys):
    exp = tmp_path / "exp"
    options = ["--exp", str(exp), "--conf", TOY, "--store", str(finished / "store"), "--data", str(data)]
    options += ["--set", "seed=1"]
    assert main(["study", *options, "--stop-stage", "4"]) == 0
    same = exp / "propellers" / "ast" / "lof.csv"
    assert same.read_bytes() == (finished / "seed1" / "propellers" / "ast" / "lof.csv").read_bytes()
    capsys.readouterr()
    assert main(["study", *options, "--stop-stage", "4", "--set", "study.lof.neighbours=2"]) == 0
    told = capsys.readouterr().out
    ran = [line.split(":")[0] for line in told.splitlines() if ": wrote" in line]
    assert ran == [f"stage 4 lof_propellers_{model}" for model in ("cnn", "ast", "fisher")]


def test_the_page_of_figures(finished):
    page = (finished / "seed1" / "study.html").read_text()
    for part in ("t-SNE", "Grad-CAM", "ttention distance", "AST - supervised"):
        assert part in page
    assert "http://" not in page.replace("http://www.w3.org", "")  # needs nothing else


def test_a_killed_fine_tuning_goes_on_and_ends_the_same(finished, tmp_path, monkeypatch):
    exp, scope = tmp_path / "exp", Path("propellers") / "cnn"
    shutil.copytree(finished / "seed1", exp, copy_function=shutil.copy2)
    (exp / "stages" / "5_supervised_propellers_cnn.json").unlink()
    options = ["--exp", str(exp), "--store", str(finished / "store"), "--stage", "5"]
    whole = supervised.fit

    def killed(*args, **options):
        def stop(step, figures):
            if step == 2:
                raise KeyboardInterrupt

        return whole(*args, **options | {"progress": stop})

    with monkeypatch.context() as patch:
        patch.setattr(supervised, "fit", killed)
        assert main(["study", *options]) == 130
    assert (exp / scope / "state.pt").is_file()
    assert not (exp / scope / "classifier.safetensors").exists()
    assert main(["study", *options]) == 0
    for name in ("classifier.safetensors", "supervised.csv"):
        assert (exp / scope / name).read_bytes() == (finished / "seed1" / scope / name).read_bytes()


def test_the_papers_configuration_is_the_papers():
    config = load(RECIPE / "conf" / "default.yaml")
    study = config.study
    assert list(study.scopes) == ["fan_00", "fan_all", "pump_all", "valve_all", "slide_all"]
    assert (study.test, study.validation, study.channel, study.grouped) == (0.25, 0.1, -1, False)
    for model in study.models.values():
        card = cards.CARDS[model.encoder.checkpoint]
        assert (card.family, card.size) == (model.encoder.family, model.encoder.size)
        assert (model.epochs, model.learning_rate, model.decay, model.balance) == (1, 1e-3, 10.0, "none")
    assert (study.autoencoder.hidden, study.autoencoder.epochs) == ([64, 64], 50)
    assert (study.lof.neighbours, study.lof.contaminations) == (4, [0.1, 0.2, 0.3, 0.4])


def test_mimii_as_unpacked_fits_the_papers_scopes(tmp_path):
    for machine in ("fan", "pump", "slider", "valve"):
        for section in ("00", "02"):
            for kind, count in (("normal", 10), ("abnormal", 4)):
                for number in range(count):
                    path = f"raw/6_dB_{machine}/{machine}/id_{section}/{kind}/{number:08d}.wav"
                    record(tmp_path / path, number, kind == "abnormal", channels=8, seconds=0.01)
    out = tmp_path / "data"
    assert main(["prepare", str(tmp_path / "raw"), "--corpus", "mimii", "--view", "own", "--out", str(out)]) == 0
    weights = "{encoder: {size: nano, checkpoint: ''}}"  # the published ones are not at hand
    (tmp_path / "conf.yaml").write_text(
        f"base: {RECIPE}/conf/default.yaml\nstudy: {{models: {{cnn: {weights}, ast: {weights}}}}}\n"
    )
    options = ["--conf", str(tmp_path / "conf.yaml"), "--data", str(out / "manifest.csv")]
    assert main(["study", "--exp", str(tmp_path / "exp"), *options, "--stop-stage", "0"]) == 0
    one, both = (read_split(tmp_path / "exp" / name / "split.csv") for name in ("fan_00", "fan_all"))
    assert (len(one), len(both)) == (14, 28)
    assert set(one) < set(both)  # what tests in one scope never trains in another


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("machines: [fan]", "study.scopes.propellers.machines: expected some of ccw, cw, found fan"),
        ("models: {ast: {balance: wieght}}", "study.models.ast.balance: expected one of none, weight"),
        ("lof: {contaminations: [0.7]}", "study.lof.contaminations.0: expected a number above 0, at most 0.5"),
        ("lfo: {}", "unknown key study.lfo: did you mean lof?"),
        ("models: {autoencoder: {}}", "study.models.autoencoder: expected another name"),
        ("channel: 2", "expected a channel 2, counted from 0, found 2 channels"),
        ("models: {fisher: {supervised: true}}", "study.models.fisher: expected a family that can be trained layer by"),
        ("models: {ast: {encoder: {size: base, checkpoint: ast-audioset-10-10-0.4593}}}", "expected data/checkpoints/"),
    ],
)
def test_mistakes_end_in_one_line(change, expected, finished, data, tmp_path, capsys):
    inner = f"scopes: {{propellers: {{{change}}}}}" if change.startswith("machines") else change
    (tmp_path / "conf.yaml").write_text(f"base: {TOY}\nseed: 1\nstudy: {{{inner}}}\n")
    options = ["--exp", str(tmp_path / "exp"), "--conf", str(tmp_path / "conf.yaml"), "--data", str(data)]
    store = [] if "channel" in change else ["--store", str(finished / "store")]
    assert main(["study", *options, *store]) == 1
    told = capsys.readouterr().err
    assert expected in told
    assert "Traceback" not in told


def test_recordings_that_cannot_be_studied(tmp_path, capsys):
    exp = ["--exp", str(tmp_path / "exp"), "--conf", TOY]
    data = table(tmp_path / "few", normal=5, anomalous=1)
    assert main(["study", *exp, "--data", str(data)]) == 1
    assert "scope propellers: expected at least 1 anomaly recordings for test, found 0 of 2" in capsys.readouterr().err
    assert not (tmp_path / "exp" / "propellers").exists()
    data = table(tmp_path / "normal", anomalous=0)
    assert main(["study", *exp, "--data", str(data)]) == 1
    assert "expected normal and anomalous recordings, found only normal ones" in capsys.readouterr().err
    data = table(tmp_path / "nan")
    wave = np.full((8000, 2), np.nan, np.float32)
    soundfile.write(data.parent / "cw_normal_3.wav", wave, 16000, subtype="FLOAT")
    assert main(["study", *exp, "--data", str(data)]) == 1
    assert "cw_normal_3.wav: expected finite samples, found 16000" in capsys.readouterr().err
    assert main(["study", "--exp", str(tmp_path / "other"), "--conf", TOY]) == 1
    assert "manifest.csv: expected a manifest or a table of recordings, found nothing" in capsys.readouterr().err
    assert main(["study", "--combine", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "results.json: expected a JSON file, found nothing" in capsys.readouterr().err
