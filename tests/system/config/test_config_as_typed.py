"""Settings as people type them: overrides, words and numbers, files by name, all mistakes at once."""

import os
import re
from pathlib import Path

import pytest

from system.config import finding, overrides
from system.errors import WheeltapperError
from system.pipeline.settings import load_configuration as load

ROOT = Path(__file__).resolve().parents[3]
DEFAULT = ROOT / "recipes/dcase2026/conf/default.yaml"
SMALL = "branches: {main: {pool: mean}}\nsystems: [{weights: {main: 1.0}}]\n"


def value(config, key: str):
    for step in key.split("."):
        if isinstance(config, list):
            config = config[int(step)]
        else:
            config = (config if isinstance(config, dict) else vars(config))[step]
    return config


def refused(path, *given: str) -> WheeltapperError:
    with pytest.raises(WheeltapperError) as caught:
        load(path, given)
    return caught.value


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["seed=3"], ["seed=3"]),
        (["seed=3 data.rate=8000", "threads=1"], ["seed=3", "data.rate=8000", "threads=1"]),
        (["  seed=3\n\tdata.rate=8000 "], ["seed=3", "data.rate=8000"]),
        (["package.title=My own title"], ["package.title=My own title"]),
        (["package.title=My own title seed=3"], ["package.title=My own title", "seed=3"]),
        (['package.title="A b=c" seed=3'], ['package.title="A b=c"', "seed=3"]),
        (["package.title='It''s a=b' seed=3"], ["package.title='It''s a=b'", "seed=3"]),
        ([r'package.title="a \" b=c"'], [r'package.title="a \" b=c"']),
        (
            ["package.title=don't stop seed=3 package.abstract=can't"],
            ["package.title=don't stop", "seed=3", "package.abstract=can't"],
        ),
        (["tune.views=[two_channel, near_only] seed=3"], ["tune.views=[two_channel, near_only]", "seed=3"]),
        (["encoder.checkpoint='' pretrain.loop.steps=300"], ["encoder.checkpoint=''", "pretrain.loop.steps=300"]),
        (["systems[0].view=two_channel seed=3"], ["systems[0].view=two_channel", "seed=3"]),
        (["package.abstract=x = y, 3 = 3"], ["package.abstract=x = y, 3 = 3"]),
        (["", "  "], []),
    ],
)
def test_one_text_holds_one_setting_or_several(given, expected):
    assert overrides.split(given) == expected
    assert overrides.split(expected) == expected


@pytest.mark.parametrize(
    ("given", "key", "expected"),
    [
        ("systems.2.weights.main=0.7", "systems.2.weights", {"main": 0.7, "aux": 0.15}),
        ("systems.3.weights.aux=0.3", "systems.3.weights", {"main": 1.0, "aux": 0.3}),
        ("systems[1].view=near_only", "systems.1.view", "near_only"),
        ("package.external_datasets.0.name=Li", "package.external_datasets.0.name", "Li"),
        ("branches.main.inputs.0=residual", "branches.main.inputs", ["residual", "far"]),
        ("study.autoencoder.hidden.1=32", "study.autoencoder.hidden", [64, 32]),
        ("pretrain.loop.betas.1=0.99", "pretrain.loop.betas", [0.9, 0.99]),
        ("branches.third.pool=mean", "branches.third.pool", "mean"),
        ("branches.main.encoder.size=tiny", "branches.main.encoder.size", "tiny"),
        ("encoder.simam_machines.ToyCar=local", "encoder.simam_machines", {"ToyCar": "local"}),
        ("tune.scorers.knn.k=[1, 3]", "tune.scorers", {"knn": {"k": [1, 3]}}),
        ("tune.scorers={knn: {k: [1, 3]}}", "tune.scorers", {"knn": {"k": [1, 3]}}),
        ("branches.aux.scorer.settings.smote=1e-1", "branches.aux.scorer.settings.smote", 0.1),
        ("branches.main.loop.learning_rate=1e-3", "branches.main.loop.learning_rate", 0.001),
        ("pretrain.loop.warmup_steps=1e2", "pretrain.loop.warmup_steps", 100),
        ("seed = 3", "seed", 3),
        ("pretrain.loop.precision=no", "pretrain.loop.precision", "no"),
        ("branches.main.heads.trainable_centres=no", "branches.main.heads.trainable_centres", False),
        ("package.title=Note: this, [not] {that} # 1", "package.title", "Note: this, [not] {that} # 1"),
        ("package.title='Note: this'", "package.title", "Note: this"),
        ('package.title="A b=c"', "package.title", "A b=c"),
        ("package.title=2026", "package.title", "2026"),
        ("package.title=1.10", "package.title", "1.10"),
        ("package.title=", "package.title", ""),
        ("package.surname=007", "package.surname", "007"),
        ("package.description.embeddings=null", "package.description.embeddings", "null"),
        ("package.abstract=costs $5 or ${", "package.abstract", "costs $5 or ${"),
        ("data.folder=~/recordings", "data.folder", os.path.expanduser("~/recordings")),
    ],
)
def test_an_override_sets_what_it_says(given, key, expected):
    found = value(load(DEFAULT, [given]), key)
    assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("package: {surname: 007}", "package.surname", "007"),
        ("package: {title: 1.10}", "package.title", "1.10"),
        ("package: {title: 2026-01-31}", "package.title", "2026-01-31"),
        ("package: {title: no}", "package.title", "no"),
        ("package: {description: {embeddings: null}}", "package.description", {"embeddings": "null"}),
        ("pretrain: {loop: {precision: no}}", "pretrain.loop.precision", "no"),
        ("pretrain: {loop: {learning_rate: 1e-3}}", "pretrain.loop.learning_rate", 0.001),
        ("pretrain: {loop: {steps: '20'}}", "pretrain.loop.steps", 20),
        ("study: {grouped: 'yes'}", "study.grouped", True),
        (
            "pretrain: {loop: {steps: 0}}\nencoder: {simam_machines: {007: local, on: global}}",
            "encoder.simam_machines",
            {"007": "local", "on": "global"},
        ),
        ("tune: {scorers: {knn: {memmixup: [1e-2]}}}", "tune.scorers", {"knn": {"memmixup": [0.01]}}),
    ],
)
def test_a_file_says_what_it_seems_to_say(tmp_path, text, key, expected):
    (tmp_path / "c.yaml").write_text(SMALL + text)
    found = value(load(tmp_path / "c.yaml"), key)
    assert (type(found), found) == (type(expected), expected)


