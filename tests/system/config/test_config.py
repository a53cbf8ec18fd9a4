"""The typed configuration: every recipe parses, every mistake is named with its file and key."""

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from system import config as configuration
from system.config import Config, save
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.pipeline.branches import network_branch
from system.pipeline.settings import load_configuration as load

ROOT = Path(__file__).resolve().parents[3]
RECIPES = sorted(ROOT.glob("recipes/**/conf/*.yaml"))
SMALL = "branches: {main: {pool: mean}}\nsystems: [{weights: {main: 1.0}}]\n"


@pytest.fixture
def conf(tmp_path):
    def write(text: str = "", name: str = "c.yaml") -> Path:
        (tmp_path / name).write_text(SMALL + text)
        return tmp_path / name

    return write


def test_there_are_recipes():
    assert ROOT / "recipes/dcase2026/conf/default.yaml" in RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_recipe_parses(path, tmp_path):
    config = load(path)
    save(tmp_path / "config.yaml", config)
    assert load(tmp_path / "config.yaml") == config


def test_the_default_recipe_is_the_system_of_the_seed():
    config = load(ROOT / "recipes/dcase2026/conf/default.yaml")
    main, aux = config.branches["main"], config.branches["aux"]
    for branch in (main, aux):
        assert (branch.lora.rank, branch.lora.alpha, branch.lora.dropout) == (8, 16, 0.1)
        assert branch.gate_bias == 1.0
        assert branch.embedding_dim == 256
    assert main.scorer.name == "mahalanobis"
    assert main.scorer.settings["bank"] == "domain"
    assert (aux.scorer.name, aux.scorer.settings) == ("knn", {"k": 3, "bank": "global"})
    everything, spectra, pair, single = config.systems
    assert pair.weights == {"main": 0.85, "aux": 0.15}
    assert single.weights == {"main": 1.0}
    assert set(everything.branches) == set(config.branches)
    assert set(spectra.branches) == set(config.branches) - {"main", "aux"}
    assert {system.view for system in config.systems} == {"near_only"}


@pytest.mark.parametrize(
    ("name", "part", "expected"),
    [
        ("arcface", "heads", {}),
        ("adacos", "heads", {"kind": "adacos", "subclusters": 16, "trainable_centres": False}),
        (
            "adaproj",
            "heads",
            {"kind": "adaproj", "subclusters": 32, "trainable_centres": False, "adaptive_scale": True},
        ),
        ("pseudo_attributes", "pseudo_attributes", {"clusters": 16}),
    ],
)
def test_a_variant_of_adaptation_differs_in_just_that(name, part, expected):
    folder = ROOT / "recipes/dcase2026/conf"
    default, found = asdict(load(folder / "default.yaml")), asdict(load(folder / "adaptation" / f"{name}.yaml"))
    for branch in ("main", "aux"):
        default["branches"][branch][part] |= expected
    assert found == default


def test_differences_go_on_top_of_the_defaults(conf):
    config = load(conf("seed: 7\npretrain: {loop: {steps: 5}}\n"))
    assert config.seed == 7
    assert config.pretrain.loop.steps == 5
    assert config.pretrain.loop.batch_size == Config().pretrain.loop.batch_size


def test_overrides(conf):
    config = load(conf(), ["seed=3", "branches.main.loop.learning_rate=1e-3", "data.rate=8000"])
    assert (config.seed, config.data.rate) == (3, 8000)
    assert config.branches["main"].loop.learning_rate == 0.001


