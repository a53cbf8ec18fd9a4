"""The page of a study: values from the files of its folder, missing parts mentioned, damaged ones refused."""

import dataclasses
import re
import shutil

import numpy as np
import pytest
import soundfile
import torch
from test_explain_command import Page

from system import manifest
from system.bin import main
from system.encoders.ast import Ast, AstConfig
from system.encoders.cnn import ResNeXt
from system.encoders.fisher import Fisher
from system.encoders.subband import SubbandConfig
from system.errors import WheeltapperError
from system.explain.gradcam import grad_cam
from system.files import read_json, write_json
from system.manifest import Clip
from system.study import data, results, supervised
from system.study import page as page_of
from system.study.data import SplitRow
from system.study.page import write_study_page
from system.study.page_data import read_study, typical

RATE = 16000
SMALL = {"embed_dim": 16, "depth": 2, "num_heads": 2}
CONFIG = """
seed: 3
study:
  channel: 0
  scopes: {fan: {machines: [fan]}, both: {machines: [fan, pump]}, later: {machines: [pump]}}
  models:
    ast: {encoder: {family: ast, size: nano}}
    cnn: {encoder: {family: cnn, size: nano}}
    fisher: {encoder: {family: fisher, size: nano}, supervised: false}
"""


def networks() -> dict[str, supervised.Classifier]:
    """Untrained classifiers with heads that are not uniform."""
    found = {}
    encoders = {"ast": Ast.untrained(AstConfig(**SMALL, target_length=64), 0), "cnn": ResNeXt.build("nano", 0)}
    for name, encoder in encoders.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found[name] = supervised.Classifier(encoder).eval()
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A study of two machines as the command writes it, with untrained networks; scope ``later`` has no files."""
    folder = tmp_path_factory.mktemp("exp") / "seed3"
    generator, clips = np.random.default_rng(0), []
    (folder / "sounds").mkdir(parents=True)
    for machine in ("fan", "pump"):
        for number in range(10):
            label = "anomaly" if number % 2 else "normal"
            time = np.arange(RATE // 2) / RATE
            tone = 0.2 * np.sin(2 * np.pi * (700 if machine == "fan" else 2500) * time)
            wave = tone * (1 + np.sin(40 * time)) if number % 2 else tone
            file = f"{label}_{number}.wav"
            path = folder / "sounds" / f"{machine}_{file}"
            soundfile.write(path, wave + 0.02 * generator.normal(size=len(time)), RATE)
            clips.append(
                Clip("toy", machine, "00", "train", file, str(path), label, channels=1, rate=RATE, samples=8000)
            )
    (folder / "config.yaml").write_text(CONFIG)
    manifest.write(folder / "manifest.csv", clips)
    parts = {data.name_of(clip): "test" if int(clip.file[-5]) > 3 else "train" for clip in clips}
    fisher = Fisher.untrained(SubbandConfig(**SMALL, max_freq=6), 0)
    found = {"format": results.FORMAT, "seed": 3, "scopes": {}}
    for scope, machines in (("fan", ["fan"]), ("both", ["fan", "pump"])):
        own = [clip for clip in clips if clip.machine in machines]
        rows = data.split_rows(own, parts)
        data.write_split(folder / scope / "split.csv", rows)
        by_name = {data.name_of(clip): clip for clip in own}
        waves = [torch.from_numpy(soundfile.read(by_name[row.name].path, dtype="float32")[0])[None] for row in rows]
        facts = ([row.name for row in rows], [row.label for row in rows], [row.part for row in rows])
        entries = []
        for model, network in networks().items():
            with torch.no_grad():
                spectra = [network.encoder.spectrogram(wave, RATE) for wave in waves]
                values = torch.cat([network.features(x) for x in spectra]).numpy()
                logits = torch.cat([network(x) for x in spectra]).numpy()
            target = folder / scope / model
            target.mkdir()
            network.save(target / "classifier.safetensors")
            supervised.write_embeddings(target / "embeddings.npz", *facts, frozen=values, finetuned=values**3)
            tested = np.array([row.part != "train" for row in rows])
            results.write_scores(target / "supervised.csv", rows, {"supervised": logits[tested]})
            entries.append({"model": model, "method": "supervised", "row": f"{model.upper()} - supervised"})
        (folder / scope / "fisher").mkdir()
        with torch.no_grad():
            values = torch.cat([fisher.embed(wave, RATE) for wave in waves]).numpy()
        supervised.write_embeddings(folder / scope / "fisher" / "embeddings.npz", *facts, frozen=values)
        aucs = {"fan": (0.91234, 0.4), "both": (0.75, 0.8125)}[scope]
        found["scopes"][scope] = {"results": [e | {"auc": a} for e, a in zip(entries, aucs, strict=True)]}
    write_json(folder / "results.json", found)
    return folder


@pytest.fixture(scope="module")
def whole(built, tmp_path_factory):
    """The page of all scopes."""
    out = tmp_path_factory.mktemp("page") / "page.html"
    assert main(["explain", "--exp", str(built), "--out", str(out)]) == 0
    return out.read_text()


@pytest.fixture
def quick(monkeypatch):
    """A stand-in for t-SNE, for tests that do not check the maps."""
    monkeypatch.setattr(page_of, "tsne", lambda vectors, seed: np.asarray(vectors[:, :2], float))


def copy(built, tmp_path):
    shutil.copytree(built, tmp_path / "seed3")
    return tmp_path / "seed3"


def test_every_figure_is_there(whole):
    page = Page(whole)
    assert all(
        address.startswith(("data:image/png;base64,", "data:audio/flac;base64,", "#")) for address in page.addresses
    )
    titles = [caption.strip() for caption in page.found["figcaption"]]
    frozen = ["AST, frozen", "CNN, frozen", "FISHER, frozen"]
    assert titles[4:7] == frozen  # all machines, after a pair of clips of each
    tuned = ["AST, fine-tuned", "CNN, fine-tuned"]
    assert titles[7:12] == frozen + tuned  # one machine: no maps by machine
    assert titles[12] == "AST, fine-tuned"  # distances
    looks = [title.splitlines()[0].split("\xa0")[0] for title in titles[13:19]]
    expected = ("Spectrogram", "AST: Attention, layer 1 of 2", "AST: Attention, layer 2 of 2", "AST: Attention rollout")
    for title, start in zip(
        looks, (*expected, "CNN: Grad-CAM, stage 2 of 4", "CNN: Grad-CAM, stage 4 of 4"), strict=True
    ):
        assert title.startswith(start)
    assert titles[25:35] == 2 * (frozen + tuned)  # two machines: by label, by machine
    assert len(titles) == 4 + 3 + (5 + 1 + 12) + (10 + 1 + 12)
    assert len(page.labels) == len(titles)
    assert page.found["h2"][-2:] == ["fan", "both"]


def test_the_table_says_what_the_results_say(whole):
    rows = re.search(r"<tbody>(.*?)</tbody>", whole, re.S)[1].split("<tr>")[1:]
    cells = [[re.sub("<.*?>", "", cell).strip() for cell in re.findall("<t[dh].*?</t[dh]>", row, re.S)] for row in rows]
    assert cells == [["AST - supervised", "91.23", "75.00"], ["CNN - supervised", "40.00", "81.25"]]
    assert [row.count("<b>") for row in rows] == [1, 1]  # the best of each scope
    assert ["below" in row for row in rows] == [False, True]


def test_maps_show_the_test_clips_alone(whole):
    charts = re.findall(r'aria-label="([^"]*t-SNE map of (\d+) clips)">(.*?)</svg>', whole, re.S)
    assert [int(count) for _, count, _ in charts] == 3 * [12] + 5 * [6] + 10 * [12]
    for name, count, body in charts:
        marks = sum(
            path.count("M") for path in re.findall(r'<path class="(?:circle|triangle|cross)[^"]*" d="([^"]*)"', body)
        )
        assert marks == int(count)
        assert ("triangle" in body) == ("normal and anomalous" in name)


def test_one_scope_and_the_same_page_again(built, quick, tmp_path):
    assert main(["explain", "--exp", str(built), "--scope", "fan", "--out", str(tmp_path / "fan.html")]) == 0
    text = (tmp_path / "fan.html").read_text()
    assert write_study_page(built, "fan", tmp_path / "again.html").read_text() == text
    page = Page(text)
    assert page.found["h2"][-1] == "fan"
    assert "both" not in page.found["h2"]
    with pytest.raises(WheeltapperError, match="scope: expected one of fan, both, later, found 'valve'"):
        write_study_page(built, "valve")
    with pytest.raises(WheeltapperError, match=r"expected the split.csv of a scope, found none"):
        write_study_page(built, "later")


def test_gradcam_explains_the_label_of_the_clip(built, quick, monkeypatch):
    """For a normal clip the negative logit is explained."""
    seen = []

    def watch(encoder, score, spectrogram, stages):
        with torch.no_grad():
            seen.append((float(score(spectrogram)), spectrogram))
        return grad_cam(encoder, score, spectrogram, stages)

    monkeypatch.setattr(page_of, "grad_cam", watch)
    page_of.render(read_study(built, "fan"))
    network = networks()["cnn"]
    with torch.no_grad():
        logits = [float(network(spectrogram)) for _, spectrogram in seen]
    assert [score for score, _ in seen] == pytest.approx([-logits[0], logits[1]], rel=1e-4)


def row(name: str, label: str, part: str = "test") -> SplitRow:
    return SplitRow(name, "fan", "00", name, "", label, part)


def test_the_clip_in_the_middle():
    rows = [row(name, "normal") for name in "abcde"] + [
        row("f", "anomaly"),
        row("g", "anomaly"),
        row("h", "normal", "train"),
    ]
    first = dict(zip("abcdefg", (1.0, 9.0, 3.0, 4.0, 100.0, 2.0, 1.0), strict=True))
    assert {label: chosen.name for label, chosen in typical(rows, {"x": first}).items()} == {
        "normal": "d",
        "anomaly": "g",
    }
    second = dict(zip("abcdefg", (9.0, 9.5, 5.0, 1.0, 2.0, 1.0, 2.0), strict=True))
    # Sums of ranks: a 1 + 4, b 4 + 5, c 2 + 3, d 3 + 1, e 5 + 2; f and g are equal.
    chosen = typical(rows, {"x": first, "y": second})
    assert {label: found.name for label, found in chosen.items()} == {"normal": "c", "anomaly": "f"}
    assert typical(rows, {})["normal"].name == "c"
    with pytest.raises(WheeltapperError, match="x: expected a score of every test clip, found none of e"):
        typical(rows, {"x": {name: value for name, value in first.items() if name != "e"}})


def test_an_unfinished_study_gives_what_there_is(built, tmp_path):
    folder = copy(built, tmp_path)
    (folder / "results.json").unlink()
    shutil.rmtree(folder / "fan")
    for model in ("ast", "cnn", "fisher"):
        (folder / "both" / model / "embeddings.npz").unlink()
    for model in ("ast", "cnn"):
        (folder / "both" / model / "classifier.safetensors").unlink()
    text = write_study_page(folder).read_text()
    for words in (
        "no results yet",
        "embeddings of one machine at most",
        "no embeddings of 4 or more",
        "No network was fine",
    ):
        assert words in text
    assert (folder / "study.html").is_file()
    assert len(Page(text).pictures) == 4  # the recordings are there


def damage_classifier(folder):
    path = folder / "fan" / "ast" / "classifier.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def damage_embeddings(folder):
    path = folder / "fan" / "cnn" / "embeddings.npz"
    path.write_bytes(path.read_bytes()[:-200])


def other_clips(folder):
    path = folder / "fan" / "cnn" / "embeddings.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **(arrays | {"names": arrays["names"][::-1]}))


def not_finite(folder):
    path = folder / "fan" / "cnn" / "embeddings.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["finetuned"][2, 1] = np.nan
    np.savez(path, **arrays)


def no_scores(folder):
    (folder / "fan" / "ast" / "supervised.csv").write_text("name,part,label\nx,test,normal\n")


def no_recording(folder):
    clips = manifest.read(folder / "manifest.csv")
    gone = [dataclasses.replace(clip, path=str(folder / "gone.wav")) for clip in clips]
    manifest.write(folder / "manifest.csv", gone)


def bad_results(folder):
    found = read_json(folder / "results.json")
    found["scopes"]["fan"]["results"][0].pop("auc")
    write_json(folder / "results.json", found)


def no_config(folder):
    (folder / "config.yaml").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_classifier, r"fan/ast/classifier.safetensors: damaged"),
        (damage_embeddings, r"fan/cnn/embeddings.npz: expected embeddings \(names, frozen, finetuned\), found"),
        (other_clips, r"fan/cnn/embeddings.npz: expected the 10 clips of split.csv in their order"),
        (not_finite, r"fan/cnn/embeddings.npz: finetuned: expected finite numbers \(10, D\)"),
        (no_scores, r"fan/ast/supervised.csv: expected scores \(name,part,label,supervised\)"),
        (no_recording, r"gone.wav: expected a sound file, found nothing"),
        (bad_results, r"results.json: expected results of .*, found a damaged file"),
        (no_config, r"expected the folder of a study with its config.yaml, found none"),
    ],
)
def test_damage_is_named_and_an_earlier_page_stays(built, quick, tmp_path, damage, message):
    folder = copy(built, tmp_path)
    damage(folder)
    (folder / "study.html").write_text("an earlier page")
    with pytest.raises(WheeltapperError, match=message):
        write_study_page(folder, "fan")
    assert (folder / "study.html").read_text() == "an earlier page"
    assert not list(folder.glob(".*.tmp"))
