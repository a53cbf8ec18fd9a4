"""Spectrograms, unsupervised scores, AUCs and tables of a study."""

import csv

import numpy as np
import pytest
import soundfile
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor

from system import audio
from system.config import AutoencoderConfig, StudyLofConfig
from system.errors import WheeltapperError
from system.files import write_json
from system.frontends.logmel import mel_filterbank
from system.manifest import Clip
from system.study import features, results, unsupervised
from system.study.data import SplitRow, evaluated, references


def split_rows(count: int = 40) -> list[SplitRow]:
    parts = ("train", "train", "validation", "test")
    return [
        SplitRow(f"clip{i:02d}", "m", "00", f"{i}.wav", "", ("normal", "anomaly")[i % 3 == 0], parts[i % 4])
        for i in range(count)
    ]


def test_mono_is_the_mean_or_one_channel(tmp_path):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (500, 8)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    mean, rate = features.mono(tmp_path / "a.wav")
    np.testing.assert_allclose(mean.numpy(), wave.mean(1)[None], atol=1e-7)
    fourth, _ = features.mono(tmp_path / "a.wav", 3)
    np.testing.assert_array_equal(fourth.numpy(), wave[None, :, 3])
    assert rate == 16000
    with pytest.raises(WheeltapperError, match=r"a.wav: expected a channel 8, counted from 0, found 8 channels"):
        features.mono(tmp_path / "a.wav", 8)
    wave[7, 2] = np.nan
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    with pytest.raises(WheeltapperError, match=r"a.wav: expected finite samples, found 1"):
        features.mono(tmp_path / "a.wav")


def test_the_autoencoder_sees_what_the_paper_says(tmp_path):
    wave = np.random.default_rng(0).normal(size=(160000, 2)).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    clip = Clip("c", "m", "00", "train", "a.wav", str(tmp_path / "a.wav"), digest="00" * 16)
    with pytest.raises(WheeltapperError, match="expected the recording of the manifest"):
        features.log_mel_front_end().function(clip)
    clip = Clip("c", "m", "00", "train", "a.wav", clip.path, digest=audio.digest(clip.path))
    found = features.log_mel_front_end().function(clip)
    assert found.shape == (313, 64)
    # One frame by hand: windowed, transformed, in decibels of power through librosa's triangles.
    frame = wave.mean(1)[100 * 512 - 512 : 100 * 512 + 512] * np.hanning(1025)[:-1]
    power = np.abs(np.fft.rfft(frame.astype(np.float64))) ** 2
    expected = 10 * np.log10(mel_filterbank(16000, 1024, 64).numpy() @ power)
    np.testing.assert_allclose(found[100], expected, atol=1e-3)


def test_recordings_of_another_length_are_named():
    clips = [Clip("c", "m", "00", "train", n, n, samples=s, rate=16000) for n, s in (("a.wav", 9), ("b.wav", 8))]
    with pytest.raises(WheeltapperError, match=r"b.wav: expected 9 samples at 16000 Hz as in a.wav, found 8"):
        features.check_alike(clips)


def test_the_autoencoder_learns_from_normal_training_clips_alone():
    rows, generator = split_rows(), np.random.default_rng(0)
    spectrograms = generator.normal(size=(40, 8, 6)).astype(np.float32)
    config = AutoencoderConfig(hidden=[8], bottleneck=2, epochs=2, batch=16, validation=0.0)
    scores = unsupervised.autoencoder_scores(rows, list(spectrograms), config, 1)["autoencoder"]
    unseen = ~references(rows) & ~evaluated(rows)
    assert unseen.any()  # anomalous clips of the training part
    spectrograms[unseen] = np.nan
    again = unsupervised.autoencoder_scores(rows, list(spectrograms), config, 1)["autoencoder"]
    np.testing.assert_array_equal(again, scores)
    assert len(scores) == evaluated(rows).sum()
    other = unsupervised.autoencoder_scores(rows, list(spectrograms), config, 2)["autoencoder"]
    assert not np.array_equal(other, scores)


def test_local_outlier_factor_of_the_evaluated_clips():
    rows = split_rows(80)
    embeddings = np.random.default_rng(0).normal(size=(80, 12)).astype(np.float32)
    found = unsupervised.lof_scores(rows, embeddings, StudyLofConfig())
    own = [row.part == "train" and row.label == "normal" for row in rows]
    model = LocalOutlierFactor(n_neighbors=4, novelty=True, contamination=0.2).fit(embeddings[own].astype(float))
    tests = embeddings[evaluated(rows)].astype(float)
    np.testing.assert_allclose(found["lof"], -model.score_samples(tests), rtol=1e-9)
    np.testing.assert_array_equal(found["lof_vote"], model.predict(tests) < 0)
    embeddings[5, 3] = np.inf
    with pytest.raises(WheeltapperError, match="clip05: expected a finite embedding, found NaN or infinity"):
        unsupervised.lof_scores(rows, embeddings, StudyLofConfig())