def test_base(conf, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "low.yaml").write_text(SMALL + "seed: 1\ndevice: cuda\n")
    (tmp_path / "middle.yaml").write_text("base: sub/low.yaml\nseed: 2\n")
    (tmp_path / "top.yaml").write_text("base: middle.yaml\nthreads: 2\n")
    config = load(tmp_path / "top.yaml")
    assert (config.seed, config.device, config.threads) == (2, "cuda", 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sead: 1", "unknown key sead: did you mean seed?"),
        ("pretrain: {loop: {batch_sise: 3}}", "unknown key pretrain.loop.batch_sise: did you mean batch_size?"),
        ("xyzzy: 1", "unknown key xyzzy: expected one of benchmark, branches"),
        ("seed: abc", "seed: expected a whole number, found 'abc'"),
        ("seed: 1.5", "seed: expected a whole number, found 1.5"),
        ("seed: true", "seed: expected a whole number, found true"),
        ("seed: null", "seed: expected a whole number, found null"),
        ("seed:", "seed: expected a whole number, found nothing"),
        ("seed: [1]", "seed: expected a whole number, found a list"),
        ("seed: 5000000000", "seed: expected a number from 0 to 4294967295, found 5000000000"),
        ("false_positive_rate: no", "false_positive_rate: expected a number, found no"),
        ("study: {grouped: maybe}", "study.grouped: expected true or false, found 'maybe'"),
        ("package: {title: [A, B]}", "package.title: expected a text, found a list"),
        ("package: {title: null}", 'package.title: expected a text, found null ("" is an empty text'),
        ("package:\n  title: A: B", 'a text with ": " in it needs quotes'),
        ("package: {authors: Li}", "package.authors: expected a list, as [Li], found 'Li'"),
        ("tune: {views: [[mono]]}", "tune.views.0: expected one of two_channel, near_only, found a list"),
        ("encoder: {simam_machines: [fan]}", "encoder.simam_machines: expected names with values, found a list"),
        ("pretrain:", "pretrain: expected settings, found nothing"),
        ("data: {synthetic: small}", "data.synthetic: expected one of default, tiny, found 'small'"),
        ("device: gpu", "device: expected one of auto, cuda, mps, cpu, found 'gpu'"),
        ("encoder: {family: fischer}", "encoder.family: expected one of fisher, echo, beats"),
        ("encoder: {filterbank: bark}", "encoder.filterbank: expected one of mel, even, found 'bark'"),
        ("evaluate: {year: 2019}", "evaluate.year: expected one of 2020, 2021"),
        ("pretrain: 3", "c.yaml: "),
        ("seed: [1", "expected yaml, found"),
        ("a: b: c", "expected yaml, found"),
        ("seed: ${nothing}", "seed: expected a whole number, found the reference ${nothing}: a configuration reads"),
        ("base: no.yaml", "c.yaml: base: "),
        ("base: c.yaml", "c.yaml: base: expected another file, found a circle"),
        ("seed: -1", "seed: expected a number from 0 to 4294967295, found -1"),
        ("pretrain: {loop: {learning_rate: .inf}}", "pretrain.loop.learning_rate: expected at least 0, found inf"),
        ("threads: 100000000", "threads: expected a number from 0 to 4096, found 100000000"),
        ("device: cuda\nembed: {precision: int8}", "embed.precision: expected fp32, bf16 or auto with device cuda"),
        ("encoder: {filterbank: even}", "encoder.filterbank: expected mel with fisher, found 'even'"),
        ("false_positive_rate: 0", "false_positive_rate: expected a number between 0 and 1, found 0"),
        ("false_positive_rate: .nan", "false_positive_rate: expected"),
        ("pretrain: {mask: {ratio: 1.5}}", "pretrain.mask.ratio: expected a number from 0 to 1, found 1.5"),
        ("pretrain: {loop: {save_every: 0}}", "pretrain.loop.save_every: expected at least 1, found 0"),
        ("pretrain: {loop: {betas: [0.9]}}", "pretrain.loop.betas: expected two numbers"),
        (
            "pretrain: {loop: {batch_size: 8, accumulate: 3}}",
            "pretrain.loop.batch_size: expected a multiple of 3 (accumulate), found 8",
        ),
        ("pretrain: {loop: {precision: fp8}}", "pretrain.loop.precision: expected one of auto, no, tf32, bf16, fp16"),
        ("pretrain: {loop: {learning_rate: .nan}}", "pretrain.loop.learning_rate: expected at least 0, found nan"),
        ("pretrain: {decoder: {kernel: 4}}", "pretrain.decoder: expected an odd kernel"),
        ("pretrain: {decoder: {dim: 10}}", "groups that divide dim"),
        ("encoder: {simam: both}", "encoder.simam: expected one of none, global, local, auto, found 'both'"),
        (
            "encoder: {simam: auto}\npretrain: {loop: {steps: 1}}",
            "encoder.simam: expected one way for all machines with pretrain.loop.steps above 0",
        ),
        ("benchmark: {test_size: 1.0}", "benchmark.test_size: expected"),
    ],
)
def test_mistakes(tmp_path, text, expected):
    (tmp_path / "c.yaml").write_text(SMALL + text + "\n")
    with pytest.raises(WheeltapperError) as caught:
        load(tmp_path / "c.yaml")
    assert expected in str(caught.value)
    assert "c.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("branch", "expected"),
    [
        ("{pool: max}", "branches.main.pool: expected one of mean, band, cls, attentive, gem, rdp, found 'max'"),
        ("{tune: half}", "branches.main.tune: expected one of lora, full, frozen, found 'half'"),
        ("{learn_from: target}", "branches.main.learn_from: expected one of all, source, found 'target'"),
        ("{encoder_learning_rate: -1}", "branches.main.encoder_learning_rate: expected at least 0, found -1"),
        ("{encoder: {simam: some}}", "branches.main.encoder.simam: expected one of none, global, local, auto"),
        (
            "{encoder: {simam_machines: {fan: auto}}}",
            "branches.main.encoder.simam_machines.fan: expected one of none, global, local, found 'auto'",
        ),
        ("{heads: {domain_classes: both}}", "branches.main.heads.domain_classes: expected one of machine, domain"),
        ("{heads: {kind: cosface}}", "branches.main.heads.kind: expected one of arcface, adacos, adaproj, found 'cosf"),
        ("{heads: {subclusters: 0}}", "branches.main.heads.subclusters: expected at least 1, found 0"),
        (
            "{embedding_dim: 8, heads: {kind: adaproj, subclusters: 8}}",
            "branches.main.heads.subclusters: expected a number below 8 (embedding_dim) for adaproj, found 8",
        ),
        ("{pseudo_attributes: {clusters: -1}}", "branches.main.pseudo_attributes.clusters: expected at least 0"),
        ("{pseudo_attributes: {method: em}}", "branches.main.pseudo_attributes.method: expected one of kmeans, ward"),
        ("{pseudo_attributes: {by: name}}", "branches.main.pseudo_attributes.by: expected one of frozen, spectrum"),
        ("{heads: {margin: 4}}", "branches.main.heads.margin: expected a number from 0 to 3.142"),
        ("{depth: -1}", "branches.main.depth: expected at least 0"),
        ("{lora: {rank: 0}}", "branches.main.lora.rank: expected at least 1"),
        ("{crop_seconds: 0}", "branches.main.crop_seconds: expected a number from 0.01 to 3600"),
        ("{augment: {mixup: 2}}", "branches.main.augment.mixup: expected a number from 0 to 1"),
        (
            "{scorer: {name: knnn}}",
            "branches.main.scorer.name: expected one of mahalanobis, conditional_mahalanobis, knn, ",
        ),
        ("{crop_seconds: 1e9}", "branches.main.crop_seconds: expected a number from 0.01 to 3600"),
        ("{scorer: {name: conditional_mahalanobis}}", "branches.main.scorer.name: expected a scorer of single vectors"),
        ("{scorer: {name: knnn}}", "found 'knnn': did you mean knn?"),
        (
            "{scorer: {name: knn, settings: {standardise: true}}}",
            "c.yaml: branches.main.scorer.settings.standardise: the scorer knn has no such setting: did you mean "
            "standardize? known settings: k, bank, standardize, smote, memmixup, memmixup_neighbours",
        ),
        (
            "{scorer: {name: beam, settings: {neighbours: 3}}}",
            "known settings: varmin, bands, k, bank, standardize, smote",
        ),
        (
            "{scorer: {name: precomputed, settings: {k: 3}}}",
            "the scorer precomputed has no such setting: known settings: none",
        ),
        ("{scorer: {name: knn, settings: {k: 2.5}}}", "scorer.settings.k: expected a whole number, found 2.5"),
        ("{scorer: {name: beam, settings: {bands: 1}}}", "scorer.settings.bands: expected true or false, found 1"),
        ("{scorer: {name: knn, settings: {k: 0}}}", "settings.k: expected at least 1, found 0"),
        ("{scorer: {settings: {bank: each}}}", "bank: expected one of domain, global, found 'each'"),
    ],
)
def test_mistakes_in_a_branch(tmp_path, branch, expected):
    (tmp_path / "c.yaml").write_text(f"branches: {{main: {branch}}}\nsystems: [{{weights: {{main: 1.0}}}}]\n")
    with pytest.raises(WheeltapperError) as caught:
        load(tmp_path / "c.yaml")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("systems", "expected"),
    [
        ("[]", "systems: expected 1 to 4, found 0"),
        ("[" + ", ".join(["{weights: {main: 1}}"] * 5) + "]", "systems: expected 1 to 4, found 5"),
        ("[{weights: {main: 1}, view: mono}]", "systems.0.view: expected one of two_channel, near_only"),
        ("[{weights: {other: 1}}]", "systems.0.weights: expected branches among main, aux, found 'other'"),
        ("[{}]", "systems.0.weights: expected branches among main, aux, found nothing"),
        ("[{weights: {main: -1}}]", "systems.0.weights: expected none below zero"),
        ("[{weights: {main: 0}}]", "systems.0.weights: expected none below zero and one above it"),
        ("[{weights: {main: 1}, fusion: max}]", "systems.0.fusion: expected one of sum, minimum, found 'max'"),
        (
            "[{weights: {main: 0.5, aux: 0.5}}, {weights: {main: 0.6, aux: 0.4}, fusion: minimum}]",
            "systems.1.weights: expected equal ones for fusion minimum, found {'main': 0.6, 'aux': 0.4}",
        ),
    ],
)
def test_mistakes_in_the_systems(tmp_path, systems, expected):
    (tmp_path / "c.yaml").write_text(f"branches: {{main: {{}}, aux: {{}}}}\nsystems: {systems}\n")
    with pytest.raises(WheeltapperError) as caught:
        load(tmp_path / "c.yaml")
    assert expected in str(caught.value)


