import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from system import audio, manifest
from system.bin import main
from system.errors import WheeltapperError
from system.manifest import Clip
from system.pretraining import shards
from system.pretraining.shards import ROW, ShardFolder, write_shards

SHARD_BYTES = 20_000  # of which a clip of half a second at 8 kHz takes 8,000 a channel


@pytest.fixture
def clips(record) -> list[Clip]:
    """Seven clips of several lengths, rates and channels, one of them longer than a shard."""
    sizes = [(0.5, 1, 8000), (0.5, 2, 8000), (0.3, 1, 16000), (1.5, 1, 8000), (0.1, 2, 8000), (0.2, 1, 12000)]
    made = [record(f"{n}.wav", s, c, rate, seed=n) for n, (s, c, rate) in enumerate(sizes)]
    return [*made, record("6.wav", 0.4, 2, 16000, seed=6)]


def counts(clip: Clip) -> np.ndarray:
    """The 16-bit samples of a clip, (channels, samples)."""
    return soundfile.read(clip.path, dtype="int16", always_2d=True)[0].T


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != ".lock"}


def test_bytes_are_the_samples_clip_after_clip_and_channel_after_channel(clips, tmp_path):
    write_shards(clips, tmp_path / "shards", SHARD_BYTES)
    record = json.loads((tmp_path / "shards" / "shards.json").read_text())
    index = np.load(tmp_path / "shards" / "index.npy")
    # 8,000 bytes; 16,000 do not fit on top; 9,600 neither; 24,000 alone; 3,200 + 4,800; 25,600 alone.
    assert index["shard"].tolist() == [0, 1, 2, 3, 4, 4, 5]
    assert index["offset"].tolist() == [0, 0, 0, 0, 0, 1600, 0]
    assert index["samples"].tolist() == [clip.samples for clip in clips]
    assert index["channels"].tolist() == [clip.channels for clip in clips]
    assert index["rate"].tolist() == [clip.rate for clip in clips]
    for number, entry in enumerate(record["shards"]):
        written = (tmp_path / "shards" / f"{number:05d}.pcm").read_bytes()
        own = [counts(clip).astype("<i2").tobytes() for clip, row in zip(clips, index, strict=True) if row[0] == number]
        assert written == b"".join(own)
        assert entry == {"bytes": len(written), "sha256": hashlib.sha256(written).hexdigest(), "clips": len(own)}
    assert record["fingerprint"] == manifest.fingerprint(clips)
    assert record["clips"] == 7
    assert record["clips_by_rate"] == {"8000": 4, "12000": 1, "16000": 2}
    assert record["hours"] == pytest.approx(sum(clip.seconds for clip in clips) / 3600)
    assert not list((tmp_path / "shards").glob("0*.json"))


def test_a_crop_of_a_16_bit_recording_is_what_the_file_holds(clips, tmp_path):
    folder = write_shards(clips, tmp_path / "shards", SHARD_BYTES)
    for number, clip in enumerate(clips):
        whole, _ = audio.read(clip.path)
        for channel in range(clip.channels):
            crop = folder.crop(number, channel, 100, 500)
            assert crop.dtype == np.float32
            np.testing.assert_array_equal(crop, whole[channel, 100:600])
    with pytest.raises(IndexError):
        folder.crop(0, 0, clips[0].samples - 10, 11)
    with pytest.raises(IndexError):
        folder.crop(0, 1, 0, 10)


@pytest.mark.parametrize("peak", [3.0, 0.9, 1e-6])
def test_other_recordings_are_scaled_to_their_peak(tmp_path, peak):
    rng = np.random.default_rng(0)
    wave = rng.uniform(-1, 1, (1000, 2)).astype(np.float32)
    wave *= peak / np.abs(wave).max()
    path = tmp_path / "float.wav"
    soundfile.write(path, wave, 8000, subtype="FLOAT")
    clip = Clip("c", "m", "00", "train", "float.wav", str(path), channels=2, rate=8000, samples=1000)
    folder = write_shards([clip], tmp_path / "shards")
    found = np.stack([folder.crop(0, channel, 0, 1000) for channel in range(2)], 1)
    assert np.abs(found - wave).max() <= 0.503 * peak / 32767
    assert np.abs(np.fromfile(tmp_path / "shards" / "00000.pcm", "<i2")).max() == 32767


