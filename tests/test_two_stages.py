"""The 2026 recipe's two stages at toy size: development, choice, final run, rules."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from shell_scripts import run_script

from submission.validate import validate
from system import manifest
from system.bin import main
from system.config import load
from system.embeddings import files
from system.files import file_hash, read_json, write_json

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "recipes" / "dcase2026"
TOY = RECIPE / "conf" / "beats_audiomae_toy.yaml"
LABEL = "Wheeltapper_Demo_task2_1"
ZIP = "Wheeltapper_Demo_task2.zip"
NAME = "beats_audiomae_toy"


def final_options(exp: Path, *overrides: str) -> list[str]:
    """What run.sh gives to the final run."""
    wanted = ["data.machines=evaluation", f"data.frozen={exp / 'frozen.yaml'}", *overrides]
    options = ["--exp", str(exp / "final"), "--conf", str(exp / "frozen.yaml"), "--data", str(exp / "recordings")]
    return [*options, *(f"--set={text}" for text in wanted)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The commands of recipes/dcase2026/run.sh in this process, which saves their start-up; a copy, to be kept."""
    exp = tmp_path_factory.mktemp("two_stages") / "exp"
    development = exp / "development" / NAME
    assert main(["synthesize", str(exp / "recordings"), "--size", "tiny"]) == 0
    options = ["--exp", str(development), "--conf", str(TOY), "--data", str(exp / "recordings")]
    assert main(["run", *options, "--set=data.machines=development", "--stop-stage", "6"]) == 0
    assert main(["select", str(development), "--out", str(exp / "frozen.yaml")]) == 0
    assert main(["run", *final_options(exp), "--stop-stage", "7"]) == 0
    return Path(shutil.copytree(exp, exp.with_name("kept"), copy_function=shutil.copy2))


@pytest.fixture
def clone(finished) -> Path:
    """The run as it was, in its own place: records hold whole paths."""
    exp = finished.with_name("exp")
    shutil.rmtree(exp, ignore_errors=True)
    shutil.copytree(finished, exp, copy_function=shutil.copy2)
    return exp


def test_each_stage_sees_the_machines_of_its_phase(finished):
    development = manifest.read(finished / "development" / NAME / "manifest.csv")
    final = manifest.read(finished / "final" / "manifest.csv")
    assert manifest.machines(development) == ["SimFan", "SimGearbox", "SimValve"]
    assert manifest.machines(final) == ["SimPump", "SimSlider"]
    assert all(clip.label for clip in development)
    assert not any(clip.label or clip.domain for clip in final if clip.split == "test")


def test_the_package_is_of_the_final_run_with_the_development_results(finished):
    final = finished / "final"
    assert [found for found in validate(final / ZIP) if found.level == "error"] == []
    metrics = read_json(finished / "development" / NAME / "metrics.json")
    with zipfile.ZipFile(final / ZIP) as archive:
        tables = {Path(name).name for name in archive.namelist() if name.endswith(".csv")}
        for k in range(1, 5):
            label = f"Wheeltapper_Demo_task2_{k}"
            document = yaml.safe_load(archive.read(f"task2/{label}/{label}.meta.yaml"))
            results = document["results"]["development_dataset"]
            assert set(results) == {"SimFan", "SimGearbox", "SimValve"}
            for machine, values in metrics["systems"][label]["per_machine"].items():
                assert results[machine]["auc_source"] == pytest.approx(100 * values["AUC (source)"], abs=1e-3)
                assert results[machine]["pauc"] == pytest.approx(100 * values["pAUC"], abs=1e-3)
    machines = ("SimPump", "SimSlider")
    kinds = ("anomaly_score", "decision_result")
    assert tables == {f"{kind}_{machine}_section_00_test.csv" for kind in kinds for machine in machines}


def test_the_compliance_of_the_final_run_stands_beside_its_package(finished):
    result = read_json(finished / "final" / "compliance.json")
    assert result["passed"] is True
    assert {rule["name"]: rule["violations"] for rule in result["rules"] if rule["violations"]} == {}
    frozen = next(rule for rule in result["rules"] if rule["name"] == "frozen")
    assert frozen["checked"].endswith("frozen.yaml")
    readme = (finished / "final" / "package" / "README.md").read_text()
    assert f"Rules checked by the program: {len(result['rules'])}, none of them broken." in readme


