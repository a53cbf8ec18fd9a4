import json
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from system import audio, manifest
from system.config import SourceConfig
from system.errors import WheeltapperError
from system.manifest import Clip
from system.pretraining.corpus import ClipCorpus, Mixture, Pick, describe, open_corpus
from system.pretraining.shards import ROW, ShardFolder, write_shards
from system.training.crops import read_crop


class Toy:
    """A corpus of numbers: sample i of clip c is 1000 c + i, plus 0.25 k in channel k."""

    def __init__(self, rates: list[int], channels: int = 1, samples: int = 500):
        self.rates = np.array(rates)
        self.channels, self.samples = np.full(len(rates), channels), np.full(len(rates), samples)

    def __len__(self) -> int:
        return len(self.rates)

    def crop(self, index: int, channel: int, start: int, samples: int) -> np.ndarray:
        return (1000 * index + 0.25 * channel + np.arange(start, start + samples)).astype(np.float32)


class Silent(Toy):
    def crop(self, index: int, channel: int, start: int, samples: int) -> np.ndarray:
        return np.full(samples, 0.5, np.float32)


@pytest.fixture
def clips(record) -> list[Clip]:
    sizes = [(0.5, 1, 8000), (0.4, 2, 8000), (0.1, 1, 16000), (0.6, 2, 12000)]
    return [record(f"{n}.wav", s, c, rate, seed=n) for n, (s, c, rate) in enumerate(sizes)]


def in_format(clip: Clip, kind: str) -> Clip:
    """The same sound in another format."""
    wave, rate = soundfile.read(clip.path)
    path = Path(clip.path).with_suffix(f".{kind}")
    soundfile.write(path, wave, rate)
    return replace(clip, file=path.name, path=str(path), digest=audio.digest(path))


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_a_manifest_and_its_shards_are_one_corpus(clips, tmp_path, kind):
    clips = [in_format(clip, kind) for clip in clips]
    manifest.write(tmp_path / "manifest.csv", clips)
    write_shards(clips, tmp_path / "shards")
    files, shards = open_corpus(tmp_path / "manifest.csv"), open_corpus(tmp_path / "shards")
    assert len(files) == len(shards) == len(clips)
    for name, field in (("rates", "rate"), ("samples", "samples"), ("channels", "channels")):
        for corpus in (files, shards):
            assert getattr(corpus, name).tolist() == [getattr(clip, field) for clip in clips]
    for index, clip in enumerate(clips):
        whole = soundfile.read(clip.path, dtype="float32", always_2d=True)[0].T
        step = 0.0 if kind != "ogg" else 0.51 * np.abs(whole).max() / 32767
        for channel in range(clip.channels):
            np.testing.assert_array_equal(files.crop(index, channel, 300, 700), whole[channel, 300:1000])
            np.testing.assert_allclose(shards.crop(index, channel, 300, 700), whole[channel, 300:1000], 0, step)


def test_paths_that_are_no_corpus(clips, tmp_path):
    with pytest.raises(WheeltapperError, match=r"nothing\.csv: expected a manifest"):
        open_corpus(tmp_path / "nothing.csv")
    with pytest.raises(WheeltapperError, match=r"shards\.json: expected the record of finished shards"):
        open_corpus(tmp_path)
    for fields, found in (({"split": "test"}, "test"), ({"label": "anomaly"}, "anomaly train")):
        manifest.write(tmp_path / "m.csv", [*clips[:2], replace(clips[2], **fields)])
        with pytest.raises(WheeltapperError, match=rf"m\.csv: .*2\.wav: expected a normal .* found .*{found}"):
            open_corpus(tmp_path / "m.csv")
        with pytest.raises(WheeltapperError, match=r"2\.wav: expected a normal training clip"):
            Mixture.of_clips(manifest.read(tmp_path / "m.csv"))


def test_a_file_that_changed_since_the_manifest(clips):
    corpus = ClipCorpus([replace(clips[0], rate=16000)])
    with pytest.raises(WheeltapperError, match=r"0\.wav: expected 16000 Hz and 1 channels .*found 8000 Hz and 1"):
        corpus.crop(0, 0, 0, 10)


