"""The embedding store: finished work is kept, damage is detected, sharing the work changes nothing."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from system.embeddings.store import DIGEST, HEADER, EmbeddingStore
from system.errors import WheeltapperError
from system.manifest import Clip

DIM = 24
FACTS = {"encoder": "toy", "seed": 1}


def clips_of(count: int, first: int = 0) -> list[Clip]:
    return [
        Clip("toy", "fan", "00", "train", f"{n}.wav", f"/nowhere/{n}.wav", rate=8000, samples=80, digest=f"{n:032x}")
        for n in range(first, first + count)
    ]


def vector(clip: Clip) -> np.ndarray:
    return np.random.default_rng(int(clip.digest, 16)).normal(size=DIM).astype(np.float32)


class Counting:
    """Embeds, and counts the calls."""

    def __init__(self, broken: tuple[str, ...] = ()):
        self.asked, self.broken, self.lock = [], broken, threading.Lock()

    def __call__(self, clip: Clip) -> np.ndarray:
        with self.lock:
            self.asked.append(clip.file)
        if clip.file in self.broken:
            raise WheeltapperError(f"{clip.path}: damaged")
        return vector(clip)


def expected(clips: list[Clip]) -> np.ndarray:
    return np.stack([vector(clip) for clip in clips])


def test_each_recording_once_and_read_by_memory_mapping(tmp_path):
    clips = clips_of(9)
    clips.append(replace(clips[2], file="copy.wav"))  # the same content under another name
    store, embed, done = EmbeddingStore(tmp_path, "set", FACTS, clips), Counting(), []
    assert store.read() is None
    assert store.missing() == 9
    store.fill(embed, workers=3, progress=done.append)
    assert (sorted(embed.asked), done) == (sorted(clip.file for clip in clips[:9]), [1] * 9)
    rows = store.finish()
    assert isinstance(rows, np.memmap)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, expected(clips))
    again = EmbeddingStore(tmp_path, "set", dict(reversed(FACTS.items())), clips)
    again.fill(embed)
    assert len(embed.asked) == 9
    np.testing.assert_array_equal(again.read(), rows)
    assert sorted(path.suffix for path in store.folder.iterdir()) == [".json", ".npy"]


def test_other_facts_are_other_rows(tmp_path):
    clips = clips_of(3)
    store = EmbeddingStore(tmp_path, "set", FACTS, clips)
    store.fill(vector)
    store.finish()
    assert EmbeddingStore(tmp_path, "set", FACTS | {"seed": 2}, clips).read() is None
    assert EmbeddingStore(tmp_path, "other", FACTS, clips).read() is None
    assert EmbeddingStore(tmp_path, "set", FACTS, [replace(clips[0], digest="f" * 32), *clips[1:]]).missing() == 1


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shares_together_are_the_whole(tmp_path, count):
    clips = clips_of(20)
    asked = []
    for number in range(count):
        embed = Counting()
        EmbeddingStore(tmp_path, "set", FACTS, clips).fill(embed, share=(number, count))
        asked += embed.asked
    assert sorted(asked) == sorted(clip.file for clip in clips)
    whole = EmbeddingStore(tmp_path, "set", FACTS, clips)
    whole.wait()
    alone = EmbeddingStore(tmp_path / "alone", "set", FACTS, clips)
    alone.fill(vector)
    whole.finish()
    alone.finish()
    assert whole.array.read_bytes() == alone.array.read_bytes()


def test_waits_for_the_others(tmp_path):
    clips = clips_of(4)
    first, second = (EmbeddingStore(tmp_path, "set", FACTS, clips) for _ in range(2))
    first.fill(vector, share=(0, 2))
    other = threading.Thread(target=lambda: (time.sleep(0.5), second.fill(vector, share=(1, 2))))
    other.start()
    first.wait()
    other.join()
    np.testing.assert_array_equal(first.finish(), expected(clips))


def test_a_share_alone_is_not_finished(tmp_path):
    clips = clips_of(4)
    store = EmbeddingStore(tmp_path, "set", FACTS, clips)
    store.fill(vector, share=(0, 2))
    with pytest.raises(WheeltapperError, match=r"expected an embedding of /nowhere/1\.wav, found none"):
        store.finish()
    assert store.read() is None


def test_damage_is_made_again_and_nothing_else(tmp_path):
    clips = clips_of(6)
    store = EmbeddingStore(tmp_path, "set", FACTS, clips)
    store.fill(vector)
    part = next(store.folder.glob("*.rows"))
    data = bytearray(part.read_bytes())
    size = DIGEST + 4 * DIM + 4
    assert len(data) == HEADER.size + 6 * size
    data[HEADER.size + 2 * size + 40] ^= 1  # a flipped bit in the third record
    part.write_bytes(data[: HEADER.size + 5 * size + 9])  # the sixth was being written
    (store.folder / "x.rows").write_bytes(b"")
    (store.folder / "y.rows").write_bytes(b"something else altogether, longer than a header")
    embed = Counting()
    store.fill(embed)
    assert embed.asked == ["2.wav", "5.wav"]
    np.testing.assert_array_equal(store.finish(), expected(clips))
    store.array.write_bytes(store.array.read_bytes()[:-4])
    embed = Counting()
    assert store.read() is None
    store.fill(embed)
    assert len(embed.asked) == 6  # nothing else was missing
    np.testing.assert_array_equal(store.finish(), expected(clips))


def test_a_list_that_grew_keeps_what_it_had(tmp_path):
    early, late = clips_of(5), clips_of(4, first=5)
    first = EmbeddingStore(tmp_path, "set", FACTS, early)
    first.fill(vector)
    first.finish()
    embed = Counting()
    grown = EmbeddingStore(tmp_path, "set", FACTS, [*late, *reversed(early)])
    grown.fill(embed)
    assert sorted(embed.asked) == sorted(clip.file for clip in late)
    np.testing.assert_array_equal(grown.finish(), expected([*late, *reversed(early)]))
    assert first.read() is None  # its rows are in the longer list
    shorter = EmbeddingStore(tmp_path, "set", FACTS, early)
    shorter.fill(embed)
    assert len(embed.asked) == 4
    np.testing.assert_array_equal(shorter.finish(), expected(early))
    np.testing.assert_array_equal(grown.read(), expected([*late, *reversed(early)]))


def test_what_another_process_still_writes_is_not_removed(tmp_path):
    early, late = clips_of(2), clips_of(2, first=2)
    store, grown = (EmbeddingStore(tmp_path, "set", FACTS, clips) for clips in (early, early + late))
    with grown.appender() as rows:
        for clip in early:
            rows.append(bytes.fromhex(clip.digest), vector(clip))
        np.testing.assert_array_equal(store.finish(), expected(early))
        for clip in late:
            rows.append(bytes.fromhex(clip.digest), vector(clip))
    np.testing.assert_array_equal(grown.finish(), expected(early + late))
    assert not list(grown.folder.glob("*.rows"))


def test_clips_that_cannot_be_embedded_are_listed_after_the_others(tmp_path):
    clips = clips_of(8)
    store = EmbeddingStore(tmp_path, "set", FACTS, clips)
    with pytest.raises(WheeltapperError, match=r"(?s)/nowhere/1\.wav: damaged.*/nowhere/6\.wav: damaged"):
        store.fill(Counting(broken=("1.wav", "6.wav")))
    embed = Counting()
    store.fill(embed)
    assert embed.asked == ["1.wav", "6.wav"]


def test_who_waits_is_told_of_what_failed_elsewhere(tmp_path, monkeypatch):
    clips = clips_of(8)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "earlier")
    with pytest.raises(WheeltapperError):
        EmbeddingStore(tmp_path, "set", FACTS, clips).fill(Counting(broken=("4.wav",)), share=(0, 4))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this")
    first, second = (EmbeddingStore(tmp_path, "set", FACTS, clips) for _ in range(2))
    first.fill(vector, share=(0, 2))
    with pytest.raises(WheeltapperError):
        second.fill(Counting(broken=("5.wav",)), share=(1, 2))
    with pytest.raises(WheeltapperError, match=r"/nowhere/5\.wav: damaged"):
        first.wait()
    second.fill(vector, share=(1, 2))
    first.wait()
    np.testing.assert_array_equal(first.finish(), expected(clips))


def test_gives_up_where_everything_fails(tmp_path):
    clips = clips_of(300)
    embed = Counting(broken=tuple(clip.file for clip in clips))
    with pytest.raises(WheeltapperError, match="and 90 more"):
        EmbeddingStore(tmp_path, "set", FACTS, clips).fill(embed)
    assert len(embed.asked) < 120


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (np.full(DIM, np.nan), "NaN or infinity"),
        (np.zeros(DIM), "only zeros"),
        (np.zeros((2, DIM)), r"shape \(2, 24\)"),
        (np.zeros(0), r"shape \(0,\)"),
    ],
)
def test_what_is_no_embedding_is_refused(tmp_path, row, found):
    store = EmbeddingStore(tmp_path, "set", FACTS, clips_of(1))
    with pytest.raises(WheeltapperError, match=rf"/nowhere/0\.wav: expected .* found {found}"):
        store.fill(lambda clip: row)


def test_rows_of_one_length(tmp_path):
    clips = clips_of(3)
    store = EmbeddingStore(tmp_path, "set", FACTS, clips)

    def embed(clip: Clip) -> np.ndarray:
        return np.ones(5 if clip.file == "2.wav" else 4, np.float32)

    with pytest.raises(WheeltapperError, match="expected embeddings of 4 dimensions, found 5; the number of sub-bands"):
        store.fill(embed)
    store.fill(embed)  # alone in a file of its own
    with pytest.raises(WheeltapperError, match="expected embeddings of 4 dimensions, found 5"):
        store.finish()


def test_a_manifest_without_hashes_is_refused(tmp_path):
    with pytest.raises(WheeltapperError, match=r"/nowhere/0\.wav: expected the content hash .* found none"):
        EmbeddingStore(tmp_path, "set", FACTS, [replace(clips_of(1)[0], digest="")])


PROGRAM = """
import sys, time
sys.path[:0] = {path!r}
import test_embedding_store as t
from system.embeddings.store import EmbeddingStore
def embed(clip):
    time.sleep({seconds})
    return t.vector(clip)
