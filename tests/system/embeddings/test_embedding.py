"""Embedding: branches, any files, resuming an interrupted run, files of arrays."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy_fisher import NumpyFisher

from system import audio
from system.adaptation.model import AdaptedEncoder
from system.batching import run_batches
from system.bin import main
from system.config import EncoderBranchConfig
from system.embeddings import embed, files
from system.embeddings.embed import GATE_SLOTS, embed_branch, embed_files
from system.embeddings.precision import set_precision
from system.encoders import cards
from system.encoders.fisher import Fisher
from system.errors import WheeltapperError
from system.parallel import map_in_order

RATE = 8000


@pytest.fixture
def model(tiny_encoder) -> AdaptedEncoder:
    torch.manual_seed(0)
    built = AdaptedEncoder(tiny_encoder(), EncoderBranchConfig(embedding_dim=6), RATE).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape))
    return built.requires_grad_(False)


def test_branch(model, train_clips, tmp_path):
    done = []
    found = embed_branch(model, train_clips, tmp_path / "parts", progress=done.append)
    assert sum(done) == 8
    assert found["two_channel"].shape == found["near_only"].shape == (8, 6)
    assert found["gate"].shape == (8, GATE_SLOTS)
    assert all(values.dtype == np.float32 for values in found.values())
    assert ((found["gate"] > 0) & (found["gate"] < 1)).all()
    for row, clip in enumerate(train_clips):
        wave, _ = audio.read(clip.path)
        views = model.views(torch.from_numpy(wave[None]))
        np.testing.assert_array_equal(found["two_channel"][row], views.two_channel[0].numpy())
        np.testing.assert_array_equal(found["near_only"][row], views.near_only[0].numpy())


def test_recordings_are_brought_to_the_rate_of_the_branch(model, record, tmp_path):
    clip = record("fast.wav", rate=16000, channels=3)
    wave, rate = audio.read(clip.path)
    expected = model.views(torch.from_numpy(audio.resample(wave[:2], rate, RATE)[None])).two_channel[0]
    found = embed_branch(model, [clip], tmp_path / "parts")
    np.testing.assert_array_equal(found["two_channel"][0], expected.numpy())


def test_gate_slots_follow_the_time(model, record, tmp_path, monkeypatch):
    encode = model.encode_inputs
    monkeypatch.setattr(model, "encode_inputs", lambda *args: (*encode(*args)[:2], torch.linspace(0, 1, 64)[None]))
    gate = embed_branch(model, [record("a.wav")], tmp_path / "parts")["gate"][0]
    np.testing.assert_allclose(gate, np.linspace(0, 1, 64).reshape(32, 2).mean(1), atol=1e-6)


def test_an_interrupted_run_goes_on(model, train_clips, tmp_path, monkeypatch):
    whole = embed_branch(model, train_clips, tmp_path / "whole")
    count = []

    def stop(number):
        count.append(number)
        if len(count) == 6:  # within the second machine
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_branch(model, train_clips, tmp_path / "parts", progress=stop)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["fan-0000.npz"]
    seen = []
    monkeypatch.setattr(embed.audio, "read", lambda path, f=audio.read: seen.append(str(path)) or f(path))
    done = []
    again = embed_branch(model, train_clips, tmp_path / "parts", progress=done.append)
    assert sorted(seen) == sorted(clip.path for clip in train_clips if clip.machine == "pump")
    assert sum(done) == 8
    assert all(np.array_equal(again[name], whole[name]) for name in whole)


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_a_damaged_part_is_computed_again(model, train_clips, tmp_path, content):
    whole = embed_branch(model, train_clips, tmp_path / "parts")
    path = tmp_path / "parts" / "fan-0000.npz"
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    again = embed_branch(model, train_clips, tmp_path / "parts")
    assert all(np.array_equal(again[name], whole[name]) for name in whole)


def test_an_embedding_that_is_not_finite_names_its_clip(model, train_clips, tmp_path):
    model.projection.bias[0] = torch.nan
    with pytest.raises(WheeltapperError, match=r"normal_0000\.wav: expected a finite embedding"):
        embed_branch(model, train_clips, tmp_path / "parts")


def test_a_damaged_recording_names_itself(model, train_clips, tmp_path):
    with open(train_clips[5].path, "r+b") as file:
        file.truncate(1000)
    with pytest.raises(WheeltapperError, match=r"pump/.*normal_0001\.wav: truncated"):
        embed_branch(model, train_clips, tmp_path / "parts", workers=2)


def test_files(tiny_encoder, record):
    encoder = tiny_encoder()
    paths = [record(f"{i}.wav", seed=i, channels=1 + i % 2).path for i in range(3)]
    found = embed_files(encoder, paths, workers=2)
    assert found.shape == (3, 16)
    for path, row in zip(paths, found, strict=True):
        wave, rate = audio.read(path)
        mono = torch.from_numpy(wave.mean(0, keepdims=True))
        np.testing.assert_allclose(row, encoder.embed(mono, rate)[0].detach().numpy(), atol=1e-6)


def test_long_recordings_are_embedded_in_equal_parts(tiny_encoder, record, monkeypatch, tmp_path):
    paths = [record("long.wav", seconds=2.5).path, record("short.wav", seconds=1.0, seed=1).path]
    wave, rate = audio.read(paths[0])
    edges = (0, round(len(wave[0]) / 3), round(2 * len(wave[0]) / 3), len(wave[0]))
    parts = []
    for number in range(3):
        parts.append(tmp_path / f"part{number}.wav")
        audio.write(parts[-1], wave[:, edges[number] : edges[number + 1]], rate)
    expected = np.stack([embed_files(tiny_encoder(), parts).mean(0), embed_files(tiny_encoder(), paths[1:])[0]])
    monkeypatch.setattr(embed, "WHOLE", 1.0)
    told = []
    found = embed_files(tiny_encoder(), paths, workers=2, progress=told.append)
    np.testing.assert_allclose(found, expected, atol=1e-3)  # written again, the parts differ by a bit of the samples
    assert (sum(told), found.dtype) == (2, np.float32)


def test_a_batch_of_unequal_lengths_equals_the_clips_one_by_one(tiny_encoder, record):
    """Six lengths in batches of three: a batch holds clips of one length, in any order of files."""
    paths = [record(f"{i}.wav", seconds=0.3 + 0.17 * (i % 6), seed=i).path for i in range(17)]
    alone = embed_files(tiny_encoder(), paths)
    for mode in ("official", "rmis", "chunks"):
        expected = np.stack([embed_files(tiny_encoder(), [path], mode)[0] for path in paths])
        found = embed_files(tiny_encoder(), paths, mode, workers=2, batch_size=3)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(alone, axis=0).max() > 1e-3  # they differ by far more than the tolerance


def test_clips_of_a_branch_in_batches(model, record, tmp_path):
    clips = [record(f"{i}.wav", seconds=0.3 + 0.2 * (i % 2), channels=1 + i % 3, seed=i) for i in range(9)]
    alone = embed_branch(model, clips, tmp_path / "alone")
    together = embed_branch(model, clips, tmp_path / "together", workers=2, batch_size=4)
    for name in alone:
        np.testing.assert_allclose(together[name], alone[name], atol=1e-5)


def test_batches_keep_no_more_than_a_few_recordings_waiting():
    """Recordings of unique length are computed when too many wait."""
    loaded, computed, most = [], [], []

    def load(number):
        loaded.append(number)
        return torch.zeros(number + 1)

    def network(batch):
        computed.append(batch.shape)
        most.append(len(loaded) - len(computed))
        return batch.shape[1]

    found = dict((rows[0], value) for rows, value in run_batches(range(300), load, network, 2, batch_size=4))
    assert found == {number: number + 1 for number in range(300)}
    assert max(most) < 80


def test_reading_ahead_is_bounded():
    started = []
    values = map_in_order(lambda item: started.append(item) or item, range(1000), 2)
    assert [next(values) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(started) < 20
    values.close()
    with pytest.raises(WheeltapperError, match="seven"):
        list(
            map_in_order(
                lambda item: item if item != 7 else (_ for _ in ()).throw(WheeltapperError("seven")), range(9), 2
            )
        )


def test_lower_precision(tiny_encoder, model, record, tmp_path):
    paths = [record(f"{i}.wav", seed=i).path for i in range(3)]
    exact = torch.from_numpy(embed_files(tiny_encoder(), paths))
    low = torch.from_numpy(embed_files(set_precision(tiny_encoder(), "bf16"), paths))
    assert low.dtype == torch.float32
    assert not torch.equal(exact, low)
    assert torch.cosine_similarity(exact, low).min() > 0.9995
    clips = [record(f"{i}.wav", seed=i) for i in range(3)]
    exact = torch.from_numpy(embed_branch(model, clips, tmp_path / "exact")["two_channel"])
    set_precision(model.encoder, "bf16")
    low = torch.from_numpy(embed_branch(model, clips, tmp_path / "low")["two_channel"])
    assert torch.cosine_similarity(exact, low).min() > 0.999


def test_any_layer_pooled(tiny_encoder, record):
    path = record("a.wav").path
    wave, rate = audio.read(path)
    encoder = tiny_encoder()
    spectrogram = encoder.spectrogram(torch.from_numpy(wave.mean(0, keepdims=True)), rate)
    for depth in (1, 2):
        grid = encoder(spectrogram, depth).grid.detach().numpy()
        found = embed_files(encoder, [path], pool="band", depth=depth)
        np.testing.assert_allclose(found[0], grid.mean(1).ravel(), atol=1e-6)
    with pytest.raises(WheeltapperError, match="FISHER depth: expected 1 to 2 blocks, found 3"):
        embed_files(encoder, [path], pool="mean", depth=3)
    with pytest.raises(WheeltapperError, match="layer: expected a kind of pooling with it"):
        embed_files(encoder, [path], depth=1)


def test_files_of_different_rates(tiny_encoder, record):
    paths = [record("slow.wav").path, record("fast.wav", rate=16000).path]
    with pytest.raises(
        WheeltapperError, match=r"fast\.wav: expected 8000 Hz as in .*slow\.wav, found 16000 Hz: .*--rate"
    ):
        embed_files(tiny_encoder(), paths)
    assert embed_files(tiny_encoder(), paths, rate=16000).shape == (2, 32)


def test_arrays_and_their_index(tmp_path, train_clips):
    values = np.arange(24, dtype=np.float32).reshape(8, 3)
    files.write_array(tmp_path / "x.npy", values)
    files.write_index(tmp_path / "index.csv", train_clips)
    found = files.read_rows(tmp_path / "index.csv", tmp_path / "x.npy")
    assert list(found) == [clip.key for clip in train_clips]
    assert all(np.array_equal(found[clip.key], row) for clip, row in zip(train_clips, values, strict=True))
    files.write_array(tmp_path / "x.npy", values[:5])
    with pytest.raises(WheeltapperError, match=r"x\.npy: expected 8 rows as in .*index\.csv, found 5"):
        files.read_rows(tmp_path / "index.csv", tmp_path / "x.npy")
    for content in (b"", b"garbage", (tmp_path / "x.npy").read_bytes()[:140]):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(WheeltapperError, match=r"x\.npy: expected an array of numbers, found damage"):
            files.read_rows(tmp_path / "index.csv", tmp_path / "x.npy")


def embed_command(audio_path, out) -> list[str]:
    return [
        "embed",
        "--encoder",
        "fisher-nano",
        "--checkpoint",
        "random",
        "--audio",
        str(audio_path),
        "--out",
        str(out),
    ]


def test_command(record, tmp_path, capsys):
    record("b.wav", seed=1)
    clip = record("a.wav", seed=0)
    folder = os.path.dirname(clip.path)
    assert main(embed_command(folder, tmp_path / "x.npz")) == 0
    with np.load(tmp_path / "x.npz") as found:
        assert found["files"].tolist() == ["a.wav", "b.wav"]
        assert found["embeddings"].dtype == np.float32
        assert found["embeddings"].shape == (2, 128)
    assert main(embed_command(clip.path, tmp_path / "y.npz")) == 0
    with np.load(tmp_path / "x.npz") as both, np.load(tmp_path / "y.npz") as one:
        np.testing.assert_array_equal(one["embeddings"][0], both["embeddings"][0])


def test_the_default_encoder_is_the_one_that_comes_with_the_program(record, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recording, found = record("a.wav", rate=16000).path, {}
    for name, options in {"own": [], "random": ["--checkpoint", "random"]}.items():
        command = ["embed", *options, "--audio", recording, "--out", str(tmp_path / f"{name}.npz")]
        assert main(command) == 0
        with np.load(tmp_path / f"{name}.npz") as file:
            found[name] = file["embeddings"][0]
    wave = soundfile.read(recording, always_2d=True)[0].mean(1)
    own = Fisher.load(cards.OWN / cards.CARDS["default"].file)
    tensors = {name: tensor.numpy() for name, tensor in own.to_published(own.state_dict()).items()}
    expected = NumpyFisher(tensors, heads=2, depth=4, columns=6).embed(wave, 16000)
    assert np.abs(found["own"] - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(found["random"] - expected).max() > 0.1 * np.abs(expected).max()


FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "encoders"


@pytest.mark.parametrize(
    ("family", "file", "mode"),
    [
        ("fisher", "fisher.pt", "official"),
        ("echo", "echo.pth", "official"),
        ("echo", "echo.safetensors", "official"),
        ("beats", "beats.pt", "twice"),  # as the reference values were made, see Beats
        ("eat", "eat.pt", "official"),
        ("audiomae", "audiomae.pth", "official"),
    ],
)
def test_the_command_gives_the_official_embeddings(tmp_path, family, file, mode):
    cases = np.load(FIXTURES / family / f"{family}_cases.npz")
    for number in range(sum(name.endswith(".wav") for name in cases.files)):
        recording = tmp_path / f"{number}.wav"
        soundfile.write(recording, cases[f"case{number}.wav"], int(cases[f"case{number}.sr"]), subtype="FLOAT")
        command = ["embed", "--encoder", family, "--checkpoint", str(FIXTURES / family / file), "--mode", mode]
        assert main([*command, "--audio", str(recording), "--out", str(tmp_path / "x.npz")]) == 0
        with np.load(tmp_path / "x.npz") as found:
            expected = cases[f"case{number}.embedding"]
            assert np.abs(found["embeddings"][0] - expected).max() <= 1e-5 * np.abs(expected).max()
            record = json.loads(str(found["record"]))
    assert record["mode"] == mode
    assert record["precision"] == "float32"
    assert record["peak_memory_mb"] > 100


def test_options_of_the_command(record, tmp_path):
    clip = record("a.wav", rate=16000)
    sizes = {}
    for name, options in {
        "layer": ["--pool", "band", "--layer", "2"],
        "rdp": ["--pool", "rdp", "--pool-power", "8"],
        "bf16": ["--precision", "bf16"],
        "even": ["--filterbank", "even"],
        "simam": ["--simam", "local", "--batch-size", "2"],
        "plain": [],
    }.items():
        command = embed_command(clip.path, tmp_path / f"{name}.npz")
        command[2] = "eat-nano"
        assert main([*command, *options]) == 0
        with np.load(tmp_path / f"{name}.npz") as found:
            sizes[name] = found["embeddings"]
    assert sizes["layer"].shape == sizes["rdp"].shape == (1, 8 * 128)
    for name in ("bf16", "even", "simam"):
        assert sizes[name].shape == (1, 128)
        assert not np.array_equal(sizes[name], sizes["plain"])


def test_command_on_a_full_disk(record, tmp_path, capsys, monkeypatch):
    clip = record("a.wav")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    assert main(embed_command(clip.path, tmp_path / "x.npz")) == 1
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith(f"wheeltapper embed: {tmp_path / 'x.npz'}: No space left on device (free some space")
    assert not [path for path in tmp_path.iterdir() if "npz" in path.name]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda a: [*a[:-1], str(a[-1]), "--mode", "all"], "mode: expected one of official, rmis, chunks"),
        (lambda a: [a[0], "--encoder", "fisher-huge", *a[3:]], "FISHER size: expected one of"),
        (lambda a: [a[0], "--encoder", "beast", *a[3:]], "encoder family: expected one of fisher"),
        (lambda a: [*a[:4], "no.pt", *a[5:]], "no.pt: expected a file or a name that download-checkpoint --list shows"),
        (lambda a: [*a[:6], "nowhere", *a[7:]], "nowhere: expected a sound file, a folder or a manifest"),
        (lambda a: a[:-2], "--audio: expected --out X.npz"),
        (lambda a: [*a, "--filterbank", "even"], "filterbank: expected mel with FISHER, found 'even'"),
        (lambda a: [*a, "--simam", "here"], "simam: expected one of none, global, local, found 'here'"),
        (lambda a: [*a, "--precision", "int4"], "precision: expected one of fp32, bf16, int8, auto"),
        (lambda a: [*a, "--device", "tpu"], "device: expected one of auto, cuda, mps, cpu"),
        (lambda a: [*a, "--batch-size", "-1"], "--batch-size, --workers, --layer: expected"),
        (lambda a: [*a, "--layer", "2"], "layer: expected a kind of pooling with it"),
        (lambda a: [*a, "--pool", "max"], "pool: expected one of mean"),
        (lambda a: [*a[:2], "beats", a[3], "beats-iter3", *a[5:]], "beats-iter3: expected data/checkpoints/"),
        (lambda a: [*a[:2], "fisher-tiny", a[3], "default", *a[5:]], "family fisher, size nano, found fisher, tiny"),
    ],
)
def test_mistakes_in_the_command(record, tmp_path, capsys, change, text):
    assert main(change(embed_command(record("a.wav").path, tmp_path / "x.npz"))) == 1
    assert text in capsys.readouterr().err


def test_a_silent_recording_has_an_embedding(tiny_encoder, model, record, tmp_path):
    clip = record("a.wav")
    soundfile.write(clip.path, np.zeros((4000, 2)), RATE)
    assert np.isfinite(embed_files(tiny_encoder(), [clip.path])).all()
    assert np.isfinite(embed_branch(model, [clip], tmp_path / "parts")["two_channel"]).all()