def test_rates_of_batches():
    mixture = Mixture([Toy([8000, 44100]), Toy([16000])])
    assert mixture.batch_rates(4000, 8000, 16000) == [8000, 12000, 16000]
    assert mixture.batch_rates(4000, 9000, 96000) == [12000, 16000, 20000, 24000, 28000, 32000, 36000, 40000, 44000]
    assert mixture.batch_rates(50000, 8000, 96000) == [44100]
    assert mixture.batch_rates(50000, 8000, 44000) == [16000]
    assert Mixture([Toy([6000])]).batch_rates(4000, 8000, 16000) == [6000]
    with pytest.raises(WheeltapperError, match="found neither; the recordings have up to 44100 Hz"):
        mixture.batch_rates(5000, 6000, 7000)


def test_draws_are_clips_of_the_rate_and_above_alike_in_number():
    mixture = Mixture([Toy([8000, 48000, 16000, 15999]), Toy([8000] * 5), Toy([16000, 44100], channels=3)])
    picks = mixture.draw(16000, 8000, np.random.default_rng(0))
    found = Counter((pick.corpus, pick.index) for pick in picks)
    assert set(found) == {(0, 1), (0, 2), (2, 0), (2, 1)}
    assert all(abs(count - 2000) < 200 for count in found.values())
    channels = Counter(pick.channel for pick in picks if pick.corpus == 2)
    assert set(channels) == {0, 1, 2}
    assert all(abs(count - 4000 / 3) < 160 for count in channels.values())
    assert {pick.channel for pick in picks if pick.corpus == 0} == {0}
    assert len({(p.corpus, p.index) for p in mixture.draw(8000, 1000, np.random.default_rng(0))}) == 11
    with pytest.raises(WheeltapperError, match="expected some of 48001 Hz or above, found up to 48000"):
        mixture.draw(48001, 1, np.random.default_rng(0))


def test_weights_hold_among_the_corpora_that_have_such_clips():
    mixture = Mixture([Toy([8000]), Toy([16000] * 9), Toy([16000])], [6.0, 1.0, 3.0])
    for rate, expected in ((8000, [0.6, 0.1, 0.3]), (16000, [0.0, 0.25, 0.75])):
        picks = mixture.draw(rate, 10000, np.random.default_rng(1))
        shares = np.bincount([pick.corpus for pick in picks], minlength=3) / len(picks)
        np.testing.assert_allclose(shares, expected, atol=0.02)


@pytest.mark.parametrize("weights", [[0.5, 0.0], [-1.0, 2.0]])
def test_weights_that_have_no_meaning(weights):
    with pytest.raises(WheeltapperError, match="expected one above 0 for each, or none"):
        Mixture([Toy([8000]), Toy([8000])], weights)
    with pytest.raises(WheeltapperError, match="found none"):
        Mixture([Toy([8000]), Toy([])])


def test_crops_lie_anywhere_and_short_clips_come_whole():
    mixture = Mixture([Toy([100, 100], channels=2, samples=500)])
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(3000):
        wave, rate = mixture.crop(Pick(0, 1, 1, 100), 4.0, rng)
        assert rate == 100
        assert wave.dtype == np.float32
        start = int(wave[0] - 1000.25)
        np.testing.assert_array_equal(wave, 1000.25 + start + np.arange(401))
        starts.add(start)
    assert starts == set(range(100))
    wave, _ = mixture.crop(Pick(0, 0, 0, 100), 7.0, rng)
    np.testing.assert_array_equal(wave, np.arange(500))


def test_a_crop_is_that_of_the_other_training(clips):
    wave, rate = Mixture.of_clips(clips).crop(Pick(0, 1, 1, 8000), 0.3, np.random.default_rng(5))
    other = read_crop(clips[1], 0.3, 8000, np.random.default_rng(5))
    np.testing.assert_array_equal(wave[: round(0.3 * rate)], other[1])


