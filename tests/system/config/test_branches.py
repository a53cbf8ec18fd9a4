"""Kinds of branches: stated or implied, changed by later files and options, and configurations of earlier versions."""

from dataclasses import asdict

import pytest
import yaml

from system.config import (
    AutoencoderBranchConfig,
    EncoderBranchConfig,
    LoopConfig,
    ScorerConfig,
    SharedBranchConfig,
    SpectrumBranchConfig,
    SpectrumConfig,
    load,
    loading,
    save,
)
from system.errors import WheeltapperError

SYSTEMS = "systems: [{weights: {a: 1}}]\n"


@pytest.fixture
def conf(tmp_path):
    def write(branches: str, rest: str = SYSTEMS, name: str = "c.yaml"):
        (tmp_path / name).write_text(f"{rest}branches: {{{branches}}}\n")
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ("{}", EncoderBranchConfig),
        ("{pool: mean}", EncoderBranchConfig),
        ("{kind: encoder}", EncoderBranchConfig),
        ("{spectrum: {}}", SpectrumBranchConfig),
        ("{kind: spectrum}", SpectrumBranchConfig),
        ("{kind: spectrum, spectrum: {level: 0.2}}", SpectrumBranchConfig),
        ("{autoencoder: {}, scorer: {name: precomputed}}", AutoencoderBranchConfig),
        ("{kind: autoencoder, scorer: {name: precomputed}}", AutoencoderBranchConfig),
        ("{shares: a}", SharedBranchConfig),
    ],
)
def test_the_kind_follows_from_the_keys(conf, tmp_path, settings, kind):
    config = load(conf(f"a: {{}}, b: {settings}"))
    assert type(config.branches["b"]) is kind
    save(tmp_path / "saved.yaml", config)
    assert yaml.safe_load((tmp_path / "saved.yaml").read_text())["branches"]["b"]["kind"] == config.branches["b"].kind
    assert load(tmp_path / "saved.yaml") == config


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            "{spectrum: {}, crop_seconds: 1}",
            "branches.b.crop_seconds: a spectrum branch has no such setting; it has inputs, kind, scorer, spectrum, ",
        ),
        ("{shares: a, pool: mean}", "branches.b.pool: a shared branch has no such setting; it has kind, readout"),
        ("{kind: encoder, spectrum: {}}", "branches.b.spectrum: an encoder branch has no such setting"),
        ("{kind: autoencoder, inputs: [near]}", "branches.b.inputs: an autoencoder branch has no such setting"),
        ("{spectrum: {}, scorrer: {}}", "unknown key branches.b.scorrer: did you mean scorer?"),
        ("{kind: [spectrum]}", "branches.b.kind: expected one of encoder, spectrum, autoencoder, shared, found a list"),
        ("{kind: network}", "branches.b.kind: expected one of encoder, spectrum, autoencoder, shared, found 'network'"),
    ],
)
def test_settings_of_another_kind_are_refused(conf, settings, expected):
    with pytest.raises(WheeltapperError) as caught:
        load(conf(f"a: {{}}, b: {settings}"))
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("branch", "rest", "expected"),
    [
        (
            "{encoder: {checkpoint: default, noise_aware: x}, inputs: [near]}",
            "",
            r"branches\.a\.inputs: expected near, far",
        ),
        ("{encoder: {noise_aware: x}}", "", r"branches\.a\.encoder\.noise_aware: expected none without checkpoint"),
        ("{}", "encoder: {checkpoint: default, noise_aware: x}\n", r"encoder\.noise_aware: expected none, found x"),
    ],
)
def test_noise_aware_layers_stand_where_they_work(conf, branch, rest, expected):
    with pytest.raises(WheeltapperError, match=expected):
        load(conf(f"a: {branch}", SYSTEMS + rest))
    load(conf("a: {encoder: {checkpoint: default, noise_aware: x}}"))


def test_a_later_file_makes_a_branch_of_another_kind(conf):
    conf("a: {crop_seconds: 2, loop: {steps: 3}, inputs: [near], scorer: {name: knn}}", name="low.yaml")
    spectrum = load(conf("a: {spectrum: {level: 0.2}}", "base: low.yaml\n"))
    assert spectrum.branches["a"] == SpectrumBranchConfig(
        scorer=ScorerConfig("knn"), inputs=["near"], spectrum=SpectrumConfig(level=0.2)
    )
    back = load(conf("a: {kind: encoder, loop: {steps: 5}}", "base: c.yaml\n", "top.yaml"))
    assert back.branches["a"] == EncoderBranchConfig(
        scorer=ScorerConfig("knn"), inputs=["near"], loop=LoopConfig(steps=5)
    )
    with pytest.raises(WheeltapperError, match=r"top\.yaml: branches\.a\.pool: a spectrum branch has no such setting"):
        load(conf("a: {pool: mean}", "base: c.yaml\n", "top.yaml"))


