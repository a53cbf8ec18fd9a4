"""``wheeltapper benchmark rmis|siren`` over small data sets, as a user types it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import in_processes, run_command

from system import audio, manifest
from system.benchmarks import rmis
from system.benchmarks.suites import SUITES, choose
from system.bin import main
from system.config import EncoderConfig
from system.corpora import faults
from system.encoders import cards, load_encoder
from system.errors import WheeltapperError
from system.leaderboard.boards import BOARDS
from system.manifest import Clip

CWRU = [f"{end}-{fault}" for end in ("DE", "FE") for fault in ("IR", "B", "OC@3", "OC@6", "OC@12")]


def put(root: Path, corpus: str, file: str, number: int, rate: int, seconds: float = 0.4, **fields) -> Clip:
    """A tone in noise, whose frequency the number of its class decides."""
    generator = np.random.default_rng([number, *file.encode()])
    time = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * 180.0 * (number + 2) * time)
    path = root / corpus / "audio" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, (tone + generator.normal(0, 0.1, len(time)))[None], rate)
    values = {"machine": corpus, "section": "00", "split": "train"} | fields
    known = {"channels": 1, "rate": rate, "samples": len(time), "digest": audio.digest(path)}
    return Clip(corpus, file=file, path=str(path), **values, **known)


def put_cwru(root: Path, left_out: str = "") -> list[Clip]:
    clips = [
        put(root, "cwru", f"{name}_{k}.wav", number, 12000, attributes=f"class_{name}_modality_vibration_channel_DE")
        for number, name in enumerate(CWRU)
        for k in range(11 if number < 5 else 10)
        if name != left_out
    ]
    manifest.write(root / "cwru" / "manifest.csv", clips)
    return clips


def put_iiee(root: Path) -> list[Clip]:
    """Under the one condition the classes can be told apart, under the other they are all the same."""
    clips = []
    for number, name in enumerate(("good", "broken", "heavyload")):
        for split, condition in (("train", "pure"), ("test", "pure"), ("test", "talking")):
            for k in range(4):
                file = f"{split}_{name}_{condition}_{k}.wav"
                facts = f"class_{name}_modality_sound_channel_1_condition_{condition}"
                heard = 0 if condition == "talking" else number
                clips.append(put(root, "iiee", file, heard, 44100, split=split, attributes=facts))
    manifest.write(root / "iiee" / "manifest.csv", clips)
    return clips


def put_2020(root: Path) -> list[Clip]:
    clips = []
    for machine, section in (("fan", "00"), ("fan", "02")):
        for k in range(4):
            one = {"machine": machine, "section": section}
            clips.append(put(root, "dcase2020", f"{section}_train_{k}.wav", 1, 16000, **one, label="normal"))
            kind = "normal" if k % 2 else "anomaly"
            number = 1 if k % 2 else 5
            file = f"{section}_test_{k}.wav"
            clips.append(put(root, "dcase2020", file, number, 16000, **one, split="test", label=kind))
    manifest.write(root / "dcase2020" / "manifest.csv", clips)
    return clips


def run(root: Path, suite: str, *options: object) -> int:
    return main(["benchmark", suite, "--data", str(root), "--store", str(root / "store"), *map(str, options)])


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_siren_is_its_tasks_over_embeddings_made_elsewhere(tmp_path, capsys):
    clips, out = put_cwru(tmp_path), tmp_path / "out.json"
    assert run(tmp_path, "siren", "--json", out) == 0
    found = read(out)
    assert (found["benchmark"], found["encoder"], found["protocol"]) == ("siren", "default", "as-coded")
    assert found["missing"] == [name for name in (plan.name for plan in SUITES["siren"]) if name != "cwru"]
    assert "not there: dcase2020" in capsys.readouterr().out
    card = cards.card("default")
    encoder = load_encoder(
        EncoderConfig(card.family, card.size, "default"), 0, cards.find_checkpoint("default", tmp_path)
    )
    with torch.inference_mode():
        waves = [torch.from_numpy(audio.read(clip.path)[0]) for clip in clips]
        rows = np.concatenate([encoder.embed(wave - wave.mean(), 12000, "chunks").numpy() for wave in waves])
    np.testing.assert_allclose(np.load(found["sets"]["cwru"]["embeddings"]), rows, atol=1e-4)
    names = np.repeat(CWRU, [11] * 5 + [10] * 5)
    files = np.array([clip.file for clip in clips])
    labels = np.array([CWRU.index(name) for name in names])
    np.savez(tmp_path / "x.npz", embeddings=rows, label=labels, class_names=np.array(CWRU), file_name=files)
    assert main(["benchmark", "siren-loocv", "--embeddings", str(tmp_path / "x.npz"), "--json", str(out)]) == 0
    assert found["scores"] == {"cwru": read(out)["accuracy"]}
    assert found["sets"]["cwru"]["confusion"] == read(out)["confusion"]


def test_rmis_over_what_is_there(tmp_path, capsys):
    put_iiee(tmp_path)
    put_2020(tmp_path)
    out = tmp_path / "out.json"
    assert run(tmp_path, "rmis", "--encoder", "log-mel-mean", "--json", out) == 0
    found, text = read(out), capsys.readouterr().out
    assert list(found["scores"]) == ["iiee"]
    assert "note: the data set lacks 78 of 82 parts, such as ToyCar section 01 train with its labels" in text
    assert found["beside"] == {}  # of the evaluation machines there is none
    assert found["sets"]["dcase2020"]["dev"]["score"] == 100.0
    conditions = found["sets"]["iiee"]["conditions"]
    assert conditions["pure"] == {"n_test": 12, "accuracy": 100.0, "macro_accuracy": 100.0}
    assert conditions["talking"]["accuracy"] == pytest.approx(100 / 3)  # all sound like one engine
    assert found["scores"]["iiee"] == pytest.approx(200 / 3, abs=0.01)
    assert "talking" in text
    table = tmp_path / "table.html"
    assert main(["leaderboard", "rmis", str(out), "--out", str(table)]) == 0
    assert "log-mel-mean" in table.read_text()


def test_multi_split_and_sealed_recordings(tmp_path):
    classes, clips = ("healthy", "IR", "OR"), []
    for number, name in enumerate(classes):
        for k in range(30):
            facts = f"class_{name}_modality_vibration_channel_7"
            place = {"attributes": facts, "group": f"{name}_{k // 2}"}  # two cuts of each recording
            clips.append(put(tmp_path, "pu_vib", f"{name}_{k:02d}.wav", 2 * number, 64000, seconds=0.05, **place))
    manifest.write(tmp_path / "pu_vib" / "manifest.csv", clips)
    out = tmp_path / "out.json"
    assert (
        run(tmp_path, "rmis", "--multi-split", "--encoder", "log-mel-mean", "--protocol", "clean", "--json", out) == 1
    )
    clips = [replace(clip, group=clip.file) for clip in clips]  # 45 recordings are too few for 5 %
    manifest.write(tmp_path / "pu_vib" / "manifest.csv", clips)
    assert (
        run(tmp_path, "rmis", "--multi-split", "--encoder", "log-mel-mean", "--protocol", "clean", "--json", out) == 0
    )
    found = read(out)
    # What RMIS has and its multi split has not may be named all the same.
    options = ("--encoder", "log-mel-mean", "--protocol", "clean", "--sets", "dcase2020", "pu_vib", "--json", out)
    assert run(tmp_path, "rmis", "--multi-split", *options) == 0
    assert read(out)["scores"] == found["scores"]
    assert found["benchmark"] == "rmis-multisplit"
    rows = np.load(found["sets"]["pu_vib"]["embeddings"])
    labels = np.repeat([0, 1, 2], 30)
    whole = rmis.multi_split(rows, labels, [clip.file for clip in clips], "clean", classes)
    assert found["scores"] == {"pu_vib": pytest.approx(whole.area)}
    runs = [clip.file[:-5].replace("_", "-") for clip in clips]  # ten cuts each
    sealed = [
        replace(clip, attributes=f"{clip.attributes}_recording_{name}") for clip, name in zip(clips, runs, strict=True)
    ]
    manifest.write(tmp_path / "pu_vib" / "manifest.csv", sealed)
    assert run(tmp_path, "rmis", "--encoder", "log-mel-mean", "--sealed", "--json", out) == 0
    assert read(out)["sets"]["pu_vib"]["kept_together"] == "group"
    assert read(out)["sets"]["pu_vib"]["recordings"] == len(set(runs)) == 9


def test_another_protocol_uses_the_embeddings_that_are_there(tmp_path, capsys, monkeypatch):
    put_cwru(tmp_path)
    assert run(tmp_path, "siren", "--encoder", "log-mel-mean") == 0
    monkeypatch.setattr(audio, "read", lambda *_: pytest.fail("read again"))
    assert run(tmp_path, "siren", "--encoder", "log-mel-mean", "--protocol", "clean", "--sealed") == 0
    assert "changed: the distance is that between whole embeddings" in capsys.readouterr().out


def in_two_processes(folder: Path, *options: object) -> tuple[list[int], str, str]:
    """Exit statuses, and what both processes print."""
    command = ["benchmark", "siren", *map(str, options)]
    statuses = [status for status, _ in in_processes(2, run_command, command, folder)]
    out, err = ("".join((folder / f"{rank}.{kind}").read_text() for rank in range(2)) for kind in ("out", "err"))
    return statuses, out, err


def test_the_channels_of_mafaulda_are_compared_each_on_its_own(tmp_path):
    """Seven channels: one tells the classes, the others are noise of larger vectors."""
    classes, clips = faults.find_corpus("mafaulda_vib").views["siren"].classes, []
    generator = np.random.default_rng(0)
    for number, name in enumerate(classes):
        for k in range(6):
            wave = generator.normal(0, 0.05, (7, 2500))
            wave[2] += 0.2 * np.sin(2 * np.pi * 400.0 * (number + 1) * np.arange(2500) / 50000)
            path = tmp_path / "mafaulda_vib" / "audio" / f"{name}_{k}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            audio.write(path, wave, 50000)
            known = {"channels": 7, "rate": 50000, "samples": 2500, "digest": audio.digest(path)}
            facts = f"class_{name}_modality_vibration_channel_1-7"
            place = ("mafaulda_vib", "mafaulda_vib", "00", "train", path.name, str(path))
            clips.append(Clip(*place, attributes=facts, **known))
    manifest.write(tmp_path / "mafaulda_vib" / "manifest.csv", clips)
    out = tmp_path / "out.json"
    for protocol in ("as-coded", "clean"):
        options = ("--encoder", "log-spectrum-mean", "--protocol", protocol, "--json", out)
        assert run(tmp_path, "siren", *options) == 0
        found = read(out)["sets"]["mafaulda_vib"]
        rows = np.load(found["embeddings"]).reshape(60, 7, -1)
        distances = np.linalg.norm(rows[:, None] - rows[None], axis=3)
        distances = (distances - distances.mean(1, keepdims=True)) / distances.std(1, keepdims=True)
        fused = distances.mean(2)
        np.fill_diagonal(fused, np.inf)
        near = np.argsort(fused, axis=1, kind="stable")[:, :5] // 6
        votes = np.array([max(row, key=lambda c, row=row: np.sum(row == c)) for row in near])
        assert found["accuracy"] == pytest.approx(100.0 * np.mean(votes == np.repeat(np.arange(10), 6)))
        assert found["accuracy"] > 50.0


def test_two_processes_make_the_same_rows(tmp_path):
    put_cwru(tmp_path)
    assert run(tmp_path, "siren", "--json", tmp_path / "one.json") == 0
    options = ("--data", tmp_path, "--store", tmp_path / "other", "--json", tmp_path / "two.json")
    statuses, out, err = in_two_processes(tmp_path, *options)
    assert statuses == [0, 0], err
    assert out.count("wrote") == 1
    one, two = read(tmp_path / "one.json"), read(tmp_path / "two.json")
    assert one["scores"] == two["scores"]
    arrays = [Path(each["sets"]["cwru"]["embeddings"]) for each in (one, two)]
    assert arrays[0] != arrays[1]
    assert arrays[0].read_bytes() == arrays[1].read_bytes()


def test_two_processes_say_once_what_one_of_them_met(tmp_path):
    clips, iiee = put_cwru(tmp_path), put_iiee(tmp_path)
    Path(clips[1].path).write_bytes(b"no sound")  # of the second process
    places = ["--data", tmp_path, "--store", tmp_path / "store", "--json", tmp_path / "out.json"]
    statuses, _, err = in_two_processes(tmp_path, *places, "--encoder", "log-mel-mean")
    assert 1 in statuses
    assert err.count(clips[1].file) == 1
    assert list(read(tmp_path / "out.json")["scores"]) == ["iiee"]
    assert read(tmp_path / "out.json")["sets"]["iiee"]["rows"] == len(iiee)


def test_a_broken_data_set_leaves_the_others_their_figures(tmp_path, capsys):
    put_cwru(tmp_path, left_out="FE-B")
    iiee, out = put_iiee(tmp_path), tmp_path / "out.json"
    assert run(tmp_path, "siren", "--encoder", "log-mel-mean", "--json", out) == 1
    text = capsys.readouterr()
    assert f"cwru: {tmp_path / 'cwru'}: expected clips of every class, found none of FE-B" in text.err
    found = read(out)
    assert (list(found["scores"]), list(found["failed"])) == (["iiee"], ["cwru"])
    (tmp_path / "iiee" / "audio" / iiee[3].file).unlink()
    assert run(tmp_path, "siren", "--encoder", "log-spectrum-mean", "--sets", "iiee", "--json", out) == 1
    assert iiee[3].file in capsys.readouterr().err
    assert read(out)["scores"] == {}


def test_copies_of_recordings_are_said(tmp_path, capsys):
    clips = put_cwru(tmp_path)
    path = Path(clips[1].path)
    path.write_bytes(Path(clips[0].path).read_bytes())
    clips[1] = replace(clips[1], digest=audio.digest(path))
    manifest.write(tmp_path / "cwru" / "manifest.csv", clips)
    assert run(tmp_path, "siren", "--encoder", "log-mel-mean") == 0
    assert "note: 1 recordings are copies of others" in capsys.readouterr().out


def test_a_set_that_no_table_has_may_lack_a_class(tmp_path, capsys):
    def facts(name: str) -> str:
        return f"class_{name}_modality_vibration_channel_gs"

    clips = [
        put(tmp_path, "mfpt", f"{name}_{k}.wav", number, 48828, attributes=facts(name))
        for number, name in enumerate(("inner-race", "outer-race"))
        for k in range(4)
    ]
    manifest.write(tmp_path / "mfpt" / "manifest.csv", clips)
    out = tmp_path / "out.json"
    assert run(tmp_path, "siren", "--encoder", "log-mel-mean", "--json", out) == 0
    found = read(out)
    assert (found["scores"], found["beside"]) == ({}, {"mfpt": 100.0})
    assert "note: 2 of 3 classes are there: inner-race, outer-race" in capsys.readouterr().out


def test_a_part_of_a_data_set_has_no_place_in_the_table(tmp_path, capsys):
    clips = put_cwru(tmp_path)
    manifest.write(tmp_path / "cwru" / "manifest.csv", clips[1:])
    out = tmp_path / "out.json"
    assert run(tmp_path, "siren", "--encoder", "log-mel-mean", "--json", out) == 0
    assert "lacks 1 of 105 clips; its figure has no place in the table" in capsys.readouterr().out
    found = read(out)
    assert (found["scores"], list(found["beside"])) == ({}, ["cwru"])
    assert main(["leaderboard", "siren", str(out), "--out", str(tmp_path / "table.html")]) == 0
    assert "no figure for this table" in capsys.readouterr().out


def test_mistakes(tmp_path, capsys):
    def refused(suite: str, *options: object) -> str:
        assert run(tmp_path, suite, *options) == 1
        return capsys.readouterr().err

    assert "expected some of dcase2020" in refused("siren", "--sets", "cwur")
    assert "expected no weights" in refused("siren", "--encoder", "log-mel-mean", "--checkpoint", "x.pt")
    assert "expected --checkpoint FILE, or random" in refused("siren", "--encoder", "fisher-tiny")
    assert main(["benchmark", "rmis", "--data", str(tmp_path / "nowhere")]) == 1
    assert "expected a folder with a folder for each data set" in capsys.readouterr().err
    put_iiee(tmp_path)
    (tmp_path / "iiee" / "prepare.json").write_text('{"corpus": "iiee", "view": "siren"}')
    assert "expected a data set prepared for {'corpus': 'iiee', 'view': 'rmis'}" in refused("rmis", "--sets", "iiee")
    clips = put_2020(tmp_path)
    anonymous = [replace(clip, label="", split="test") for clip in clips]
    manifest.write(tmp_path / "dcase2020" / "manifest.csv", anonymous)
    assert "expected labelled clips, found none among 16" in refused("rmis", "--sets", "dcase2020")


def test_plans_are_the_tables_columns():
    for name, plans in SUITES.items():
        assert {plan.name for plan in plans if plan.shown} == set(BOARDS[name].names)
        for plan in plans:
            if not plan.year:
                assert plan.view in faults.find_corpus(plan.name).views
    tests = {plan.name: plan.settings.get("test_size", 0.5) for plan in SUITES["rmis"] if plan.task == "rmis-fixed"}
    assert {name for name, size in tests.items() if size == 0.2} == {
        f"umged_{k}" for k in ("sound", "vib", "vol", "cur")
    }
    assert {plan.name: plan.seconds for plan in SUITES["rmis"] if plan.seconds != 10.0} == {
        "iiee": 3.0,
        "mafaulda_sound": 5.0,
        "mafaulda_vib": 5.0,
        "pu_vib": 4.0,
        "pu_cur": 4.0,
    }
    assert [plan.name for plan in choose("siren", ["mfpt", "cwru"])] == ["cwru", "mfpt"]
    with pytest.raises(WheeltapperError, match="rmis: expected some of"):
        choose("rmis", ["cwru"])
