"""Copies of recordings against recordings that are made as copies, and ones that only sound alike."""

import io
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from system import audio
from system.bin import main
from system.corpora import copies
from system.errors import WheeltapperError
from system.manifest import Clip, read

RATE = 16000


def machine(seed: int, seconds: float = 4.0) -> np.ndarray:
    """A take of a machine with tones that are the same in all takes, strokes at the same times, and noise."""
    generator, time = np.random.default_rng(seed), np.arange(round(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * f * time + generator.uniform(0, 6)) / n for n, f in enumerate((120, 240, 1730), 1))
    stroke = np.exp(-40 * (time % 0.5)) * np.sin(2 * np.pi * 900 * time)
    noise = np.convolve(generator.normal(size=len(time)), [1.0, 0.7, 0.4], "same")
    return (0.05 * tones + 0.3 * stroke + 0.05 * noise).astype(np.float32)


def save(folder, name, wave, split="train", rate=RATE, subtype="PCM_16", **fields) -> Clip:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.atleast_2d(wave)
    soundfile.write(path, wave.T, rate, subtype=subtype)
    info = audio.probe(path)
    known = {"channels": info.channels, "rate": info.rate, "samples": info.samples, "digest": audio.digest(path)}
    return Clip("test", "Fan", "00", split, name, str(path), **known | fields)


def encoded(wave: np.ndarray, kind: str, subtype: str) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format=kind, subtype=subtype)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