@pytest.mark.parametrize(
    ("settings", "given", "expected"),
    [
        ("{name: knn, settings: {k: 3}}", [], ScorerConfig("knn", {"k": 3})),
        ("{name: knn}", [], ScorerConfig("knn")),
        ("{name: mahalanobis}", [], ScorerConfig("mahalanobis", {"standardize": True})),
        ("{settings: {bank: global}}", [], ScorerConfig("mahalanobis", {"standardize": True, "bank": "global"})),
        ("{}", ["branches.a.scorer.name=knn"], ScorerConfig("knn")),
        ("{}", ["branches.a.scorer.settings.k=5", "branches.a.scorer.name=knn"], ScorerConfig("knn", {"k": 5})),
    ],
)
def test_another_scorer_starts_without_settings(conf, settings, given, expected):
    conf("a: {scorer: {settings: {standardize: true}}}", name="low.yaml")
    found = load(conf(f"a: {{scorer: {settings}}}", "base: low.yaml\n"), given)
    assert found.branches["a"].scorer == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["branches.a.spectrum.level=0.2"], SpectrumBranchConfig(spectrum=SpectrumConfig(level=0.2))),
        (["branches.a.kind=spectrum"], SpectrumBranchConfig()),
        (["branches.a={kind: spectrum, inputs: [far]}"], SpectrumBranchConfig(inputs=["far"])),
        (["branches={a: {spectrum: {}}}"], SpectrumBranchConfig()),
        (
            ["branches.a.kind=spectrum", "branches.a.spectrum.level=0.2", "branches.a.kind=encoder"],
            EncoderBranchConfig(),
        ),
        (["branches.a.spectrum={}", "branches.a.spectrum=null"], EncoderBranchConfig()),
        (["branches.a.shares=b"], SharedBranchConfig(shares="b")),
        (["branches.a.of=b"], SharedBranchConfig(shares="b")),
    ],
)
def test_an_option_makes_a_branch_of_another_kind(conf, given, expected):
    assert load(conf("a: {crop_seconds: 2, depth: 3}, b: {}"), given).branches["a"] == expected


def test_an_option_that_takes_keys_away_says_so(conf, caplog):
    loading._say.cache_clear()
    path = conf("a: {crop_seconds: 2, depth: 3, inputs: [near]}, b: {}")
    for _ in range(2):  # said once
        load(path, ["branches.a.kind=spectrum", "branches.b.shares=a"])
    told = [record.message for record in caplog.records]
    assert told == [
        "note: --set branches.a.kind=spectrum: branches.a is now a spectrum branch; crop_seconds, depth of an encoder "
        "branch are dropped"
    ]
    assert load(path, ["branches.a.kind=spectrum"]).branches["a"].inputs == ["near"]


@pytest.mark.parametrize(
    ("subtraction", "key"),
    [
        ("{method: magnitude, stretch: 3.0}", "stretch: expected 0.0 with method magnitude, which does not use it"),
        ("{method: magnitude, taps: 2}", "taps: expected 1 with method magnitude"),
        ("{method: magnitude, coherence: true}", "coherence: expected False with method magnitude"),
        ("{method: scaled_magnitude, balance: 0.5}", "balance: expected 0.0 with method scaled_magnitude"),
        ("{method: scaled_magnitude, taps: 3}", "taps: expected 1 with method scaled_magnitude"),
        ("{method: scaled_magnitude, coherence: true}", "coherence: expected False with"),
    ],
)
def test_settings_that_a_subtraction_does_not_use_are_refused(conf, subtraction, key):
    with pytest.raises(WheeltapperError, match=rf"branches\.a\.subtraction\.{key}"):
        load(conf(f"a: {{inputs: [residual], subtraction: {subtraction}}}"))


@pytest.mark.parametrize(
    "subtraction",
    ["{taps: 3, stretch: 2.0, balance: 0.5, coherence: true}", "{method: scaled_magnitude, stretch: 3}",
     "{method: magnitude, n_fft: 512, hop: 128}"],
)  # fmt: skip
def test_settings_that_a_subtraction_uses(conf, subtraction):
    assert load(conf(f"a: {{inputs: [residual], subtraction: {subtraction}}}")).branches["a"].inputs == ["residual"]


