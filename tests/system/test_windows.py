"""Windows: where recordings are cut, what is read of them, and the score of a recording from its windows."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from system import audio, fused_scores, score_tables, waveforms, windows
from system.config import DataConfig, SystemConfig
from system.embeddings import files
from system.manifest import Clip
from system.score_tables import ScoreRow
from system.scoring import calibrate
from system.tuning.objective import UnitWindows

RATE = 100
HOP = DataConfig().hop


def clip(seconds: float, file: str = "a.wav", split: str = "train", machine: str = "Fan", **more) -> Clip:
    return Clip("c", machine, "00", split, file, file, rate=RATE, samples=round(seconds * RATE), **more)


def row(score: float, file: str = "a.wav", start: int = 0, window: int = 0, split: str = "test", domain="") -> ScoreRow:
    return ScoreRow("Fan", "00", split, file, domain, score, "", start, window)


def plain_scores(starts, length: int, single, tail: float) -> list[float]:
    """The formula, window by window."""
    found = []
    for i, score in enumerate(single):
        heard = [single[j] for j in (i - 1, i + 1) if 0 <= j < len(single) and abs(starts[j] - starts[i]) < length]
        inner = 0 < i < len(single) - 1 and len(heard) == 2
        found.append(min(score, max(heard)) if inner else score)
    covered = starts[-1] + length - starts[0]
    return [score - tail * math.log(covered / length) for score in found]


# Lengths


@pytest.mark.parametrize(
    ("seconds", "configured", "expected"),
    [
        ([6.0] * 5, 0.0, 6.0),
        ([2, 3, 5, 8], 0.0, 3.0),  # the lower one of two medians is some recording's length
        ([2, 3, 5, 8, 700], 0.0, 5.0),
        ([20.0] * 3, 0.0, 20.0),
        ([20.5] * 3, 0.0, 10.0),
        ([600.0], 0.0, 10.0),
        ([600.0], 3.5, 3.5),
    ],
)
def test_the_window_is_the_length_of_the_references(seconds, configured, expected):
    clips = [clip(s, f"{i}.wav") for i, s in enumerate(seconds)] + [clip(1.0, "t.wav", "test")] * 9
    assert windows.lengths(clips, DataConfig(window=configured)) == {("Fan", "00"): expected}


def test_each_machine_has_its_own_window():
    clips = [clip(6.0), clip(2.0, machine="Pump"), clip(9.0, split="test", machine="Other")]
    assert windows.lengths(clips, DataConfig()) == {("Fan", "00"): 6.0, ("Pump", "00"): 2.0}
    assert windows.expand(clips, DataConfig())[2] is clips[2]  # nothing is known of a machine without references


@pytest.mark.parametrize("factor", [0.5, 0.75, 0.9, 1.1, 1.5, 2, 3, 5, 10, 10.03])
@pytest.mark.parametrize("hop", [0.5, 1.0, 0.3])
def test_windows_cover_a_recording_at_equal_distances(factor, hop):
    whole, length = clip(4.0 * factor), 4 * RATE
    parts = windows.cut(whole, 4.0, hop)
    assert {part.window for part in parts} == {length}
    assert all(replace(part, start=0, window=0) == whole for part in parts)
    starts = [part.start for part in parts]
    if factor <= 1:
        assert starts == [0]
        assert parts[0].held == whole.samples
        return
    step = round(hop * length)
    assert starts[:-1] == list(range(0, step * (len(parts) - 1), step))
    assert starts[-1] == whole.samples - length  # the last one ends with the recording
    assert 0 < starts[-1] - starts[-2] <= step
    assert {s for start in starts for s in range(start, start + length)} == set(range(whole.samples))


@pytest.mark.parametrize("factor", [0.955, 0.97, 1.0, 1.03, 1.045])
def test_a_recording_of_about_that_length_stays_as_it_is(factor):
    whole = clip(4.0 * factor)
    assert windows.cut(whole, 4.0, HOP) == [whole]


@pytest.mark.parametrize("factor", [0.94, 1.06])
def test_beyond_five_per_cent_it_does_not(factor):
    assert all(part.window == 400 for part in windows.cut(clip(4.0 * factor), 4.0, HOP))


def test_equal_recordings_are_neither_cut_nor_said_to_be():
    clips = [clip(6.0, f"{i}.wav", "train" if i < 5 else "test") for i in range(9)]
    expanded = windows.expand(clips, DataConfig())
    assert all(a is b for a, b in zip(clips, expanded, strict=True))
    assert windows.settings(clips, DataConfig()) == {}
    assert windows.settings([*clips, clip(60.0, "long.wav", "test")], DataConfig(hop=0.25)) == {
        "windows": {"window": 0.0, "hop": 0.25}
    }


# Reading


def test_a_short_recording_is_repeated_and_a_long_one_read_in_parts(tmp_path, monkeypatch):
    path = tmp_path / "x.wav"
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (1000, 3)).astype(np.float32)
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    whole = Clip("c", "Fan", "00", "test", "x.wav", str(path), channels=3, rate=RATE, samples=1000)
    asked, read = [], audio.read

    def counted(path, start=0, samples=-1):
        asked.append((start, samples))
        return read(path, start, samples)

    monkeypatch.setattr(audio, "read", counted)
    for part in windows.cut(whole, 3.0, HOP):
        wave, rate = waveforms.read(part)
        np.testing.assert_array_equal(wave, samples.T[:2, part.start : part.start + 300])
        assert rate == RATE
    assert asked == [(start, 300) for start in (0, 150, 300, 450, 600, 700)]
    (repeated,) = windows.cut(whole, 25.0, HOP)
    wave, _ = waveforms.read(repeated)
    np.testing.assert_array_equal(wave, np.concatenate([samples, samples, samples[:500]]).T[:2])


# Scores


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("tail", [0.0, 0.7])
@pytest.mark.parametrize("hop", [1, 2, 4])
def test_scores_of_windows_are_the_formula(count, tail, hop):
    starts = [2 * hop * i for i in range(count - 1)] + [2 * hop * (count - 1) - (count > 1)]
    own = [row(0.0, start=start, window=8) for start in starts]
    single = np.random.default_rng(count).normal(size=(3, count))
    found = windows.scores(own, single, np.array([tail, 0.0, 2 * tail]))
    expected = [plain_scores(starts, 8, s, t) for s, t in zip(single, (tail, 0.0, 2 * tail), strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_one_loud_window_does_not_count_but_two_do():
    own = [row(0.0, start=5 * i, window=10) for i in range(6)]
    assert windows.scores(own, np.array([0.0, 0, 9, 0, 0, 0]), 0.0).max() == 0
    assert windows.scores(own, np.array([0.0, 0, 9, 8, 0, 0]), 0.0).tolist() == [0, 0, 8, 8, 0, 0]
    assert windows.scores(own, np.array([0.0, 0, 0, 0, 0, 7]), 0.0).max() == 7  # the very end is heard once only


def test_the_tail_is_the_mean_excess_over_the_upper_quartile():
    scores = np.random.default_rng(0).exponential(2.0, 20000)
    assert windows.tail_scale(scores) == pytest.approx(2.0, rel=0.05)
    few = [0.0, 1.0, 2.0, 3.0, 10.0]
    assert windows.tail_scale(np.array(few)) == pytest.approx(10.0 - 3.0)
    assert windows.tail_scale(np.ones(7)) == 0


def test_one_threshold_holds_for_all_lengths():
    """Normal recordings of any length exceed the threshold of single windows at most as often as asked."""
    generator = np.random.default_rng(0)
    tail = windows.tail_scale(generator.exponential(1.0, 100_000))
    limit = math.log(10)  # exceeded by one exponential number in ten
    for count in (1, 2, 3, 5, 20):
        own = [row(0.0, start=5 * i, window=10) for i in range(count)]
        halves = generator.gamma(0.5, size=(40_000, count + 1))  # two of them add up to an exponential number
        found = windows.scores(own, halves[:, :-1] + halves[:, 1:], tail).max(axis=-1)
        assert (found > limit).mean() < 0.108, count


def test_three_recordings_are_left_out_as_wholes_and_of_fewer_pieces():
    few = [row(0, f"t{i}.wav", 5 * part, 10, "train", "target") for i in range(2) for part in range(20)]
    many = [row(0, f"s{i}.wav", 5 * part, 10, "train", "source") for i in range(3) for part in range(20)]
    rows = [*many, *few]
    found = windows.left_out(rows)
    assert len(np.unique(found)) == 3 + 10
    for i in range(3):
        assert len(np.unique(found[20 * i : 20 * i + 20])) == 1
    apart = {(found[i], found[j]) for i in range(100) for j in range(100) if rows[i].file != rows[j].file}
    assert all(one != other for one, other in apart)
    own = windows.pieces(rows)[60:]
    assert [(found[60 + i] == found[60]) for i in range(40)] == [(own[i] == own[0]) for i in range(40)]


def test_recordings_of_a_large_domain_are_one_reference_each():
    rows = [row(0, f"{i}.wav", start, 10, "train", "source") for i in range(12) for start in (0, 5, 10)]
    assert windows.pieces(rows).tolist() == [i for i in range(12) for _ in range(3)]


def test_one_long_recording_is_many_references():
    rows = [row(0, "long.wav", 5 * i, 10, "train", "source") for i in range(119)]
    order = np.random.default_rng(0).permutation(119)
    found = windows.pieces([rows[i] for i in order])
    numbers = np.empty(119, int)
    numbers[order] = found
    assert (np.diff(numbers) >= 0).all()  # stretches
    assert numbers.max() + 1 == windows.FEWEST
    assert np.ptp(np.bincount(numbers)) <= 1
    short = windows.pieces([row(0, "s.wav", 5 * i, 10, "train", "") for i in range(7)])
    assert np.bincount(short).tolist() == [3, 2, 2]  # two windows or more each
    two = windows.pieces([row(0, "s.wav", 0, 10, "train", "source"), row(0, "s.wav", 0, 10, "train", "target")])
    assert two.tolist() == [0, 1]


def references(generator, count: int = 12, parts: int = 3) -> list[ScoreRow]:
    return [
        row(float(generator.normal()), f"r{i:02d}.wav", 5 * part, 10, "train", "source" if i else "target")
        for i in range(count)
        for part in range(parts)
    ]


def test_recordings_collapse_by_the_formula():
    generator = np.random.default_rng(0)
    normal = references(generator)
    tests = [row(float(generator.normal()), "long.wav", 5 * i, 10) for i in range(9)] + [row(0.3, "one.wav")]
    singles = np.array([r.score for r in normal])
    level = np.quantile(singles, 0.75)
    tail = float(np.mean(singles[singles > level] - level))
    found = {(r.split, r.file, r.start, r.window): r.score for r in fused_scores.collapse([*tests, *normal])}
    assert len(found) == 24 + 2
    own = [r.score for r in tests[:9]]
    assert found["test", "long.wav", 0, 0] == pytest.approx(max(plain_scores(range(0, 45, 5), 10, own, tail)))
    assert found["test", "one.wav", 0, 0] == 0.3
    for i in range(12):  # of windows at 0, 5 and 10 the first and the last do not overlap
        assert found["train", f"r{i:02d}.wav", 0, 10] == singles[3 * i]
        assert found["train", f"r{i:02d}.wav", 10, 10] == singles[3 * i + 2]


def test_a_reference_that_is_hardly_longer_or_shorter_is_one():
    rows = [row(1.0, "a.wav", 0, 10, "train"), row(9.0, "a.wav", 4, 10, "train"), row(2.0, "b.wav", 0, 10, "train")]
    found = fused_scores.collapse(rows)
    assert [(r.file, r.score, r.row) for r in found] == [(r.file, r.score, r.key) for r in (rows[0], rows[2])]


def test_a_system_collapses_before_its_threshold():
    generator = np.random.default_rng(0)
    normal = references(generator, 20)
    branches = {
        name: [replace(r, score=float(generator.normal(5, 2))) for r in [*normal, row(0.0, "x.wav", 0, 10)]]
        for name in ("a", "b")
    }
    system = SystemConfig(weights={"a": 3.0, "b": 1.0})
    found, thresholds = fused_scores.fuse_system(branches, system, 0.2)
    zs = []
    for rows in branches.values():
        scores = np.array([r.score for r in rows])
        center = np.median(scores[:60])
        zs.append((scores - center) / (1.4826 * np.median(np.abs(scores[:60] - center))))
    fused = 0.75 * zs[0] + 0.25 * zs[1]
    collapsed = fused_scores.collapse([replace(r, score=s) for r, s in zip(branches["a"], fused, strict=True)])
    np.testing.assert_allclose([r.score for r in found], [r.score for r in collapsed], rtol=1e-9)
    own = [r for r in collapsed if r.split == "train"]
    scores, domains = np.array([r.score for r in own]), np.array([r.domain for r in own])
    assert thresholds["Fan", "00"] == pytest.approx(calibrate.threshold(scores, domains, 0.2))


def test_tuning_collapses_to_the_same_bits():
    generator = np.random.default_rng(0)
    normal = references(generator, 12)
    clips = [
        [row(0.0, f"t{i}.wav", 5 * part, 10) if parts > 1 else row(0.0, f"t{i}.wav") for part in range(parts)]
        for i, parts in enumerate((1, 4, 2, 1, 9))
    ]
    scores = generator.normal(size=(5, sum(map(len, clips)) + len(normal)))
    found = UnitWindows(clips, len(normal)).collapse(scores)
    for own, line in zip(scores, found, strict=True):
        rows = [replace(r, score=s) for r, s in zip([r for c in clips for r in c] + normal, own.tolist(), strict=True)]
        expected = {r.file: r.score for r in fused_scores.collapse(rows) if r.split == "test"}
        assert line.tolist() == [expected[c[0].file] for c in clips]


# Files


def test_tables_name_windows_only_where_there_are_any(tmp_path):
    whole = [row(1.5), row(0.1, "b.wav", split="train", domain="source")]
    cut = [row(1.5, "b.wav"), row(0.25, start=5, window=10)]
    for rows, columns in ((whole, []), (cut, ["start", "window"])):
        score_tables.write_rows(tmp_path / "s.csv", rows)
        assert score_tables.read_rows(tmp_path / "s.csv") == rows
        with open(tmp_path / "s.csv", newline="") as file:
            assert next(csv.reader(file)) == [*score_tables.COLUMNS, *columns]


def test_embeddings_are_found_by_window(tmp_path):
    clips = [clip(4.0), clip(9.0, "long.wav", "test")]
    parts = windows.expand(clips, DataConfig())
    assert len(parts) == 1 + 4
    files.write_index(tmp_path / "i.csv", parts)
    files.write_array(tmp_path / "a.npy", np.arange(10.0).reshape(5, 2))
    rows = files.read_rows(tmp_path / "i.csv", tmp_path / "a.npy")
    assert list(rows) == [part.row for part in parts]
    assert windows.stored(clips, windows.by_clip(rows)) == parts
    with pytest.raises(KeyError, match=r"other\.wav"):
        windows.stored([clip(1.0, "other.wav")], windows.by_clip(rows))
    files.write_index(tmp_path / "i.csv", clips)
    assert (tmp_path / "i.csv").read_text().splitlines()[0] == "machine,section,split,file"