EmbeddingStore({folder!r}, "set", t.FACTS, t.clips_of(200)).fill(embed)
"""


def program(folder: Path, seconds: float) -> list[str]:
    paths = [str(Path(__file__).parent), *sys.path]
    return [sys.executable, "-c", PROGRAM.format(path=paths, folder=str(folder), seconds=seconds)]


def test_a_killed_process_leaves_what_it_had(tmp_path):
    process = subprocess.Popen(program(tmp_path, 0.01))
    clips = clips_of(200)
    store = EmbeddingStore(tmp_path, "set", FACTS, clips)
    while store.missing() > 180:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left, embed = store.missing(), Counting()
    assert 0 < left <= 180
    store.fill(embed)
    assert len(embed.asked) == left
    np.testing.assert_array_equal(store.finish(), expected(clips))


def test_a_full_disk_is_said_and_keeps_what_was_written(tmp_path):
    limit = HEADER.size + 50 * (DIGEST + 4 * DIM + 4) + 7

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        program(tmp_path, 0.0), preexec_fn=limited, capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode
    assert ".rows" in done.stderr.splitlines()[-1]
    store, embed = EmbeddingStore(tmp_path, "set", FACTS, clips_of(200)), Counting()
    assert store.missing() == 150
    store.fill(embed)
    np.testing.assert_array_equal(store.finish(), expected(clips_of(200)))