def test_an_item_after_the_last_is_added_with_the_usual_values():
    first = "package.external_datasets.0.name=ESC-50 package.external_datasets.0.url=https://zenodo.org"
    found = load(DEFAULT, [first, "package.external_datasets.1.name=Ann Marie"]).package.external_datasets
    assert [(each.name, each.url) for each in found] == [("ESC-50", "https://zenodo.org"), ("Ann Marie", "")]


def test_shared_values_of_a_file_stay_apart(tmp_path):
    text = "branches: {main: &b {loop: {steps: 5}}, aux: *b}\nsystems: [{weights: {main: 1.0}}]\n"
    (tmp_path / "low.yaml").write_text(text)
    (tmp_path / "c.yaml").write_text("base: low.yaml\nbranches: {main: {loop: {steps: 7}}}\n")
    branches = load(tmp_path / "c.yaml", ["branches.aux.loop.batch_size=3"]).branches
    assert [(b.loop.steps, b.loop.batch_size) for b in branches.values()] == [(7, 8), (5, 3)]


def test_all_mistakes_at_once_each_with_where_it_stands(tmp_path):
    (tmp_path / "low.yaml").write_text(
        "device: gpu\nbranches:\n  main: {pool: mean, scorer: {name: knn, settings: {kk: 3}}}\n"
        "systems: [{weights: {main: 1.0}}]\npackage: {surname: Müller, year: 1999, authors: [{last: Müller}]}\n"
    )
    (tmp_path / "c.yaml").write_text("base: low.yaml\nsead: 3\npretrain: {loop: {steps: many, batch_size: 0}}\n")
    error = refused(tmp_path / "c.yaml", "thread=2 branches.main.pool=max", "seed", "package.report_pdf=none.pdf")
    low, top = (str(tmp_path / name) for name in ("low.yaml", "c.yaml"))
    words = re.compile(": (?:expected|did you|the scorer)")
    found = {words.split(problem)[0] for problem in error.problems}
    assert found == {
        "--set seed",
        f"{top}: unknown key sead",
        f"{top}: pretrain.loop.steps",
        f"{top}: pretrain.loop.batch_size",
        "--set thread=2: unknown key thread",
        "--set branches.main.pool=max: branches.main.pool",
        f"{low}: device",
        f"{low}: branches.main.scorer.settings.kk",
        f"{low}: package.surname",
        f"{low}: package.authors",
        *(f"{low}: package.authors.0.{key}" for key in ("first", "email", "institution")),
        f"{low}: package.year",
        "--set package.report_pdf=none.pdf: package.report_pdf",
    }
    assert str(error).splitlines() == [f"{top}: {len(found)} problems:", *error.problems]


def test_mistakes_in_shared_values_of_a_file_are_told_for_each_and_in_order(tmp_path):
    text = (
        "branches: {main: &b {inputs: [near, left], loop: {betas: [x, 1]}}, aux: *b}\nsystems: [{weights: {main: 1}}]\n"
    )
    (tmp_path / "c.yaml").write_text(text)
    found = [problem.split(": ")[1] for problem in refused(tmp_path / "c.yaml").problems]
    wrong = ["inputs.1", "loop.betas.0"]
    assert found == [f"branches.{name}.{key}" for name in ("main", "aux") for key in wrong]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1: a\n'1': b\n", "expected yaml, found 1 twice, again in line 2"),
        ("tune: {views: !!set {two_channel}}\n", "expected yaml, found a set in line 1"),
        ("systems: {a: 1}\n", "systems: expected a list, found keys with values"),
        ("branches: {main: 5}\nsystems: [{weights: {main: 1}}]\n", "branches.main: expected settings, found 5"),
    ],
)
def test_values_of_odd_kinds(tmp_path, text, expected):
    (tmp_path / "c.yaml").write_text(text)
    assert [expected in problem for problem in refused(tmp_path / "c.yaml").problems] == [True]