def test_a_saved_configuration_of_an_earlier_version(tmp_path):
    every = asdict(EncoderBranchConfig(crop_seconds=1.0)) | {"autoencoder": None, "spectrum": None, "of": ""}
    del every["kind"]
    former = {
        "a": every,
        "b": every | {"spectrum": {"level": 0.2}, "inputs": ["far"]},
        "c": every | {"autoencoder": {"epochs": 3}, "scorer": {"name": "given"}},
        "d": every | {"of": "b"},
    }
    systems = [{"weights": {"a": 1}, "view": "near_only"}]
    text = yaml.safe_dump({"branches": former, "systems": systems, "tune": {"views": ["near_only"]}})
    (tmp_path / "config.yaml").write_text(text)
    config = load(tmp_path / "config.yaml")
    assert config.branches["a"] == EncoderBranchConfig(crop_seconds=1.0)
    assert config.branches["b"] == SpectrumBranchConfig(inputs=["far"], spectrum=SpectrumConfig(level=0.2))
    assert (config.branches["c"].autoencoder.epochs, config.branches["c"].scorer.name) == (3, "precomputed")
    assert config.branches["d"] == SharedBranchConfig(shares="b")
    assert (config.systems[0].view, config.tune.views) == ("near_only", ["near_only"])


def test_former_words_in_options(conf):
    config = load(conf("a: {}"), ["systems.0.view=near_only", "tune.views=[near_only, two_channel]"])
    assert (config.systems[0].view, config.tune.views) == ("near_only", ["near_only", "two_channel"])


def test_a_former_name_beside_its_new_one_is_refused(conf):
    message = r"branches\.b\.of: expected shares alone, found its former name of beside it; delete of"
    with pytest.raises(WheeltapperError, match=message):
        load(conf("a: {}, b: {shares: a, of: a}"))


def test_names_with_a_dot_stay_whole(conf):
    """Former names are looked up by the parts of a key, not by what follows its last dot."""
    path = conf("a: {encoder: {family: eat, simam_machines: {fan.v2: local}}}")
    assert load(path).branches["a"].encoder.simam_machines == {"fan.v2": "local"}
    with pytest.raises(WheeltapperError, match=r"a\.b"):
        load(conf("a: {}, a.b: {}"))


@pytest.mark.parametrize(
    "given",
    [
        ["branches.b={of: a}"],
        ["branches.b={kind: shared, of: a}"],
        ["branches={a: {}, b: {of: a}}"],
        ["branches.b.of=a"],
    ],
)
def test_former_names_in_an_override(conf, given):
    assert load(conf("a: {}"), given).branches["b"] == SharedBranchConfig(shares="a")


def test_what_told_the_kind_is_taken_away(conf):
    conf("a: {inputs: [near], spectrum: {level: 0.2}}", name="low.yaml")
    found = load(conf("a: {spectrum: null}", "base: low.yaml\n"))
    assert found.branches["a"] == EncoderBranchConfig(inputs=["near"])


@pytest.mark.parametrize("weights", ["{a: 1.0e308, b: 1.0e308}", "{a: -1.0, b: 2.0}", "{a: 0.0}"])
def test_weights_without_a_sum(tmp_path, weights):
    (tmp_path / "c.yaml").write_text(f"branches: {{a: {{}}, b: {{}}}}\nsystems: [{{weights: {weights}}}]\n")
    with pytest.raises(WheeltapperError, match=r"systems\.0\.weights: expected none below zero"):
        load(tmp_path / "c.yaml")


def test_texts_that_earlier_versions_saved_are_not_the_team_s(tmp_path):
    title = "Gated near and far channels with normal-reference scoring for anomalous machine sounds"
    (tmp_path / "c.yaml").write_text(f"package: {{title: {title}}}\n")
    assert load(tmp_path / "c.yaml").package.title == ""
    (tmp_path / "c.yaml").write_text("package: {title: Ours}\n")
    assert load(tmp_path / "c.yaml").package.title == "Ours"


def test_the_author_that_earlier_versions_saved_is_none(conf):
    author = "{first: Rehearsal, last: Wheeltapper, email: rehearsal@example.org, corresponding: true, "
    author += "institution: Demonstration Institute, department: '', location: 'Example City, Nowhere'}"
    path = conf("a: {}", f"{SYSTEMS}package: {{authors: [{author}]}}\n")
    assert load(path).package.authors == []
    path.write_text(path.read_text().replace("Rehearsal", "Ada"))
    assert [author.first for author in load(path).package.authors] == ["Ada"]
