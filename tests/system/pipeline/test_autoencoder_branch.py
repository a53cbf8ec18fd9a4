"""Autoencoders as a branch: folds, what each network has heard, thresholds that keep what they promise."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from system import audio, fused_scores, machine_scores, score_tables
from system import config as configuration
from system.config import ScorerConfig, SystemConfig
from system.errors import WheeltapperError
from system.manifest import Clip
from system.references import cross_fitting
from system.references.autoencoder import Autoencoder
from system.scoring.precomputed import PrecomputedScorer

RATE = 16000
CONFIG = configuration.AutoencoderConfig(hidden=[8], bottleneck=4, epochs=1, batch=64, folds=3)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Clip]:
    """Two machines of 9 source and 4 target training clips and 2 test clips, mono, half a second."""
    root, found = tmp_path_factory.mktemp("branch"), []
    rng = np.random.default_rng(0)
    for machine in ("mill", "lathe"):
        for i in range(15):
            split = "train" if i < 13 else "test"
            domain = "source" if i < 9 else "target" if i < 13 else ""
            path = root / machine / f"{i}.wav"
            path.parent.mkdir(exist_ok=True)
            audio.write(path, (0.1 * rng.standard_normal((1, RATE // 2))).astype(np.float32).clip(-1, 1), RATE)
            common = {"label": "normal" if split == "train" else "", "domain": domain}
            sound = {"channels": 1, "rate": RATE, "samples": RATE // 2}
            found.append(Clip("toy", machine, "00", split, path.name, str(path), **common, **sound))
    return found


def training(clips: list[Clip]) -> list[Clip]:
    return [clip for clip in clips if clip.split == "train"]


def test_folds_are_even_in_each_domain_and_keep_groups_together(clips):
    own = training(clips)
    folds = cross_fitting.assign_folds(own, 3, 1)
    for machine in ("mill", "lathe"):
        for domain, most in (("source", 3), ("target", 2)):
            counts = np.bincount([folds[c.key] for c in own if (c.machine, c.domain) == (machine, domain)], minlength=3)
            assert counts.max() == most
            assert counts.max() - counts.min() <= 1
    assert folds != cross_fitting.assign_folds(own, 3, 2)
    assert set(cross_fitting.assign_folds(own, 0, 1).values()) == {cross_fitting.ALL}
    pairs = [replace(clip, group=str(i // 2)) for i, clip in enumerate(own)]
    together = cross_fitting.assign_folds(pairs, 3, 1)
    for first, second in zip(pairs[:12:2], pairs[1:13:2], strict=True):
        assert together[first.key] == together[second.key]
    with pytest.raises(WheeltapperError, match="mill: expected at least 20 recordings for 20 folds, found 13"):
        cross_fitting.assign_folds(own, 20, 1)


def test_no_network_describes_a_clip_that_it_has_heard(clips, tmp_path, monkeypatch):
    """Every clip's spectrogram is told apart by its first frame; fits and descriptions are watched."""
    heard: dict[str, set[bytes]] = {}
    fit, save, load, score = Autoencoder.fit, Autoencoder.save, Autoencoder.load.__func__, Autoencoder.score

    def spy_fit(self, spectrograms, *rest):
        self.heard = {x[0].tobytes() for x in spectrograms}
        return fit(self, spectrograms, *rest)

    def spy_save(self, path):
        heard[path.name] = self.heard
        save(self, path)

    def spy_load(cls, path, config):
        model = load(cls, path, config)
        model.name = path.name
        return model

    seen: list[tuple[str, bytes]] = []
    monkeypatch.setattr(Autoencoder, "fit", spy_fit)
    monkeypatch.setattr(Autoencoder, "save", spy_save)
    monkeypatch.setattr(Autoencoder, "load", classmethod(spy_load))
    monkeypatch.setattr(
        Autoencoder, "score", lambda self, x: seen.append((self.name, x[0].tobytes())) or score(self, x)
    )
    cross_fitting.train(training(clips), CONFIG, RATE, tmp_path, seed=4, workers=2)
    rows = cross_fitting.describe(clips, CONFIG, RATE, tmp_path, seed=4, workers=2)
    assert rows.shape == (len(clips), 1)
    assert sorted(heard) == sorted(f"{m}{k}.safetensors" for m in ("mill", "lathe") for k in ("", *FOLD_NAMES))
    everything = {m: heard[f"{m}.safetensors"] for m in ("mill", "lathe")}
    assert all(len(own) == 13 for own in everything.values())
    assert len(seen) == len(clips)
    for name, clip in seen:
        assert clip not in heard[name]
        machine = name.split("-")[0].removesuffix(".safetensors")
        # A test clip meets the network that has heard all.
        assert (clip in everything[machine]) == ("-fold" in name)
    # Each fold's network lacks its own clips alone.
    for machine in everything:
        left_out = [everything[machine] - heard[f"{machine}{k}.safetensors"] for k in FOLD_NAMES]
        assert set.union(*left_out) == everything[machine]
        assert sum(map(len, left_out)) == 13