def test_what_follows_from_a_mistake_is_not_another_one(tmp_path):
    (tmp_path / "c.yaml").write_text(SMALL.replace("branches", "branchs").replace("weights", "wieghts"))
    problems = refused(tmp_path / "c.yaml").problems
    assert [problem.partition("unknown key ")[2] for problem in problems] == [
        "branchs: did you mean branches?",
        "systems.0.wieghts: did you mean weights?",
    ]


def test_a_thousand_mistakes_are_not_all_told(tmp_path):
    (tmp_path / "c.yaml").write_text("".join(f"wrong{number}: 1\n" for number in range(1000)))
    problems = refused(tmp_path / "c.yaml").problems
    assert len(problems) < 100
    assert problems[-1].endswith("more")


@pytest.mark.parametrize("text", ["${oc.env:SECRET}", "x ${seed} y", "${oc.decode:'1'}", "${now:%Y}"])
@pytest.mark.parametrize(
    "place",
    [
        "package: {{title: {}}}",
        "data: {{folder: {}}}",
        "branches: {{main: {{scorer: {{settings: {{a: {}}}}}}}}}",
        "seed: {}",
    ],
)
def test_no_setting_refers_to_the_environment_or_another_one(tmp_path, monkeypatch, text, place):
    monkeypatch.setenv("SECRET", "hush")
    (tmp_path / "c.yaml").write_text(place.format(f'"{text}"'))
    said = str(refused(tmp_path / "c.yaml"))
    assert "the reference ${" in said
    assert "hush" not in said


def test_only_who_packs_is_asked_for_a_package(tmp_path):
    wrong = "package: {surname: Müller, report_pdf: gone.pdf}\n"
    (tmp_path / "c.yaml").write_text(wrong)  # pre-training alone
    assert load(tmp_path / "c.yaml").package.surname == "Müller"
    (tmp_path / "c.yaml").write_text(SMALL + wrong)
    assert len(refused(tmp_path / "c.yaml").problems) == 2
    assert load(tmp_path / "c.yaml", packaged=False).package.report_pdf == "gone.pdf"


@pytest.fixture
def recipes(tmp_path, monkeypatch):
    """Three recipes; the main one has toy.yaml and deep/toy.yaml."""
    texts = {"dcase2026/conf/toy": 1, "dcase2026/conf/deep/toy": 2, "second/conf/toy": 3, "second/conf/own": 4}
    for name, seed in {**texts, "second/conf/both": 5, "third/conf/both": 6}.items():
        path = tmp_path / "recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"seed: {seed}\n")
    monkeypatch.setattr(finding, "RECIPES", tmp_path / "recipes")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "recipes"


@pytest.mark.parametrize("form", ["conf", "base"])
@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("toy.yaml", 1),
        ("toy", 1),
        ("deep/toy.yaml", 2),
        ("dcase2026/deep/toy.yaml", 2),
        ("second/toy.yaml", 3),
        ("recipes/second/conf/toy.yaml", 3),
        ("own.yaml", 4),
        ("third/both.yaml", 6),
        ("../recipes/second/conf/own.yaml", 4),
        ("~/mine.yaml", 7),
    ],
)
def test_a_configuration_by_name(recipes, monkeypatch, form, name, seed):
    monkeypatch.setenv("HOME", str(recipes.parent))
    (recipes.parent / "mine.yaml").write_text("seed: 7\n")
    Path("c.yaml").write_text(f"base: {name}\n")
    assert load(name if form == "conf" else "c.yaml").seed == seed


def test_what_lies_beside_goes_first(recipes):
    Path("toy.yaml").write_text("seed: 8\n")
    Path("c.yaml").write_text("base: toy.yaml\n")
    assert [load(name).seed for name in ("toy.yaml", "c.yaml", recipes.parent / "here" / "c.yaml")] == [8, 8, 8]
    Path("elsewhere").mkdir()
    Path("elsewhere/c.yaml").write_text("base: toy.yaml\n")
    assert load("elsewhere/c.yaml").seed == 1  # beside the file, not where the user stands


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "both.yaml",
            "both.yaml: expected a configuration, found nothing; recipes have second/both.yaml and third/both",
        ),
        (
            "towy.yaml",
            "towy.yaml: expected a configuration, found nothing, and none of this name in {recipes}/*/conf: did",
        ),
        ("towy.yaml", "did you mean toy.yaml?"),
        ("../here", "expected a configuration, found a folder"),
        ("/none/toy.yaml", "/none/toy.yaml: expected a configuration, found nothing"),
    ],
)
def test_a_configuration_that_is_not_there(recipes, name, expected):
    assert expected.format(recipes=recipes) in str(refused(name))
    Path("c.yaml").write_text(f"base: {name}\n")
    assert f"c.yaml: base: {name}" in str(refused("c.yaml"))