@pytest.mark.parametrize("level", [0.0, 1e-37])
def test_silence_has_no_scale_and_stays_silence(tmp_path, level):
    soundfile.write(tmp_path / "zero.wav", np.full(800, level, np.float32), 8000, subtype="FLOAT")
    clip = Clip("c", "m", "00", "train", "zero.wav", str(tmp_path / "zero.wav"), channels=1, rate=8000, samples=800)
    folder = write_shards([clip], tmp_path / "shards")
    assert folder.index["scale"].tolist() == [0.0]
    assert not folder.crop(0, 0, 0, 800).any()


def test_the_same_clips_give_the_same_bytes_with_any_number_of_threads(clips, tmp_path):
    write_shards(clips, tmp_path / "one", SHARD_BYTES)
    write_shards(clips, tmp_path / "three", SHARD_BYTES, workers=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def dies(work) -> bool:
    """Runs ``work`` in a separate process that may end without clean-up; returns whether it did."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("moment", ["clip 0", "clip 2", "clip 5", "write 1", "write 4", "write 7", "rename 3"])
def test_killed_anywhere_the_next_call_gives_what_one_call_gives(clips, tmp_path, monkeypatch, moment):
    write_shards(clips, tmp_path / "whole", SHARD_BYTES)
    kind, when = moment.split()

    def killed() -> None:
        seen = [0]

        def kill(*_) -> None:
            seen[0] += 1
            if seen[0] > int(when):
                os._exit(9)

        def before(function):
            return lambda *values: (kill(), function(*values))[1]

        if kind == "write":
            monkeypatch.setattr(shards, "write_json", before(shards.write_json))
        if kind == "rename":
            monkeypatch.setattr(os, "replace", before(os.replace))
        write_shards(clips, tmp_path / "cut", SHARD_BYTES, kill if kind == "clip" else None)

    if moment == "write 7":  # the six shards and the whole are on record: nothing was cut off
        assert not dies(killed)
    else:
        assert dies(killed)
        with pytest.raises(WheeltapperError, match=r"shards\.json: expected the record of finished shards"):
            ShardFolder(tmp_path / "cut")
    finished = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut").glob("0*.json")}
    kept = {name: (tmp_path / "cut" / name).with_suffix(".pcm").stat().st_mtime_ns for name in finished}
    write_shards(clips, tmp_path / "cut", SHARD_BYTES).verify()
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert kept == {n: (tmp_path / "cut" / n).with_suffix(".pcm").stat().st_mtime_ns for n in finished}


def test_a_finished_shard_that_is_gone_is_written_again(clips, tmp_path, monkeypatch):
    write_shards(clips, tmp_path / "whole", SHARD_BYTES)
    with monkeypatch.context() as patch:
        patch.setattr(shards.np, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_shards(clips, tmp_path / "cut", SHARD_BYTES)
    (tmp_path / "cut" / "00001.pcm").unlink()
    os.truncate(tmp_path / "cut" / "00002.pcm", 10)
    write_shards(clips, tmp_path / "cut", SHARD_BYTES)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_complete_folder_is_left_as_it_is(clips, tmp_path):
    write_shards(clips, tmp_path / "shards", SHARD_BYTES)
    before = times(tmp_path / "shards")
    Path(clips[0].path).unlink()  # the recordings are not needed any more
    write_shards(clips, tmp_path / "shards", SHARD_BYTES)
    assert before == times(tmp_path / "shards")


def test_folders_with_anything_else_are_refused(clips, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(WheeltapperError, match=r"expected a folder of shards or an empty one, found notes\.txt"):
        write_shards(clips, folder)
    assert contents(folder) == {"notes.txt": b"mine"}
    (folder / "notes.txt").unlink()
    write_shards(clips, folder, SHARD_BYTES)
    before = contents(folder)
    with pytest.raises(WheeltapperError, match="expected shards of fingerprint"):
        write_shards(clips[:-1], folder, SHARD_BYTES)
    with pytest.raises(WheeltapperError, match="expected shards of shard_bytes 999, found 20000"):
        write_shards(clips, folder, 999)
    assert contents(folder) == before


@pytest.mark.parametrize(("fields", "found"), [({"split": "test"}, "test"), ({"label": "anomaly"}, "anomaly train")])
def test_only_training_clips_become_shards(clips, tmp_path, fields, found):
    clips[2] = replace(clips[2], **fields)
    with pytest.raises(WheeltapperError, match=rf"2\.wav: expected a normal training clip, found .*{found}"):
        write_shards(clips, tmp_path / "shards")
    assert not (tmp_path / "shards").exists()


def test_a_recording_that_is_not_what_the_manifest_says(clips, tmp_path):
    with pytest.raises(WheeltapperError, match=r"0\.wav: expected \(rate, channels, samples\) \(8000, 2, 4000\)"):
        write_shards([replace(clips[0], channels=2)], tmp_path / "a")
    audio.write(clips[1].path, np.zeros((2, clips[1].samples), np.float32), clips[1].rate)
    with pytest.raises(WheeltapperError, match=r"1\.wav: expected content of digest"):
        write_shards(clips, tmp_path / "b")


def test_missing_truncated_and_damaged_files_are_named(clips, tmp_path):
    folder = tmp_path / "shards"
    whole = write_shards(clips, folder, SHARD_BYTES)
    shard = folder / "00003.pcm"
    content = shard.read_bytes()

    shard.write_bytes(content[:-2])
    with pytest.raises(WheeltapperError, match=r"00003\.pcm: damaged, expected 24000 bytes, found 23998"):
        ShardFolder(folder)
    with pytest.raises(WheeltapperError, match=r"00003\.pcm: damaged, expected 24000 bytes, found 23998"):
        whole.crop(3, 0, 0, 10)  # cut after the folder was opened
    shard.unlink()
    with pytest.raises(WheeltapperError, match=r"00003\.pcm: expected a file of 24000 bytes, found nothing"):
        ShardFolder(folder)
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WheeltapperError, match=r"00003\.pcm: damaged, expected SHA-256 \w{64}, found \w{64}"):
        ShardFolder(folder).verify()
    shard.write_bytes(content)
    ShardFolder(folder).verify()


def test_damaged_index_and_record_are_named(clips, tmp_path):
    folder = tmp_path / "shards"
    write_shards(clips, folder, SHARD_BYTES)
    index = np.load(folder / "index.npy")
    for name, value in (("offset", 4000), ("shard", 6), ("samples", 0), ("offset", -1), ("rate", 0)):
        wrong = index.copy()
        wrong[name][3] = value
        np.save(folder / "index.npy", wrong)
        with pytest.raises(WheeltapperError, match=r"index\.npy: row 3: expected a clip within its shard"):
            ShardFolder(folder)
    (folder / "index.npy").write_bytes(bytes((folder / "index.npy").stat().st_size))
    with pytest.raises(WheeltapperError, match=r"index\.npy: expected an array, found damage"):
        ShardFolder(folder)
    (folder / "index.npy").write_bytes(b"")
    with pytest.raises(WheeltapperError, match=r"index\.npy: damaged, expected \d+ bytes, found 0"):
        ShardFolder(folder)
    record = json.loads((folder / "shards.json").read_text())
    (folder / "shards.json").write_text(json.dumps(record | {"version": 99}))
    with pytest.raises(WheeltapperError, match=r"shards\.json: expected shards of version 1, found 99"):
        ShardFolder(folder)
    del record["index"]
    (folder / "shards.json").write_text(json.dumps(record))
    with pytest.raises(WheeltapperError, match=r"shards\.json: expected the record of shards, found no 'index'"):
        ShardFolder(folder)


def test_few_shards_are_mapped_at_a_time(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "OPEN_MAPS", 2)
    folder = write_shards(clips, tmp_path / "shards", SHARD_BYTES)

    def mapped() -> int:
        return len({line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if ".pcm" in line})

    before = mapped()
    for number in range(len(clips)):
        folder.crop(number, 0, 0, 10)
    assert 1 <= mapped() - before <= 2


def test_verb(clips, tmp_path, capsys):
    for name, some in (("a.csv", clips[:3]), ("b.csv", clips[3:])):
        manifest.write(tmp_path / name, some)
    out = tmp_path / "shards"
    command = ["shard", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "--out", str(out), "--verify"]
    assert main(command) == 0
    assert f"{out}: 7 clips, 0.0 h, 1 shards, 0.1 MiB, SHA-256" in capsys.readouterr().out
    assert len(ShardFolder(out)) == 7
    (out / "00000.pcm").write_bytes(bytes((out / "00000.pcm").stat().st_size))
    assert main(command) == 1
    assert "00000.pcm: damaged, expected SHA-256" in capsys.readouterr().err
    manifest.write(tmp_path / "b.csv", [replace(clips[3], split="test", label="normal")])
    assert main(command) == 1
    assert "3.wav: expected a normal training clip, found normal test" in capsys.readouterr().err


def test_rows_are_small():
    assert ROW.itemsize <= 32