FOLD_NAMES = ("-fold0", "-fold1", "-fold2")


@pytest.mark.parametrize(("score", "width"), [("mse", 1), ("mahalanobis", 2), ("residual", 128)])
def test_rows_of_each_kind_come_from_the_same_networks(clips, tmp_path, score, width):
    config = replace(CONFIG, folds=0, score=score)
    cross_fitting.train(training(clips), config, RATE, tmp_path, seed=4)
    rows = cross_fitting.describe(clips, config, RATE, tmp_path, seed=4)
    assert (rows.shape, rows.dtype) == ((len(clips), width), np.float32)
    model = Autoencoder.load(tmp_path / "lathe.safetensors", cross_fitting.settings(config, 4, "cpu"))
    index = next(i for i, clip in enumerate(clips) if clip.machine == "lathe" and clip.split == "test")
    spectrogram = cross_fitting.spectrogram(clips[index], RATE)
    expected = {"mse": model.score, "mahalanobis": model.distances, "residual": model.residual}[score](spectrogram)
    np.testing.assert_allclose(rows[index], np.atleast_1d(expected), rtol=1e-6)
    alone = cross_fitting.describe([*training(clips), clips[index]], config, RATE, tmp_path, seed=4)
    np.testing.assert_array_equal(alone[-1], rows[index])


def test_a_second_run_trains_what_is_missing_only(clips, tmp_path, monkeypatch):
    cross_fitting.train(training(clips), CONFIG, RATE, tmp_path, seed=4)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "mill-fold1.safetensors").unlink()
    fitted = []
    fit = Autoencoder.fit
    monkeypatch.setattr(Autoencoder, "fit", lambda self, x, *rest: fitted.append(len(x)) or fit(self, x, *rest))
    cross_fitting.train(training(clips), CONFIG, RATE, tmp_path, seed=4)
    assert len(fitted) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("workers", [1, 3])
def test_networks_do_not_depend_on_threads_or_workers(clips, tmp_path, monkeypatch, workers):
    own, seen, fit = [clip for clip in training(clips) if clip.machine == "mill"], [], Autoencoder.fit
    config = replace(CONFIG, folds=0, hidden=[128], epochs=2)
    before = torch.get_num_threads()
    try:
        for place, threads in (("one", 1), ("four", 4)):
            torch.set_num_threads(threads)
            with monkeypatch.context() as patch:
                patch.setattr(Autoencoder, "fit", lambda *args: seen.append(torch.get_num_threads()) or fit(*args))
                cross_fitting.train(own, config, RATE, tmp_path / place, seed=4, workers=workers)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1]
    assert (tmp_path / "one/mill.safetensors").read_bytes() == (tmp_path / "four/mill.safetensors").read_bytes()