def test_a_minimum_of_branches(tmp_path):
    systems = "[{weights: {main: 0.5, aux: 0.5, third: 0.0}, fusion: minimum}, {weights: {main: 1}}]"
    (tmp_path / "c.yaml").write_text(f"branches: {{main: {{}}, aux: {{}}, third: {{}}}}\nsystems: {systems}\n")
    assert [system.fusion for system in load(tmp_path / "c.yaml").systems] == ["minimum", "sum"]


def test_all_contradictions_at_once(tmp_path):
    (tmp_path / "c.yaml").write_text("branches: {a-b: {pool: max}}\nsystems: []\n")
    with pytest.raises(WheeltapperError, match="systems: expected") as caught:
        load(tmp_path / "c.yaml")
    assert "branches.a-b.pool" in str(caught.value)
    assert "branches: expected names of letters, digits and underscores, found 'a-b'" in str(caught.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "--set seed: expected key=value"),
        ("seed=[1", "--set seed=[1: expected a value"),
        ("sead=1", "--set sead=1: unknown key sead: did you mean seed?"),
        ("branches.main.pool=max", "branches.main.pool: expected one of mean, band, cls"),
        ("systems.0.weights.main=x", "systems.0.weights.main: expected a number, found 'x'"),
        ("systems.2.view=two_channel", "systems: expected an item by its number, 0 to 0, or 1 to add one, found 2"),
        ("systems.-1.view=two_channel", "or 1 to add one, found -1"),
        ("systems.first.view=two_channel", "or 1 to add one, found first"),
        ("seed.x=1", "--set seed.x=1: seed: expected a whole number, found keys with values"),
        ("a..b=1", "--set a..b=1: expected key=value"),
        ("package.title=A b=c", "--set b=c: unknown key b: expected one of benchmark"),
        ("package.title=A b=c", "(where it is a part of a value, put that in quotes)"),
        ("package.title=${oc.env:HOME}", "package.title: expected a text, found the reference ${oc.env:HOME}"),
        ("=3", "--set =3"),
    ],
)
def test_mistakes_in_overrides(conf, override, expected):
    with pytest.raises(WheeltapperError) as caught:
        load(conf(), [override])
    assert expected in str(caught.value)


