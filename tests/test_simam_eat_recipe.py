"""recipes/dcase2024_simam_eat at toy size through run.sh: system, experiments, table; pictures; what settings reach.

Of the experiments the last one is run, whose variants share a folder; the others are loops of the same function.
"""

import functools
import importlib.util
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib import image
from shell_scripts import run_script

from submission.validate import validate
from system.bin import main
from system.config import Config, load
from system.encoders import cards
from system.files import read_json
from system.manifest import read
from system.pipeline.settings import open_experiment

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "recipes" / "dcase2024_simam_eat"
TOY = RECIPE / "conf" / "toy.yaml"
RESULTS = [*(f"normalisation.{name}" for name in ("normalised", "one_bank", "raw")), "system"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    exp = tmp_path_factory.mktemp("simam") / "exp"
    for part in (["--stop-stage", "0"], ["--stage", "4"]):
        options = ["--data", "synthetic", "--conf", TOY, "--exp", exp, *part]
        done = run_script(RECIPE / "run.sh", *options, folder=exp.parent)
        assert done.returncode == 0, done.stdout + done.stderr
    return exp


def stages(exp: Path, *names: str, sets: str = "") -> list[int]:
    options = ["--exp", str(exp), "--conf", str(TOY), *([f"--set={sets}"] if sets else [])]
    return [main([name, *options]) for name in names]


def test_the_paper_s_system():
    config = load(RECIPE / "conf" / "default.yaml")
    card = cards.CARDS[config.encoder.checkpoint]
    assert (card.family, card.size) == (config.encoder.family, config.encoder.size) == ("eat", "base")
    assert (config.encoder.filterbank, config.encoder.simam) == ("even", "auto")
    branch = config.branches["main"]
    assert (branch.tune, branch.pool) == ("full", "attentive")
    assert branch.augment.mixup > 0
    assert min(branch.augment.time_mask, branch.augment.frequency_mask) > 0
    assert branch.scorer.settings == {"k": 1, "bank": "domain", "standardize": True}
    assert config.evaluate.year == 2024


@functools.lru_cache
def without_variant(conf: str) -> Config:
    return load(RECIPE / "conf" / f"{conf}.yaml")


@pytest.mark.parametrize("conf", ["default", "toy"])
@pytest.mark.parametrize("variant", sorted((RECIPE / "conf" / "experiments").rglob("*.yaml")), ids=lambda p: p.stem)
def test_variants_load_on_top_of_the_configurations(tmp_path, conf, variant):
    text = f"base: {RECIPE / 'conf' / conf}.yaml\n{variant.read_text()}"
    (tmp_path / "c.yaml").write_text(text)
    assert load(tmp_path / "c.yaml") != without_variant(conf)


def test_everything_is_there(finished):
    place = finished / "seed0"
    assert sorted(path.stem for path in (place / "results").iterdir()) == RESULTS
    package = place / "system" / "Wheeltapper_Demo_task2.zip"
    assert [finding for finding in validate(package) if finding.level == "error"] == []
    rows = [line.split("|") for line in (finished / "table.md").read_text().splitlines()]
    labels = {".".join(cell.strip() for cell in row[1:3]).rstrip(".") for row in rows[2:]}
    assert {label for label in labels if "evaluation" not in label} == set(RESULTS)
    official = {row[1].strip() + row[2].strip(): float(row[3]) for row in rows[2:]}
    metrics = read_json(place / "results" / "normalisation.raw.json")
    assert official["normalisationraw"] == pytest.approx(100 * metrics["official_score"], abs=0.006)


def script(name: str):
    """A script of the recipe as a module."""
    spec = importlib.util.spec_from_file_location(name, RECIPE / "local" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pictures(finished, tmp_path):
    pictures = script("simam_pictures")
    run = open_experiment(finished / "seed0" / "system", None, [])
    clips = pictures.choose_clips(read(run.manifest))
    assert [(label, clip.machine) for label, clip in clips if clip.machine in ("SimFan", "SimPump")] == [
        ("normal", "SimFan"), ("anomaly", "SimFan"), ("normal", "SimPump")
    ]  # fmt: skip
    shown = dict(zip(pictures.COLUMNS, pictures.panels(pictures.plain_encoder(run), clips[0][1]), strict=True))
    for kind in ("global", "local"):
        product = shown["spectrogram"] * shown[f"weights, {kind}"]
        np.testing.assert_allclose(shown[f"enhanced, {kind}"], product, rtol=1e-5)
    pictures.draw(pictures.plain_encoder(run), clips[:3], {}, tmp_path / "simam.png")
    height, width, _ = image.imread(tmp_path / "simam.png").shape
    assert width > height > 300


def test_each_variant_is_what_it_is_called(finished):
    place = finished / "seed0"
    card = read_json(place / "system/adapt/main/card.json")
    machines = {clip.machine for clip in read(place / "system" / "manifest.csv")}
    assert set(card["simam_choices"]) == machines
    assert (card["simam"], card["filterbank"], card["tune"]) == ("auto", "even", "full")
    # All of EAT's weights but the position table, and what pools, gates and projects 128 numbers a token.
    pretrained = shapes(place / "system/pretrain/encoder.safetensors")
    encoder = sum(int(np.prod(shape)) for name, shape in pretrained.items() if not name.endswith("positions"))
    rest = (128 * 128 + 128 + 128 + 1) + (2 * 128 + 1) + (2 * 128 + 1) * 256
    assert card["trainable_parameters"] == card["total_parameters"] == encoder + rest
    source = read_json(place / "normalisation/source_only/stages/2_adapt.json")["settings"]["branches"]["main"]
    assert source["learn_from"] == "source"


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    import safetensors

    with safetensors.safe_open(str(path), "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not a dict)


def test_scorers_share_what_was_learned(finished):
    """Three normalisations of one adaptation: other scores, the same embedding."""
    normalised, raw, one_bank = (
        next(iter(read_json(finished / f"seed0/results/normalisation.{name}.json")["systems"].values()))[
            "harmonic_mean"
        ]
        for name in ("normalised", "raw", "one_bank")
    )
    assert normalised != raw
    assert raw == pytest.approx(one_bank)  # the nearest of all references, however they are shared out
    folder = finished / "seed0/normalisation/source_only"
    made = [(folder / "stages" / name).stat().st_mtime_ns for name in ("3_embed.json", "4_score.json")]
    assert made[0] < made[1]


def test_the_package_says_how_machines_were_heard(finished, tmp_path):
    exp = tmp_path / "exp"
    shutil.copytree(finished / "seed0" / "system", exp, copy_function=shutil.copy2)
    text, meta = described(exp)
    choices = read_json(exp / "adapt/main/card.json")["simam_choices"]
    for machine, choice in choices.items():
        found = meta["front_end"].split(f"{choice['kind']}: ")[1].split(";")[0]
        assert machine in found
    assert "chosen from normal training clips" in meta["front_end"]
    assert meta["embeddings"] == "EAT-nano fine-tuned as a whole"
    assert "the encoder's own weights, at 1 of the learning rate" in text
    assert "one and the same configuration" in text
    assert "same settings for all machines" not in (exp / "package" / "README.md").read_text()

    kind = "global" if choices["SimFan"]["kind"] == "local" else "local"
    sets = f"encoder.simam=global encoder.simam_machines.SimFan={kind}"
    before = np.load(exp / "embeddings/main/near_only.npy")
    names = ("pretrain", "adapt", "embed", "score", "fuse", "evaluate", "package")
    assert stages(exp, *names, sets=sets) == [0] * len(names)
    assert not np.array_equal(np.load(exp / "embeddings/main/near_only.npy"), before)
    text, meta = described(exp)
    assert "chosen by hand" in meta["front_end"]
    assert "one and the same configuration" not in text
    warning = "expected the same settings for all machines, found different encoder.simam_machines"
    assert warning in (exp / "package" / "README.md").read_text()


def described(exp: Path) -> tuple[str, dict]:
    """Technical report as Markdown and the first system's description."""
    text = next((exp / "package").glob("*report.md")).read_text()
    with zipfile.ZipFile(exp / "Wheeltapper_Demo_task2.zip") as archive:
        name = next(name for name in archive.namelist() if name.endswith("_1.meta.yaml"))
        return text, yaml.safe_load(archive.read(name))["system"]["description"]


def test_test_clips_do_not_change_the_choice(finished, tmp_path, capsys):
    exp = tmp_path / "exp"
    shutil.copytree(finished / "seed0" / "system", exp, copy_function=shutil.copy2)
    card = (exp / "adapt/main/card.json").read_bytes()
    lines = (exp / "manifest.csv").read_text().splitlines(keepends=True)
    (exp / "manifest.csv").write_text("".join(line for line in lines if ",test," not in line or ",SimFan," not in line))
    (exp / "stages/2_adapt.json").unlink()
    assert stages(exp, "adapt") == [0]
    assert (exp / "adapt/main/card.json").read_bytes() == card


def test_mistakes(finished, tmp_path, capsys):
    exp = tmp_path / "exp"
    shutil.copytree(finished / "seed0" / "system", exp, copy_function=shutil.copy2)
    assert stages(exp, "adapt", sets="encoder.simam_machines.SimFam=local") == [1]
    told = capsys.readouterr().err
    assert "expected machines among SimFan, SimGearbox" in told
    assert "found SimFam" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(("name", "arguments"), [("results_table", ["EXP", "0"]), ("simam_pictures", ["EXP", "x.png"])])
def test_mistakes_of_the_scripts(name, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, *(str(tmp_path / "no") if text == "EXP" else text for text in arguments)])
    with pytest.raises(SystemExit) as stopped:
        script(name).main()
    assert stopped.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith(f"{name}: ")
    assert told.count("\n") == 1