def test_faults_are_named(clips, tmp_path):
    own = training(clips)
    short = tmp_path / "short.wav"
    audio.write(short, np.zeros((1, 1000), np.float32) + 0.1, RATE)
    bad = replace(own[0], path=str(short), samples=1000)
    with pytest.raises(
        WheeltapperError, match=r"short\.wav: expected at least 5 log-mel frames, 0\.128 s, found 0\.06"
    ):
        cross_fitting.train([bad, *own[1:]], CONFIG, RATE, tmp_path / "a", seed=4)
    with pytest.raises(WheeltapperError, match="expected a normal training clip, found anomaly test"):
        cross_fitting.train([replace(own[0], split="test", label="anomaly")], CONFIG, RATE, tmp_path / "b", seed=4)
    config, place = replace(CONFIG, folds=0), tmp_path / "c"
    cross_fitting.train(own, config, RATE, place, seed=4)
    with pytest.raises(WheeltapperError, match=r"short\.wav: .*5 frames or more, found one of 2"):
        cross_fitting.describe([*own, replace(clips[-1], path=str(short))], config, RATE, place, seed=4)
    with pytest.raises(WheeltapperError, match="saw: expected training clips for its autoencoder"):
        cross_fitting.describe([*own, replace(clips[-1], machine="saw")], config, RATE, place, seed=4)
    weights = place / "mill.safetensors"
    weights.write_bytes(weights.read_bytes()[:-20])
    with pytest.raises(WheeltapperError, match=r"mill\.safetensors: damaged"):
        cross_fitting.describe(clips, config, RATE, place, seed=4)
    (place / "folds.csv").write_text("no folds\n,\n")
    with pytest.raises(WheeltapperError, match=r"folds\.csv: expected folds"):
        cross_fitting.describe(clips, config, RATE, place, seed=4)


def test_the_scorer_takes_rows_as_they_are():
    rows = np.array([[3.0, 1.0], [0.5, 2.0], [4.0, 4.0]])
    scorer = PrecomputedScorer().fit(rows, np.array(["source"] * 3))
    np.testing.assert_array_equal(scorer.reference_scores(), [1.0, 0.5, 4.0])
    np.testing.assert_array_equal(scorer.score(rows[::-1]), [4.0, 0.5, 1.0])
    with pytest.raises(WheeltapperError, match="finite"):
        PrecomputedScorer().fit(rows * np.nan, np.array(["source"] * 3))


def scored(references: np.ndarray, domains: np.ndarray, tests: np.ndarray, threshold: str, batches=None) -> np.ndarray:
    """Decisions bool (M,) of one system of one branch on clips of which everything but the score is made up."""
    common = ("mill", "00")
    rows = [
        score_tables.ScoreRow(*common, "train", f"{i}.wav", d, s)
        for i, (d, s) in enumerate(zip(domains, references, strict=True))
    ]
    rows += [score_tables.ScoreRow(*common, "test", f"{i}.wav", "", s) for i, s in enumerate(tests)]
    raw = None if batches is None else {"mill": batches}
    system = SystemConfig(weights={"main": 1.0}, threshold=threshold)
    fused, thresholds = fused_scores.fuse_system({"main": rows}, system, 0.1, raw)
    return np.array([row.score > thresholds["mill", "00"] for row in fused if row.split == "test"])


def test_out_of_sample_references_give_the_rate_that_was_asked():
    """Normal clips score a common part and the luck of a clip; references that were learned from score 30 % lower."""
    rng = np.random.default_rng(0)
    domains = np.array(["source"] * 990 + ["target"] * 200)
    level = np.where(domains == "source", 10.0, 12.0)
    normal = rng.gamma(20.0, level / 20.0)
    tests = rng.gamma(20.0, np.repeat([10.0, 12.0], 2000) / 20.0)
    honest = scored(normal, domains, tests, "references")
    assert honest.mean() == pytest.approx(0.1, abs=0.02)
    assert scored(0.7 * normal, domains, tests, "references").mean() > 0.4


def test_a_raw_threshold_decides_as_on_the_raw_scores():
    rng = np.random.default_rng(1)
    references, tests = rng.gamma(9.0, 1.0, 50), rng.gamma(9.0, 1.0, 300)
    found = scored(references, np.array(["source"] * 50), tests, "batches", batches=9.25)
    np.testing.assert_array_equal(found, tests > 9.25)


def test_residuals_of_networks_that_never_heard_them_suit_the_mahalanobis_scorer(clips, tmp_path):
    config = replace(CONFIG, score="residual")
    cross_fitting.train(training(clips), config, RATE, tmp_path, seed=4)
    rows = cross_fitting.describe(clips, config, RATE, tmp_path, seed=4)
    by_key = {clip.key: row for clip, row in zip(clips, rows, strict=True)}
    found = machine_scores.score_machines(clips, by_key, ScorerConfig("mahalanobis", {"standardize": True}), seed=0)
    assert np.isfinite([row.score for row in found]).all()
    assert len(found) == len(clips)