@pytest.mark.parametrize("content", ["- 1\n", "5\n", "\xff", ""])
def test_files_that_are_no_configuration(tmp_path, content):
    (tmp_path / "c.yaml").write_bytes(content.encode("latin-1"))
    with pytest.raises(WheeltapperError, match=r"c\.yaml: "):
        load(tmp_path / "c.yaml")


def test_missing_file(tmp_path):
    with pytest.raises(WheeltapperError, match="expected a configuration, found nothing"):
        load(tmp_path / "c.yaml")


def test_a_damaged_base(tmp_path):
    (tmp_path / "low.yaml").write_text("- 1\n")
    (tmp_path / "c.yaml").write_text("base: low.yaml\n")
    with pytest.raises(WheeltapperError, match=r"low\.yaml: expected yaml of keys and values"):
        load(tmp_path / "c.yaml")


def test_saving_the_same_leaves_the_file(conf, tmp_path):
    config = load(conf())
    save(tmp_path / "config.yaml", config)
    before = (tmp_path / "config.yaml").stat().st_mtime_ns
    save(tmp_path / "config.yaml", config)
    assert (tmp_path / "config.yaml").stat().st_mtime_ns == before
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == asdict(config)


def test_pretraining_alone_needs_no_systems(tmp_path):
    (tmp_path / "c.yaml").write_text("pretrain: {objective: echo}\n")
    config = load(tmp_path / "c.yaml")
    assert config.pretrain.objective == "echo"
    with pytest.raises(WheeltapperError, match=r"c\.yaml: branches: expected at least one"):
        configuration.check_systems(config, "c.yaml")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("objective: mae", "pretrain.objective: expected one of fisher, echo, found 'mae'"),
        ("front_end: gpu", "pretrain.front_end: expected one of worker, device, found 'gpu'"),
        ("target: {band: cls}", "pretrain.target.band: expected one of mean, positions, whitened, found 'cls'"),
        ("target: {norm: batch}", "pretrain.target.norm: expected one of instance, layer, whitened"),
        ("target: {floor: 0}", "pretrain.target.floor: expected a number above 0, found 0"),
        ("fewest_bands: 6", "pretrain.most_bands: expected at least 6 (fewest_bands), found 5"),
        ("copies: 3", "pretrain.copies: expected a divisor of 8 (batch_size), found 3"),
        (
            "teacher: {checkpoint: mn04, blocks: []}",
            "pretrain.teacher.blocks: expected one or more blocks, found none",
        ),
        ("mix_snr: [5, -5]", "pretrain.mix_snr: expected two numbers, the smaller one first, found [5.0, -5.0]"),
        ("mix_share: 2", "pretrain.mix_share: expected a number from 0 to 1, found 2"),
        ("probe: {every: 5}", "pretrain.probe.manifest: expected a manifest of labelled clips, found none"),
        ("sources: [{path: a.csv, weight: -1}]", "pretrain.sources.0.weight: expected at least 0, found -1"),
    ],
)
def test_mistakes_in_pretraining(tmp_path, settings, expected):
    (tmp_path / "c.yaml").write_text(f"pretrain: {{{settings}}}\n")
    with pytest.raises(WheeltapperError) as caught:
        load(tmp_path / "c.yaml")
    assert expected in str(caught.value)