def test_a_crop_depends_on_its_own_generator_alone(clips, tmp_path):
    write_shards(clips, tmp_path / "shards")
    manifest.write(tmp_path / "m.csv", clips)
    sources = [SourceConfig(str(tmp_path / "shards"), 1.0), SourceConfig(str(tmp_path / "m.csv"), 2.0)]
    mixture = Mixture.open(sources)

    def crop(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return mixture.crop(mixture.draw(8000, 1, rng)[0], 0.2, rng)[0]

    alone = [crop(seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(crop, reversed(range(40))))[::-1]
    mixture = Mixture.open(sources)
    again = [crop(seed) for seed in (7, 3)]
    for one, other in zip([*alone, alone[7], alone[3]], [*together, *again], strict=True):
        np.testing.assert_array_equal(one, other)
    assert len({wave.tobytes() for wave in alone}) > 25  # the shortest clip is used as a whole


def test_in_the_place_of_a_constant_crop_another_is_drawn():
    mixture = Mixture([Silent([16000] * 9), Toy([8000, 16000])])
    picks = mixture.draw(16000, 200, np.random.default_rng(0))
    assert sum(pick.corpus == 0 for pick in picks) > 160
    for seed, pick in enumerate(picks):
        wave, rate = mixture.crop(pick, 0.01, np.random.default_rng(seed))
        assert rate == 16000  # never the clip whose rate is too low
        assert 1000 <= wave[0] < wave[-1]
    with pytest.raises(
        WheeltapperError, match=r"expected sound, found 100 crops of 0\.01 s in a row that are constant"
    ):
        Mixture([Silent([16000])]).crop(Pick(0, 0, 0, 8000), 0.01, np.random.default_rng(0))


def test_what_a_source_is_said_to_hold(clips, tmp_path):
    (tmp_path / "drones").mkdir()
    manifest.write(tmp_path / "drones" / "manifest.csv", clips)
    manifest.write(tmp_path / "learn.csv", clips)
    write_shards(clips, tmp_path / "shards")
    hours = sum(clip.samples / clip.rate for clip in clips) / 3600
    said = {"clips": 4, "hours": pytest.approx(hours, abs=1e-4), "fingerprint": manifest.fingerprint(clips)}
    for path, name in (("drones/manifest.csv", "drones"), ("learn.csv", "learn"), ("shards", "shards")):
        assert describe(SourceConfig(str(tmp_path / path), 0.25)) == said | {"name": name, "weight": 0.25}
        assert describe(SourceConfig(str(tmp_path / path)))["weight"] == 4


def test_a_million_clips_open_in_seconds_and_little_memory(tmp_path):
    count, per_shard = 1_000_000, 10_000
    index = np.zeros(count, ROW)
    index["shard"], index["offset"] = np.divmod(np.arange(count), per_shard)
    index["offset"] *= 1000
    index["samples"], index["channels"], index["scale"] = 1000, 1, 1 / 32768
    index["rate"] = np.random.default_rng(0).choice([8000, 16000, 48000], count)
    fast = index["rate"] >= 16000
    np.save(tmp_path / "index.npy", index)
    shards = [{"bytes": 2000 * per_shard, "sha256": "", "clips": per_shard}] * (count // per_shard)
    for number in range(len(shards)):
        with open(tmp_path / f"{number:05d}.pcm", "wb") as file:
            file.truncate(2000 * per_shard)  # sparse
    size = (tmp_path / "index.npy").stat().st_size
    assert size < 40e6
    record = {"version": 1, "fingerprint": "", "corpora": ["toy"], "hours": 1.0, "clips": count, "shards": shards}
    (tmp_path / "shards.json").write_text(json.dumps(record | {"index": {"bytes": size, "sha256": ""}}))
    del index

    tracemalloc.start()
    mixture = Mixture([ShardFolder(tmp_path)])
    picks = mixture.draw(16000, 2000, np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 160e6  # and the map of the index, below 40 MB
    assert fast[[pick.index for pick in picks]].all()
    assert max(pick.index for pick in picks) > 990_000