def scores_file(folder, rows, seed=0, name="scores.csv", **columns):
    generator = np.random.default_rng(seed)
    count = int(evaluated(rows).sum())
    columns = columns or {"autoencoder": generator.normal(size=count)}
    results.write_scores(folder / name, rows, columns)
    return columns


def test_areas_are_those_of_scikit_learn(tmp_path):
    rows = split_rows()
    count = int(evaluated(rows).sum())
    vote = np.random.default_rng(1).integers(0, 2, count).astype(float)
    columns = scores_file(tmp_path, rows, lof=np.random.default_rng(0).normal(size=count), lof_vote=vote)
    found = results.read_aucs(tmp_path / "scores.csv")
    own = [row for row in rows if row.part != "train"]
    for key, part in (("auc", "test"), ("validation", "validation")):
        chosen = np.array([row.part == part for row in own])
        wrong = np.array([row.label == "anomaly" for row in own])[chosen]
        for name, values in columns.items():
            assert found[name][key] == pytest.approx(roc_auc_score(wrong, values[chosen]), abs=1e-12)


def test_a_validation_part_of_one_label_has_no_area(tmp_path):
    rows = [row for row in split_rows() if row.part != "validation" or row.label == "normal"]
    scores_file(tmp_path, rows)
    assert results.read_aucs(tmp_path / "scores.csv")["autoencoder"]["validation"] is None
    rows = [row for row in rows if row.part != "test" or row.label == "normal"]
    scores_file(tmp_path, rows)
    with pytest.raises(WheeltapperError, match=r"scores.csv: expected normal and anomalous test recordings"):
        results.read_aucs(tmp_path / "scores.csv")


@pytest.mark.parametrize("text", ["", "name,part,label,lof\na,test,normal,x\n", "name,part\na\n"])
def test_damaged_scores(text, tmp_path):
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(WheeltapperError, match=r"scores.csv: expected "):
        results.read_aucs(tmp_path / "scores.csv")


def test_results_of_a_scope_stand_in_the_papers_order(tmp_path):
    rows = split_rows()
    count = int(evaluated(rows).sum())
    noise = np.random.default_rng(0).normal(size=(6, count))
    for model in ("cnn", "ast"):
        (tmp_path / model).mkdir()
        scores_file(tmp_path / model, rows, name="supervised.csv", supervised=noise[0])
        scores_file(tmp_path / model, rows, name="lof.csv", lof_vote=noise[1], lof_share=noise[2], lof=noise[3])
    (tmp_path / "autoencoder").mkdir()
    scores_file(tmp_path / "autoencoder", rows)
    found = results.scope_results(tmp_path, ["cnn", "ast"], rows)
    assert [row["row"] for row in found["results"]][:5] == [
        "Autoencoder",
        "CNN - supervised",
        "AST - supervised",
        "CNN - LOF",
        "AST - LOF",
    ]
    assert len(found["results"]) == 9
    assert found["clips"]["test"] == {"normal": 6, "anomaly": 4}


def study(path, seed: int, auc: float, **more) -> str:
    row = {"model": "ast", "method": "lof", "row": "AST - LOF, factor", "auc": auc, "validation": None}
    scopes = {"fan_00": {"clips": {}, "results": [row]}}
    write_json(path, {"format": 1, "seed": seed, "scopes": scopes} | more)
    return str(path)


def test_table_of_several_studies(tmp_path):
    values = [0.8, 0.9, 0.7]
    paths = [study(tmp_path / f"{seed}.json", seed, auc) for seed, auc in enumerate(values)]
    results.write_table(tmp_path, results.read_results(paths))
    with open(tmp_path / "table.csv", newline="") as file:
        (line,) = csv.DictReader(file)
    assert float(line["fan_00"]) == pytest.approx(0.8)
    assert float(line["fan_00_std"]) == pytest.approx(np.std(values, ddof=1), abs=1e-4)
    assert "| AST - LOF, factor | 0.8000 ± 0.1000 |" in (tmp_path / "table.md").read_text()


def test_one_study_has_no_spread(tmp_path):
    table = results.read_results([study(tmp_path / "r.json", 1, 0.75)])
    results.write_table(tmp_path, table)
    assert "| AST - LOF, factor | 0.7500 |" in (tmp_path / "table.md").read_text()


def test_results_that_do_not_belong_together(tmp_path):
    paths = [study(tmp_path / name, 1, 0.8) for name in ("a.json", "b.json")]
    with pytest.raises(WheeltapperError, match=r"b.json: expected studies of different seeds, found that of .*a.json"):
        results.read_results(paths)
    study(tmp_path / "c.json", 2, 0.8, format=7)
    with pytest.raises(WheeltapperError, match=r"c.json: expected results of format 1, found 7"):
        results.read_results([tmp_path / "c.json"])
    study(tmp_path / "c.json", 2, 0.8, scopes=[])
    with pytest.raises(WheeltapperError, match=r"c.json: expected results of a study, found a damaged file"):
        results.read_results([tmp_path / "c.json"])