def test_published_settings_of_pretraining():
    folder = Path(__file__).parents[3] / "recipes" / "pretrain" / "conf"
    fisher, echo = (load(folder / f"{name}.yaml").pretrain for name in ("fisher", "echo"))
    # FISHER paper, 3.2; FISHER's code; EAT.
    assert (fisher.mask.ratio, fisher.mask.max_bands, fisher.mask.block) == (0.8, 64, 5)
    assert (fisher.target.layers, fisher.target.norm, fisher.target.band) == ("mlp", "instance", "mean")
    assert (fisher.ema_start, fisher.ema_end, fisher.ema_steps) == (0.9998, 0.99999, 100_000)
    assert (fisher.loop.steps, fisher.loop.warmup_steps, fisher.loop.learning_rate) == (400_000, 53_333, 5e-4)
    # ECHO paper, section 4; its code.
    assert (echo.mask.ratio, echo.fewest_bands, echo.most_bands) == (0.75, 2, 5)
    assert (echo.loop.steps, echo.loop.batch_size, echo.loop.learning_rate) == (400_000, 256, 1e-4)
    assert (echo.loop.final_learning_rate, echo.loop.weight_decay) == (1e-5, 0.05)
    # What is ours stays out of them.
    assert (fisher.gain_db, fisher.mix_share, echo.gain_db, echo.mix_share) == (0, 0, 0, 0)
    assert load(folder / "small.yaml").pretrain.target.band == "positions"