def test_the_configuration_is_the_reports(finished):
    """Wang and Liu 2026, sections 3 and 4."""
    config = load(RECIPE / "conf" / "beats_audiomae.yaml")
    main_branch, aux = config.branches["main"], config.branches["aux"]
    assert (config.encoder.family, config.encoder.checkpoint) == ("beats", "beats-iter3")
    assert main_branch.encoder is None
    assert (aux.encoder.family, aux.encoder.checkpoint) == ("audiomae", "audiomae-as2m")
    assert (main_branch.scorer.name, main_branch.scorer.settings) == (
        "mahalanobis",
        {"bank": "domain", "standardize": False},
    )
    assert (aux.scorer.name, aux.scorer.settings) == ("knn", {"k": 3, "bank": "global", "standardize": False})
    for branch in (main_branch, aux):
        assert (branch.lora.rank, branch.lora.alpha, branch.lora.dropout) == (8, 16, 0.1)
        assert (branch.gate_bias, branch.embedding_dim) == (1.0, 256)
        assert branch.heads.attribute_weight == branch.heads.domain_weight == 1.0
        assert min(branch.augment.channel_swap, branch.augment.channel_drop, branch.augment.gain_db) > 0
    found = [(system.view, dict(system.weights)) for system in config.systems]
    near = "near_only"
    assert found[0] == (near, {"main": 0.85, "aux": 0.15})
    assert found[1] == ("two_channel", {"main": 0.85, "aux": 0.15})
    assert (found[2][0], found[2][1]["main"] > 0.85) == (near, True)
    assert found[3] == (near, {"main": 1.0})
    assert config.pretrain.loop.steps == 0


def test_variants_differ_in_what_they_say(finished):
    from system.selection import differences

    report = load(RECIPE / "conf" / "beats_audiomae.yaml")
    own = {key for key, _, _ in differences(report, load(RECIPE / "conf" / "beats_audiomae_standardized.yaml"))}
    assert own == {
        "branches.main.pool",
        "branches.aux.pool",
        "branches.main.scorer.settings.standardize",
    }
    small = {key for key, _, _ in differences(report, load(RECIPE / "conf" / "beats_audiomae_small.yaml"))}
    assert all("scorer" not in key and "systems" not in key and "lora" not in key for key in small)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seed=9", "seed: expected 0 as frozen in"),
        ("branches.aux.scorer.settings.k=5", "branches.aux.scorer.settings.k: expected 3 as frozen in"),
        ("systems=[]", "systems"),
    ],
)
def test_a_changed_final_run_is_refused_before_anything_is_computed(clone, capsys, override, told):
    before = {path: path.stat().st_mtime_ns for path in (clone / "final").rglob("*") if path.is_file()}
    assert main(["run", *final_options(clone, override)]) == 1
    assert told in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (clone / "final").rglob("*") if path.is_file()} == before


def test_evaluation_machines_need_a_frozen_configuration(tmp_path, capsys):
    options = ["--exp", str(tmp_path / "x"), "--conf", str(TOY), "--set=data.machines=evaluation"]
    assert main(["prepare", *options]) == 1
    assert "data.frozen: expected the configuration that wheeltapper select froze" in capsys.readouterr().err
    assert not (tmp_path / "x" / "manifest.csv").exists()


def test_runs_that_cannot_be_selected(clone, capsys):
    exp = clone / "development" / NAME
    out = ["--out", str(clone / "other.yaml")]
    assert main(["select", str(exp), *out, "--system", "9"]) == 1
    assert "expected a system 9, found 4 systems" in capsys.readouterr().err
    # A metrics.json that says more than its scores do, and a record that covers for it.
    text = (exp / "metrics.json").read_text()
    score = read_json(exp / "metrics.json")["systems"][LABEL]["official_score"]
    (exp / "metrics.json").write_text(text.replace(str(score), f"0.9{str(score)[3:]}"))
    assert main(["select", str(exp), *out]) == 1
    assert "found stage 6 evaluate incomplete" in capsys.readouterr().err
    marker = exp / "stages" / "6_evaluate.json"
    record = read_json(marker)
    write_json(marker, record | {"sha256": {"metrics.json": file_hash(exp / "metrics.json")}})
    assert main(["select", str(exp), *out]) == 1
    assert "as recomputed" in capsys.readouterr().err
    write_json(marker, record)
    (exp / "metrics.json").write_text(text)
    (exp / "stages" / "5_fuse.json").unlink()
    assert main(["select", str(exp), *out]) == 1
    assert "found stage 5 fuse incomplete with its configuration" in capsys.readouterr().err
    # All machines at once, as the recipe without stages has them.
    assert main(["prepare", "--exp", str(exp), "--set=data.machines=all", "--data", str(clone / "recordings")]) == 0
    capsys.readouterr()
    assert main(["select", str(exp), *out]) == 1
    assert "expected development machines only (data.machines: development), found SimPump, SimSlider" in (
        capsys.readouterr().err
    )
    assert not (clone / "other.yaml").exists()


