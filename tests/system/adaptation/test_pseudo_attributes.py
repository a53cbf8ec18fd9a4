"""Pseudo-attributes: which clips are clustered, what the clusters depend on, and that a resumed stage keeps them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import system.adaptation as adaptation
from system import audio, manifest
from system.adaptation import attribute_labels, pseudo_attributes
from system.adaptation.pseudo_attributes import PseudoAttribute, cluster, cluster_clips
from system.bin import main
from system.config import AugmentConfig, EncoderBranchConfig, HeadConfig, LoopConfig, PseudoConfig
from system.encoders.fisher import Fisher
from system.errors import WheeltapperError
from system.files import read_json
from system.manifest import Clip

RATE = 8000


def config(clusters: int = 2, **values) -> EncoderBranchConfig:
    loop = LoopConfig(steps=2, batch_size=4, warmup_steps=1)
    settings = {"embedding_dim": 8, "crop_seconds": 0.3, "loop": loop}
    pseudo = {name: values.pop(name) for name in ("method", "by") if name in values}
    return EncoderBranchConfig(**(settings | {"pseudo_attributes": PseudoConfig(clusters, **pseudo)} | values))


def tone(record, number: int, hertz: float, far: float = 3000.0, **fields) -> Clip:
    """A clip with one tone in the near channel and another in the far channel."""
    clip = record(f"{number:03d}.wav", seed=number, machine="pump", label="normal", **fields)
    generator, time = np.random.default_rng(number), np.arange(4000) / RATE
    wave = 0.3 * np.sin(2 * np.pi * np.array([[hertz], [far]]) * time + generator.uniform(0, 6))
    audio.write(clip.path, (wave + generator.normal(0, 0.01, wave.shape)).astype(np.float32), RATE)
    return replace(clip, digest=audio.digest(clip.path))


@pytest.fixture
def pumps(record) -> list[Clip]:
    """Eight clips of one machine without attributes: four low, four high, the last of each from the target domain."""
    domains = ["source"] * 6 + ["target"] * 2
    return [tone(record, i, 300.0 if i % 2 else 1900.0, domain=domain) for i, domain in enumerate(domains)]


def grouping(rows: list[PseudoAttribute], names: dict[str, str] | None = None) -> dict[str, int]:
    return {(names or {}).get(row.file, row.file): row.cluster for row in rows}


@pytest.mark.parametrize("by", ["frozen", "spectrum"])
@pytest.mark.parametrize("method", ["ward", "kmeans"])
def test_tones_fall_into_clusters(tiny_encoder, pumps, method, by):
    rows = cluster_clips(tiny_encoder(), pumps, config(method=method, by=by), RATE, 0)
    assert [row.key for row in rows] == [("pump", "00", clip.file) for clip in pumps]
    labels = [row.cluster for row in rows]
    assert len({labels[0], labels[1]}) == 2
    assert labels == labels[:2] * 4
    assert min(row.silhouette for row in rows) > 0.2
    assert pseudo_attributes.summary(rows)["pump/00"]["sizes"] == [4, 4]


@pytest.mark.parametrize("method", ["ward", "kmeans"])
def test_names_order_and_the_far_channel_do_not_count(tiny_encoder, pumps, record, method):
    found = grouping(cluster_clips(tiny_encoder(), pumps, config(3, method=method), RATE, 0))
    names = {f"x{9 - i}.wav": clip.file for i, clip in enumerate(pumps)}
    renamed = [replace(clip, file=new) for clip, new in zip(pumps, names, strict=True)]
    shuffled = [renamed[i] for i in np.random.default_rng(1).permutation(len(renamed))]
    again = cluster_clips(tiny_encoder(), shuffled, config(3, method=method), RATE, 0)
    assert grouping(again, names) == found
    pairs = lambda groups: {(a, b) for a in groups for b in groups if groups[a] == groups[b]}  # noqa: E731
    other = [tone(record, i, 300.0 if i % 2 else 1900.0, far=500.0 * i + 200.0) for i in range(8)]
    two = grouping(cluster_clips(tiny_encoder(), other, config(2, method=method), RATE, 0))
    assert pairs(two) == pairs({clip.file: i % 2 for i, clip in enumerate(other)})


def test_a_seed_gives_the_same_clusters(tiny_encoder, pumps):
    settings = config(4, method="kmeans")
    first, again = (cluster_clips(tiny_encoder(), pumps, settings, RATE, 5) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(("clips", "most"), [(8, 4), (7, 3), (2, 1), (1, 0)])
def test_never_more_clusters_than_half_the_clips(tiny_encoder, pumps, clips, most):
    rows = cluster_clips(tiny_encoder(), pumps[:clips], config(16), RATE, 0)
    assert len({row.cluster for row in rows}) == most
    assert len(rows) == (clips if most else 0)


def test_equal_rows_share_a_cluster():
    for method in ("ward", "kmeans"):
        labels, silhouette = cluster(np.repeat(np.eye(2, 3, dtype=np.float32), 4, axis=0), 4, method, 0)
        assert labels.tolist() == [0] * 4 + [1] * 4
        assert silhouette.tolist() == [1.0] * 8
    labels, silhouette = cluster(np.ones((6, 3), np.float32), 3, "ward", 0)
    assert not labels.any()
    assert not silhouette.any()


def test_silhouettes_by_hand():
    rows = np.array([[0.0], [1.0], [5.0], [6.0]])
    labels, silhouette = cluster(rows, 2, "ward", 0)
    assert labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(silhouette, [1 - 1 / 5.5, 1 - 1 / 4.5, 1 - 1 / 4.5, 1 - 1 / 5.5])


def test_machines_with_attributes_keep_theirs(tiny_encoder, train_clips):
    rows = cluster_clips(tiny_encoder(), train_clips, config(), RATE, 0)
    assert {row.machine for row in rows} == {"pump"}
    clusters = {row.key: row.cluster for row in rows}
    labels = attribute_labels(train_clips, clusters | {("fan", "00", train_clips[0].file): 9})
    assert labels[:4].tolist() == [0, 1, 0, 1] == attribute_labels(train_clips)[:4].tolist()
    assert (labels[4:] - 2).tolist() == [row.cluster for row in rows]
    # A section with a single clip with attributes is not clustered.
    mixed = [*train_clips[:7], replace(train_clips[7], attributes="speed_1")]
    assert cluster_clips(tiny_encoder(), mixed, config(), RATE, 0) == []


@pytest.mark.parametrize("fields", [{"split": "test"}, {"label": "anomaly"}])
def test_only_normal_training_clips_are_clustered(tiny_encoder, pumps, fields):
    with pytest.raises(WheeltapperError, match=r"pseudo-attributes: .*expected a normal training clip"):
        cluster_clips(tiny_encoder(), [*pumps[:7], replace(pumps[7], **fields)], config(), RATE, 0)


def test_files(tmp_path):
    rows = [PseudoAttribute("fan, big", "00", "a.wav", 3, 0.25), PseudoAttribute("pump", "01", "b.wav", 0, -0.5)]
    path = tmp_path / pseudo_attributes.FILE
    pseudo_attributes.write(path, rows)
    assert path.read_text().splitlines()[0] == "machine,section,file,cluster,silhouette"
    assert pseudo_attributes.read(path) == rows
    for damage in ("", "a,b\n", path.read_text() + "pump,00,c.wav\n", path.read_text() + "pump,00,c.wav,x,0\n"):
        path.write_text(damage)
        with pytest.raises(WheeltapperError, match=pseudo_attributes.FILE):
            pseudo_attributes.read(path)


@pytest.fixture
def exp(tmp_path, pumps, record):
    """An experiment before stage 2, with a test clip that must not be read."""
    folder = tmp_path / "exp"
    hidden = replace(record("hidden.wav", machine="pump", split="test", label="anomaly"), path=str(tmp_path / "no.wav"))
    folder.mkdir()
    manifest.write(folder / "manifest.csv", [*pumps, hidden])
    Fisher.build("nano", 0).save(folder / "pretrain" / "encoder.safetensors")
    (tmp_path / "c.yaml").write_text(
        "encoder: {family: fisher, size: nano}\n"
        "branches: {main: {depth: 1, embedding_dim: 8, crop_seconds: 0.3, pseudo_attributes: {clusters: 3},"
        " loop: {steps: 1, batch_size: 2, warmup_steps: 1}}}\nsystems: [{weights: {main: 1.0}}]\n"
    )
    return folder


def test_the_stage_writes_them_and_a_resumed_one_keeps_them(exp, monkeypatch):
    command = ["adapt", "--exp", str(exp), "--conf", str(exp.parent / "c.yaml")]
    path = exp / "adapt" / "main" / pseudo_attributes.FILE
    with monkeypatch.context() as patch:
        patch.setattr(adaptation, "adapt", lambda *_: (_ for _ in ()).throw(WheeltapperError("killed")))
        assert main(command) == 1
    text = path.read_text()
    assert "hidden" not in text

    def never(*_):
        raise AssertionError("clustered again")

    seen = []
    with monkeypatch.context() as patch:
        patch.setattr(pseudo_attributes, "cluster_clips", never)
        real = adaptation.adapt
        patch.setattr(adaptation, "adapt", lambda *args: seen.append(args[-2]) or real(*args))
        assert main(command) == 0
    assert path.read_text() == text
    rows = pseudo_attributes.read(path)
    assert seen == [{row.key: row.cluster for row in rows}]
    assert read_json(path.with_name("card.json"))["pseudo_attributes"] == pseudo_attributes.summary(rows)
    marker = read_json(exp / "stages" / "2_adapt.json")
    assert f"adapt/main/{pseudo_attributes.FILE}" in marker["writes"]
    path.unlink()  # a lost file is written again with the same content
    assert main(command) == 0
    assert path.read_text() == text


def test_a_branch_that_learns_from_source_clips_clusters_these_alone(exp):
    options = ["--conf", str(exp.parent / "c.yaml"), "--set", "branches.main.learn_from=source"]
    assert main(["adapt", "--exp", str(exp), *options]) == 0
    rows = pseudo_attributes.read(exp / "adapt" / "main" / pseudo_attributes.FILE)
    domains = {clip.file: clip.domain for clip in manifest.read(exp / "manifest.csv")}
    assert len(rows) == 6
    assert {domains[row.file] for row in rows} == {"source"}


@pytest.mark.parametrize("kind", ["arcface", "adacos", "adaproj"])
def test_a_branch_with_each_head_mixup_and_pseudo_attributes(tiny_encoder, pumps, tmp_path, kind):
    """Trains, resumes with the same result, and can be loaded; the clusters are classes of the attribute head."""
    heads = HeadConfig(kind=kind, subclusters=2, trainable_centres=False, adaptive_scale=True)
    loop = LoopConfig(steps=4, batch_size=4, learning_rate=5e-3, warmup_steps=1, save_every=2)
    settings = config(3, heads=heads, loop=loop, augment=AugmentConfig(mixup=0.5))
    clusters = {row.key: row.cluster for row in cluster_clips(tiny_encoder(), pumps, settings, RATE, 0)}

    def train(name: str, stop: int = -1):
        def progress(step, values):
            if step == stop:
                raise KeyboardInterrupt

        folder = tmp_path / name
        return adaptation.adapt(tiny_encoder(), pumps, settings, RATE, folder, 3, progress=progress, clusters=clusters)

    task = train("whole")
    assert task.attribute.classes == 3
    with pytest.raises(KeyboardInterrupt):
        train("cut", stop=2)
    resumed = train("cut")
    for name, tensor in task.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    if kind != "arcface":
        assert float(task.attribute.scale) != task.attribute.first_scale()
    wave = 0.1 * torch.randn(2, 2, 4000, generator=torch.Generator().manual_seed(0))
    loaded = adaptation.load_adapted(tiny_encoder(), tmp_path / "cut" / adaptation.ADAPTER, settings)
    with torch.inference_mode():
        expected = task.eval().model.views(wave).two_channel
        torch.testing.assert_close(loaded.views(wave).two_channel, expected, rtol=1e-4, atol=1e-5)