SPECTRUM = "spectrum: {statistic: quantile}, inputs: [residual], scorer: {name: knn}"


@pytest.mark.parametrize(
    ("branches", "expected"),
    [
        ("a: {inputs: []}", r"branches\.a\.inputs: expected one or two of near, far, residual, found \[\]"),
        ("a: {inputs: [near, near]}", r"branches\.a\.inputs: expected one or two"),
        ("a: {inputs: [left]}", r"branches\.a\.inputs\.0: expected one of near, far, residual, found 'left'"),
        ("a: {subtraction: {method: wiener}}", r"branches\.a\.subtraction\.method: expected one of least_squares"),
        ("a: {subtraction: {n_fft: 512, hop: 300}}", r"branches\.a\.subtraction: expected an even n_fft and a hop"),
        ("a: {subtraction: {balance: 2}}", r"subtraction\.balance: expected a number from 0 to 1, found 2"),
        ("a: {spectrum: {merge: 3}}", r"branches\.a\.spectrum\.merge: expected a divisor of 128 bands, found 3"),
        ("a: {spectrum: {filterbank: bark}}", r"branches\.a\.spectrum\.filterbank: expected one of mel, even"),
        ("a: {spectrum: {statistic: mode}}", r"branches\.a\.spectrum\.statistic: expected one of mean, quantile"),
        (
            "a: {spectrum: {order: statistic_first, statistic: crest}}",
            r"spectrum\.order: expected bands_first",
        ),
        (
            "a: {spectrum: {filterbank: log, high_hz: 15}}",
            r"spectrum\.high_hz: expected above 20 Hz, the lower edge",
        ),
        ("a: {spectrum: {statistic: frames}}", r"a\.scorer\.name: expected frames for statistic frames, found 'mahal"),
        (
            "a: {scorer: {name: frames}, spectrum: {statistic: frames}}, b: {shares: a}",
            r"branches\.b\.scorer\.name",
        ),
        ("a: {spectrum: {level: 1.5}}", r"spectrum\.level: expected a number from 0 to 1, found 1\.5"),
        ("a: {spectrum: {quantil: 1}}", r"unknown key branches\.a\.spectrum\.quantil"),
        ("a: {spectrum: {}, autoencoder: {}}", r"branches\.a\.autoencoder: a spectrum branch has no such setting"),
        ("a: {readout: sum}", r"branches\.a\.readout: expected one of projection, mean, band, cls, gem, rdp"),
        ("a: {shares: b}", r"branches\.a\.shares: expected one of , found 'b'"),
        ("a: {}, b: {shares: a}, c: {shares: b}", r"branches\.c\.shares: expected one of a, found 'b'"),
        (f"a: {{{SPECTRUM}}}, b: {{shares: a, readout: band}}", r"branches\.b\.readout: expected projection"),
    ],
)
def test_contradictions_between_branches(tmp_path, branches, expected):
    (tmp_path / "c.yaml").write_text(f"branches: {{{branches}}}\nsystems: [{{weights: {{a: 1}}}}]\n")
    with pytest.raises(WheeltapperError, match=expected):
        load(tmp_path / "c.yaml")


def test_files_of_branches_that_share(tmp_path):
    branches = f"a: {{}}, b: {{shares: a, readout: rdp, readout_power: 8}}, c: {{{SPECTRUM}}}, d: {{shares: c}}"
    (tmp_path / "c.yaml").write_text(f"branches: {{{branches}}}\nsystems: [{{weights: {{a: 1}}}}]\n")
    run = Experiment(tmp_path, load(tmp_path / "c.yaml"))
    assert list(run.encoder_branches) == ["a"]
    assert list(run.network_branches) == ["a", "c"]
    assert run.adapter("b") == run.adapter("a") == tmp_path / "adapt/a/adapter.safetensors"
    assert run.embeddings("a", "two_channel") == tmp_path / "embeddings/a/two_channel.npy"
    assert run.embeddings("b", "two_channel") == tmp_path / "embeddings/a/rdp8.two_channel.npy"
    assert run.embeddings("d", "two_channel") == run.embeddings("c", "two_channel")
    assert network_branch(run, "d").weights() == [tmp_path / "adapt/c/card.json"]