CHANGES = {
    "another header": (lambda wave: wave, {"subtype": "PCM_16"}),
    "24 bits": (lambda wave: wave, {"subtype": "PCM_24"}),
    "8 bits": (lambda wave: wave, {"subtype": "PCM_U8"}),
    "float": (lambda wave: wave, {"subtype": "FLOAT"}),
    "20 dB quieter": (lambda wave: 0.1 * wave, {}),
    "inverted": (lambda wave: -wave, {}),
    "7 samples cut": (lambda wave: wave[7:], {}),
    "the end cut": (lambda wave: wave[:-300], {}),
    "half a second cut": (lambda wave: wave[RATE // 2 :], {}),
    "vorbis": (lambda wave: encoded(wave, "OGG", "VORBIS"), {}),
    "mp3": (lambda wave: encoded(wave, "MP3", "MPEG_LAYER_III"), {}),
    "two channels": (lambda wave: np.stack([0.9 * wave, 0.5 * wave]), {}),
    "every second sample": (
        lambda wave: np.convolve(wave, np.sinc(np.arange(-32, 33) / 2) / 2, "same")[::2],
        {"rate": 8000},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_takes_that_sound_alike(tmp_path, change):
    clips = [save(tmp_path, f"{seed}.wav", machine(seed)) for seed in range(4)]
    edit, fields = CHANGES[change]
    name = "9.flac" if change == "another header" else "9.wav"
    clips.append(save(tmp_path, name, edit(machine(2)), **fields))
    assert copies.find(clips) == [copies.Copy(clips[-1].key, "2.wav", False)]


WITHIN = {
    "the first quarter": lambda wave: wave[:RATE],
    "the last half": lambda wave: -0.3 * wave[2 * RATE :],
    "twice in a row": lambda wave: np.tile(wave, 2),
    "at the end of a long one": lambda wave: np.concatenate([machine(9, 36.21), wave]),
    "between silence": lambda wave: np.pad(wave, 3 * RATE + 77),
    "shifted by 0.9 s": lambda wave: np.concatenate([wave[int(0.9 * RATE) :], machine(9, 0.9)]),
}


@pytest.mark.parametrize("change", WITHIN)
def test_a_recording_that_lies_within_another(tmp_path, change):
    clips = [save(tmp_path, f"{seed}.wav", machine(seed)) for seed in range(4)]
    clips.append(save(tmp_path, "9.wav", WITHIN[change](machine(2))))
    assert copies.find(clips) == [copies.Copy(clips[-1].key, "2.wav", False)]


def test_neighbours_that_overlap_by_half_are_no_copies(tmp_path):
    whole = machine(0, 12.0)
    clips = [save(tmp_path, f"{start}.wav", whole[start * RATE : (start + 4) * RATE]) for start in range(0, 9, 2)]
    assert copies.find(clips) == []


def test_a_copied_file_is_equal(tmp_path):
    clips = [save(tmp_path, name, machine(seed)) for name, seed in (("a.wav", 0), ("b.wav", 1), ("c.wav", 0))]
    assert copies.find(clips) == [copies.Copy(clips[2].key, "a.wav", True)]


def test_training_recordings_among_the_test_recordings(tmp_path):
    train = [save(tmp_path, f"{seed}.wav", machine(seed)) for seed in range(3)]
    test = [
        save(tmp_path, f"t{n}.wav", gain * machine(s), "test")
        for n, (s, gain) in enumerate([(0, 1), (1, 0.5), (8, 1), (8, 1)])
    ]
    found = copies.find([*test, *train])
    assert found == [copies.Copy(test[0].key, "0.wav", True), copies.Copy(test[1].key, "1.wav", False)]
    (line,) = copies.notes([*test, *train], found)
    assert line.startswith("Fan: 2 of 4 test recordings are copies of training recordings (1 equal, 1 nearly equal; ")
    assert copies.unite([*test, *train], found) == [*test, *train]


@pytest.mark.parametrize("seconds", [0.3, 2.0, 5.0])
def test_takes_are_no_copies(tmp_path, seconds):
    """Of a machine with noise, one with tones and little noise, one with strokes alone, one of silence."""
    kinds = {
        "noise": lambda seed: 0.1 * np.random.default_rng(seed).normal(size=round(seconds * RATE)),
        "machine": lambda seed: machine(seed, seconds),
        "silence": lambda seed: np.zeros(round(seconds * RATE) + seed),
    }
    for kind, make in kinds.items():
        clips = [save(tmp_path / kind, f"{seed}.wav", make(seed)) for seed in range(6)]
        assert copies.find(clips) == [], kind


def test_machines_and_sections_are_compared_by_themselves(tmp_path):
    one = save(tmp_path, "a.wav", machine(0))
    two = save(tmp_path, "b.wav", machine(0))
    assert copies.find([one, replace(two, section="01")]) == []
    assert copies.find([one, replace(two, machine="Pump")]) == []


def clip(name: str, group: str = "", split: str = "train", machine: str = "Fan") -> Clip:
    return Clip("test", machine, "00", split, name, name, group=group, channels=1, rate=1, samples=1)


def test_copies_join_the_groups_of_recordings():
    clips = [
        clip("a"),
        clip("b", "tape"),
        clip("c", "tape"),
        clip("d"),
        clip("e"),
        clip("f"),
        clip("a", "", "train", "Pump"),
    ]
    pairs = [copies.Copy(clips[3].key, "a", True), copies.Copy(clips[4].key, "c", False)]
    groups = [found.group for found in copies.unite(clips, pairs)]
    assert groups == ["Fan/00/train/a", "tape", "tape", "Fan/00/train/a", "tape", "", ""]
    (line,) = copies.notes(clips, pairs)
    assert "2 of 6 training recordings are copies of training recordings (1 equal, 1 nearly equal; " in line


def test_equal_files_in_two_places_are_named():
    files = [
        replace(clip(f"{number}", split=split, machine=machine), digest=digest, label=label)
        for number, (machine, split, digest, label) in enumerate(
            [
                ("Fan", "train", "one", "normal"),
                ("Pump", "test", "one", "normal"),
                ("Fan", "test", "two", "normal"),
                ("Fan", "test", "two", "anomaly"),
                ("Fan", "test", "three", "normal"),
                ("Fan", "test", "three", "normal"),
                ("Pump", "test", "", "normal"),
                ("Pump", "test", "", "anomaly"),
            ]
        )
    ]
    assert copies.notes(files, []) == [
        "Pump: 1 of 3 recordings are equal to recordings of Fan section 00 (1, 0): one of them lies in the wrong place",
        "Fan: 1 of 5 recordings are normal and anomalous at once (3, 2): results count them as both",
    ]


def test_nothing_but_copies():
    clips = [clip("a"), clip("b"), clip("c"), clip("d", split="test")]
    pairs = [copies.Copy(clips[1].key, "a", True), copies.Copy(clips[2].key, "b", False)]
    with pytest.raises(
        WheeltapperError, match=r"Fan section 00: expected at least 2 different .* found 3 copies of one"
    ):
        copies.unite(clips, pairs)


def test_copies_are_written_as_they_are_read(tmp_path):
    found = [
        copies.Copy(("Fan", "00", "train", 'b,"1".wav'), "a.wav", True),
        copies.Copy(("Fan", "00", "test", "c"), "a", False),
    ]
    copies.write(tmp_path / "copies.csv", found)
    assert copies.read(tmp_path / "copies.csv") == found
    assert copies.read(tmp_path / "none.csv") == []
    (tmp_path / "copies.csv").write_text("machine\n")
    with pytest.raises(WheeltapperError, match=r"copies\.csv: expected copies of recordings"):
        copies.read(tmp_path / "copies.csv")


def test_stage_0_unites_copies_and_says_so(tmp_path, capsys):
    names = [f"section_00_source_train_normal_{seed:04d}_noAttribute.wav" for seed in range(4)]
    for seed, name in enumerate(names):
        save(tmp_path / "data" / "Fan" / "train", name, machine(seed % 3))
    save(tmp_path / "data" / "Fan" / "test", "section_00_0000.wav", 0.5 * machine(1))
    arguments = ["prepare", "--exp", str(tmp_path / "exp"), "--conf", "toy", "--data", str(tmp_path / "data")]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert (
        f"note: Fan: 1 of 4 training recordings are copies of training recordings (1 equal; {names[3]} of {names[0]})"
        in out
    )
    assert "note: Fan: 1 of 1 test recordings are copies of training recordings (1 nearly equal; " in out
    groups = {found.file: found.group for found in read(tmp_path / "exp" / "manifest.csv")}
    assert groups[names[0]] == groups[names[3]] != "" == groups[names[1]] == groups["section_00_0000.wav"]
    for name in names:
        save(tmp_path / "data" / "Fan" / "train", name, machine(0))
    assert main(arguments) == 1
    assert (
        "Fan section 00: expected at least 2 different training recordings, found 4 copies of one"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "exp" / "copies.csv").exists()