def test_what_was_changed_after_the_run_is_found(clone, capsys):
    final = clone / "final"
    assert main(["comply", str(final), "--recompute", "2"]) == 0
    assert "2 test clips embedded again, largest difference 0 " in capsys.readouterr().out
    path = final / "systems" / LABEL / "anomaly_score_SimPump_section_00_test.csv"
    lines = path.read_text().splitlines()
    lines[0], lines[1] = (f"{a.split(',')[0]},{b.split(',')[1]}" for a, b in (lines[:2], lines[1::-1]))
    path.write_text("\n".join(lines) + "\n")
    assert main(["comply", str(final)]) == 1
    told = capsys.readouterr()
    assert f"{path}: expected the content that 5_fuse.json records" in told.out
    assert f"{LABEL}: SimPump/section_00_0000.wav: expected the score" in told.out
    assert "expected the content of" in told.out  # the zip still holds the honest one
    assert "violations" in told.err
    assert main(["package", "--exp", str(final)]) == 1
    assert not (final / ZIP).exists()


def test_weights_that_are_not_declared_and_embeddings_of_other_clips(clone, capsys):
    final = clone / "final"
    # The auxiliary branch claims weights of its own; two clips' embeddings change places.
    weights = clone / "weights.safetensors"
    shutil.copy(final / "pretrain" / "encoder.safetensors", weights)
    text = (final / "config.yaml").read_text()
    assert text.count("checkpoint: ''") == 3
    (final / "config.yaml").write_text(text.replace("checkpoint: ''", f"checkpoint: {weights}", 1))
    (clone / "frozen.json").unlink()
    assert main(["comply", str(final)]) == 1
    assert "frozen.json" in capsys.readouterr().err
    conf = load(final / "config.yaml", ["data.machines=all", "data.frozen=''"])
    (final / "config.yaml").write_text(yaml.safe_dump(yaml.safe_load(dump(conf)), sort_keys=False))
    path, index = final / "embeddings" / "main" / "near_only.npy", final / "embeddings" / "main" / "index.csv"
    rows = files.read_rows(index, path)
    tests = [number for number, key in enumerate(rows) if key[2] == "test"]
    values = np.load(path)
    values[tests] = np.roll(values[tests], 1, axis=0)
    files.write_array(path, values)
    assert main(["comply", str(final), "--recompute", "2"]) == 1
    told = capsys.readouterr().out
    assert "expected BEATs, which the system uses, found it neither here nor in external_data_usage" in told
    assert "branch main, near_only: expected the stored embedding, found one that differs" in told


def dump(config) -> str:
    from dataclasses import asdict

    return yaml.safe_dump(asdict(config), sort_keys=False)


def test_killed_while_the_package_is_written(clone, monkeypatch):
    """No zip is left that could be taken for a checked one; started again, it is the same."""
    from submission import package as packaging

    final = clone / "final"
    package = (final / ZIP).read_bytes()
    (final / "stages" / "7_package.json").unlink()

    def killed(tree, path):
        path.write_bytes(package[:100])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packaging, "_write_zip", killed)
        assert main(["package", "--exp", str(final)]) == 130
    assert list(final.glob("*.zip")) == []
    assert main(["package", "--exp", str(final)]) == 0
    assert (final / ZIP).read_bytes() == package


def test_run_sh_goes_on_where_it_was_killed(clone, tmp_path):
    """Killed between the frozen configuration and its record, and while the final run packaged."""
    final = clone / "final"
    package = (final / ZIP).read_bytes()
    (clone / "frozen.json").unlink()
    (final / "stages" / "7_package.json").unlink()
    (final / ZIP).unlink()
    shutil.rmtree(final / "package")
    options = ["--data", "synthetic", "--size", "tiny", "--recompute", 0]
    done = run_script(RECIPE / "run.sh", "--exp", clone, "--candidates", TOY, *options, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("complete, nothing to do") == 7 + 7
    assert (final / ZIP).read_bytes() == package
    assert "none of them broken" in done.stdout
    tables = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert any(line.endswith(f"| {NAME} task2_3 | {NAME} task2_4 |") for line in tables)
    first = read_json(clone / "frozen.json")["results"][0]["SimFan"]["auc_source"]
    assert any(line.startswith(f"| SimFan | AUC(source) | {first:.2f} |") for line in tables)
    assert any(line.startswith("| SimPump | AUC(source) |") for line in tables)
