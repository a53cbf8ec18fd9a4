"""The choice among development runs, and what a final run may differ in from the frozen configuration."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from system import selection
from system.config import load, save
from system.errors import WheeltapperError
from system.files import read_json
from system.manifest import Clip
from system.pipeline.settings import open_experiment
from system.selection import Candidate, choose, differences, freeze

CONF = {
    "branches": {"main": {"scorer": {"name": "mahalanobis", "settings": {"bank": "domain"}}}},
    "systems": [
        {"name": "first", "view": "two_channel", "weights": {"main": 1.0}},
        {"name": "second", "view": "near_only", "weights": {"main": 1.0}},
    ],
}


@pytest.fixture
def conf(tmp_path) -> Path:
    path = tmp_path / "conf.yaml"
    path.write_text(yaml.safe_dump(CONF))
    return path


def clip(machine: str, number: int, split: str = "test", label: str = "normal", digest: str = "") -> Clip:
    file = f"section_00_{number:04d}.wav"
    return Clip("c", machine, "00", split, file, f"/d/{machine}/{split}/{file}", label, digest=digest or f"{number}")


CLIPS = [clip("Fan", 0, "train"), clip("Fan", 1), clip("Fan", 2, label="anomaly")]


def candidate(conf: Path, name: str, scores: tuple[float, ...] = (0.6, 0.7), clips=None, **metrics) -> Candidate:
    machine = {"AUC (source)": 0.5, "AUC (target)": 0.75, "pAUC": 0.51}
    systems = {
        f"Team_X_task2_{number}": {
            "official_score": score,
            "ci95": [score - 0.05, score + 0.05],
            "per_machine": {"Fan": machine},
        }
        for number, score in enumerate(scores, 1)
    }
    return Candidate(Path(name), load(conf), clips or CLIPS, {"year": 2026, "systems": systems} | metrics, ["abc"])


def test_the_named_system_counts(conf):
    runs = [candidate(conf, "a", (0.60, 0.70)), candidate(conf, "b", (0.62, 0.61)), candidate(conf, "c", (0.5, 0.5))]
    assert choose(runs).folder == Path("b")
    assert choose(runs, 2).folder == Path("a")
    # Of equal ones the first, whatever else they reach.
    assert choose([candidate(conf, "a", (0.6, 0.1)), candidate(conf, "b", (0.6, 0.9))]).folder == Path("a")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"clips": [*CLIPS[:2], clip("Fan", 2, label="anomaly", digest="other")]}, "b: expected the recordings of a"),
        ({"clips": [*CLIPS, clip("Fan", 3)]}, "b: expected the recordings of a"),
        ({"clips": [*CLIPS, clip("Pump", 4, label="")]}, "development machines only .*, found Pump"),
        ({"clips": [*CLIPS, clip("Pump", 4, "train")]}, "development machines only .*, found Pump"),
        ({"year": 2021}, "b: expected metrics of 2026, found those of 2021"),
    ],
)
def test_what_cannot_be_compared_is_refused(conf, change, expected):
    with pytest.raises(WheeltapperError, match=expected):
        choose([candidate(conf, "a"), candidate(conf, "b", **change)])


def test_a_system_that_is_not_there(conf):
    with pytest.raises(WheeltapperError, match="a: expected a system 3, found 2 systems"):
        choose([candidate(conf, "a")], 3)


def frozen(tmp_path: Path, conf: Path) -> Path:
    runs = [candidate(conf, "a"), candidate(conf, "b", (0.9, 0.7))]
    freeze(tmp_path / "frozen.yaml", runs, choose(runs), 1)
    return tmp_path / "frozen.yaml"


def test_the_record_says_how_the_choice_was_made(conf, tmp_path):
    path = frozen(tmp_path, conf)
    assert load(path) == load(conf)
    record = read_json(tmp_path / "frozen.json")
    assert record["selected"] == "b"
    assert [each["official_score"] for each in record["candidates"]] == [0.6, 0.9]
    assert record["candidates"][1]["ci95"] == pytest.approx([0.85, 0.95])
    assert record["candidates"][0]["commits"] == ["abc"]
    assert record["machines"] == {"Fan": 2}
    assert record["results"][1] == {"Fan": {"auc_source": 50.0, "auc_target": 75.0, "pauc": 51.0}}
    assert selection.read_record(path) == record
    assert record["config_hash"] == selection.config_hash(load(conf))


def test_a_frozen_configuration_that_was_touched_is_refused(conf, tmp_path):
    path = frozen(tmp_path, conf)
    path.write_text(path.read_text().replace("seed: 0", "seed: 1", 1))
    with pytest.raises(WheeltapperError, match=r"expected the configuration that .*frozen\.json records"):
        selection.read_record(path)


def test_a_choice_that_was_cut_off_is_refused_and_made_again(conf, tmp_path, monkeypatch):
    """The configuration of a second choice is written, its record is not."""
    path = frozen(tmp_path, conf)
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(CONF | {"seed": 5}))
    runs = [candidate(other, "c")]

    def killed(path, value):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(selection, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            freeze(path, runs, runs[0], 1)
    with pytest.raises(WheeltapperError, match="or the choice was cut off"):
        selection.read_record(path)
    freeze(path, runs, runs[0], 1)
    assert (selection.read_record(path)["selected"], load(path).seed) == ("c", 5)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory) -> Path:
    """A frozen configuration that no test changes."""
    folder = tmp_path_factory.mktemp("frozen")
    (folder / "conf.yaml").write_text(yaml.safe_dump(CONF))
    return frozen(folder, folder / "conf.yaml")


def final(path: Path, *overrides: str):
    return load(path, ["data.machines=evaluation", f"data.frozen={path}", *overrides])


@pytest.mark.parametrize(
    "override",
    [
        "data.folder=/elsewhere",
        "data.corpus=x",
        "device=cuda",
        "threads=3",
        "embed.batch_size=8",
        "branches.main.loop.workers=3",
        "branches.main.loop.save_every=7",
        "pretrain.loop.accumulate=2",
        "package.surname=Other",
        "evaluate.bootstrap=5",
        "benchmark.runs=2",
    ],
)
def test_what_changes_no_score_may_differ(fixed, override):
    config = final(fixed, override)
    selection.check_frozen(config, "run")
    assert selection.config_hash(config) == selection.config_hash(load(fixed))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seed=1", "seed: expected 0 as frozen in .*frozen.yaml, found 1"),
        ("branches.main.loop.steps=5", "branches.main.loop.steps: expected 300 .*, found 5"),
        ("branches.main.loop.precision=bf16", "branches.main.loop.precision: expected auto .*, found bf16"),
        ("embed.precision=bf16", "embed.precision: expected auto .*, found bf16"),
        ("branches.main.scorer.settings.bank=global", "settings.bank: expected domain .*, found global"),
        ("branches.main.scorer.settings.standardize=true", "standardize: expected nothing .*, found True"),
        ("branches.more.pool=mean", "branches.more.pool: expected nothing .*, found mean"),
        ("data.rate=8000", "data.rate: expected 16000 .*, found 8000"),
        ("encoder.checkpoint=default", "encoder.checkpoint: expected  as frozen .*, found default"),
        ("false_positive_rate=0.2", "false_positive_rate: expected 0.1 .*, found 0.2"),
    ],
)
def test_what_changes_a_score_may_not(fixed, override, told):
    config = final(fixed, override)
    with pytest.raises(WheeltapperError, match=told):
        selection.check_frozen(config, "run")
    assert selection.config_hash(config) != selection.config_hash(load(fixed))


def test_a_changed_run_is_refused_before_it_saves_anything(conf, tmp_path):
    path, exp = frozen(tmp_path, conf), tmp_path / "final"
    options = ["data.machines=evaluation", f"data.frozen={path}"]
    with pytest.raises(WheeltapperError, match="seed: expected 0"):
        open_experiment(exp, path, [*options, "seed=3"])
    assert not exp.exists()
    with pytest.raises(WheeltapperError, match=r"data\.frozen: expected the configuration that wheeltapper select"):
        open_experiment(exp, path, options[:1])
    assert open_experiment(exp, path, options).config.data.machines == "evaluation"


def test_weights_are_known_by_content(tmp_path):
    """A file of the same content may lie elsewhere; another content under the same name is noticed."""
    first, second = tmp_path / "a.safetensors", tmp_path / "moved" / "b.safetensors"
    second.parent.mkdir()
    for path in (first, second):
        path.write_bytes(b"weights")
    conf = tmp_path / "conf.yaml"
    conf.write_text(yaml.safe_dump(CONF | {"encoder": {"checkpoint": str(first)}}))
    path = frozen(tmp_path, conf)
    assert list(read_json(tmp_path / "frozen.json")["weights"]) == ["encoder.checkpoint"]
    selection.check_frozen(final(path, f"encoder.checkpoint={second}"), "run")
    first.write_bytes(b"others!")
    with pytest.raises(WheeltapperError, match=r"encoder\.checkpoint: expected weights of SHA-256"):
        selection.check_frozen(final(path), "run")
    with pytest.raises(WheeltapperError, match=r"encoder\.checkpoint: expected .*a\.safetensors as frozen"):
        selection.check_frozen(final(path, "encoder.checkpoint=''"), "run")


def test_differences_name_items_of_lists(conf):
    first = load(conf)
    second = replace(first, systems=first.systems[:1])
    keys = [key for key, _, _ in differences(first, second)]
    assert keys == ["systems.2.view", "systems.2.weights.main", "systems.2.threshold", "systems.2.fusion"]


def test_saving_twice_leaves_an_equal_file(conf, tmp_path):
    path = frozen(tmp_path, conf)
    before = path.stat().st_mtime_ns
    save(path, load(conf))
    assert path.stat().st_mtime_ns == before
