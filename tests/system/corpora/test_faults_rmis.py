"""RMIS's data sets at small size: classes, groups, names, order, cuts, channels and scaling as in its code."""

from pathlib import Path

import numpy as np
import pytest
from faults_files import heard, pcm, put_csv, put_mat, put_mat73, put_pu, put_wav, signal

from system import manifest
from system.corpora import faults
from system.corpora.faults.convert import prepare
from system.corpora.names import attribute_pairs
from system.corpora.table import class_of


def make(name, raw, out, view=""):
    clips = prepare(faults.find_corpus(name), raw, out, view)
    assert manifest.read(out / "manifest.csv") == clips
    return clips


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def listed(name, raw, view=""):
    """(class, names, groups) of the recordings found by name."""
    found = faults.find_corpus(name).view(view)[1].find_recordings(raw)
    return [(r.kind, [o.name for o in r.outputs], [o.group for o in r.outputs]) for r in found]


def test_iica(tmp_path):
    wave = signal(48000 * 17)
    for leak, state, mic in (("tubeleak", "niO", 1), ("tubeleak", "iO", 1), ("ventlow", "niO", 2)):
        put_wav(tmp_path / "raw" / leak / "hydr_low" / "2" / f"2_{state}_7_{mic}_.wav", wave, 48000, "PCM_24")
    clips = make("iica", tmp_path / "raw", tmp_path / "out")
    stem = "tubeleak/hydr_low/2/2_iO_7_1"
    assert [clip.file for clip in clips[:2]] == [f"{stem}_0.wav", f"{stem}_1.wav"]
    assert [(class_of(clip), clip.group) for clip in clips[::2]] == [
        ("tubeleak-noleak", stem),
        ("tubeleak-leak", "tubeleak/hydr_low/2/2_niO_7_1"),
        ("ventlow-leak", "ventlow/hydr_low/2/2_niO_7_2"),
    ]
    facts = dict(attribute_pairs(clips[4].attributes))
    assert facts == {
        **{"class": "ventlow-leak", "modality": "sound", "channel": "1"},
        **{"leak": "ventlow", "noise": "hydr-low", "session": "2", "knob": "7", "mic": "2"},
    }
    assert {(clip.rate, clip.samples, clip.channels, clip.split) for clip in clips} == {(48000, 480000, 1, "train")}
    # The last cut is the last ten seconds: 7 s are more than half of them.
    for clip, part in zip(clips[:2], (wave[:480000], wave[-480000:]), strict=True):
        assert np.abs(heard(clip.path) - pcm(part).astype(int)).max() <= 1  # 24 bits in between


def test_wtpg(tmp_path):
    columns = np.stack([signal(48000 * 14, 1, 4.0), signal(48000 * 14, 2, 2.0), *np.zeros((2, 48000 * 14))], axis=1)
    columns[0, 2] = 9.0  # a louder channel that is not among the chosen ones
    put_mat(tmp_path / "raw" / "missing_tooth" / "1" / "M1_20.MAT", Data=columns)
    put_mat(tmp_path / "raw" / "healthy" / "2" / "N2_55.MAT", Data=columns[: 48000 * 10] / 8)
    touch(tmp_path / "raw", "healthy/2/N2_keyphase.MAT")
    clips = make("wtpg", tmp_path / "raw", tmp_path / "out")
    # 14 s: the rest of 4 s is less than half a cut and left out.
    assert [(clip.file, class_of(clip), clip.group) for clip in clips] == [
        (f"{group}_ch0_0.wav", kind, group)
        for kind, group in (
            ("healthy", "healthy_2_N2_55_channel1"),
            ("healthy", "healthy_2_N2_55_channel2"),
            ("missing-tooth", "missing_tooth_1_M1_20_channel1"),
            ("missing-tooth", "missing_tooth_1_M1_20_channel2"),
        )
    ]
    assert [dict(attribute_pairs(clip.attributes))["channel"] for clip in clips] == ["1", "2", "1", "2"]
    # All of it is divided by the largest magnitude in all files and chosen channels.
    for clip, column, times in zip(clips, (0, 1, 0, 1), (8, 8, 1, 1), strict=True):
        assert np.array_equal(heard(clip.path), pcm(columns[:480000, column] / times / 4.0))


def test_quiet_data_is_not_scaled(tmp_path):
    columns = np.stack([signal(480000, k, 0.5) for k in range(4)], axis=1).astype(np.float32)
    put_mat(tmp_path / "raw" / "wear" / "1" / "W1_20.MAT", Data=columns)
    clips = make("wtpg", tmp_path / "raw", tmp_path / "out")
    assert np.array_equal(heard(clips[1].path), pcm(columns[:, 1].astype(np.float64)))


def test_mafaulda(tmp_path):
    rows = np.stack([signal(400, k, 0.1 * (k + 1)) for k in range(8)], axis=1)
    rows[7, 7], rows[9, 0] = 2.0, 50.0
    for name in ("normal/12.288.csv", "imbalance/6g/13.1.csv", "overhang/ball_fault/20g/14.csv"):
        put_csv(tmp_path / "raw" / "full" / name, rows)
    rows = np.loadtxt(tmp_path / "raw" / "full" / "normal" / "12.288.csv", delimiter=",")
    sound = make("mafaulda_sound", tmp_path / "raw", tmp_path / "sound")
    assert [(clip.file, clip.group, class_of(clip)) for clip in sound] == [
        ("imbalance_6g_13.1_channel8.wav", "imbalance_6g_13.1_channel8", "imbalance"),
        ("normal_12.288_channel8.wav", "normal_12.288_channel8", "normal"),
        ("overhang_ball_fault_20g_14_channel8.wav", "overhang_ball_fault_20g_14_channel8", "overhang-ball-fault"),
    ]
    assert {(clip.rate, clip.samples) for clip in sound} == {(50000, 400)}
    assert np.array_equal(heard(sound[0].path), pcm(rows[:, 7] / 2.0))
    vibration = make("mafaulda_vib", tmp_path / "raw", tmp_path / "vib")
    assert len(vibration) == len({clip.group for clip in vibration}) == 18
    assert [clip.file[-13:] for clip in vibration[:6]] == [f"_channel{k}.wav" for k in range(2, 8)]
    assert np.array_equal(heard(vibration[5].path), pcm(rows[:, 6]))  # their largest is below 1


def test_mafaulda_has_ten_classes(tmp_path):
    kinds = ["horizontal-misalignment/0.5mm", "vertical-misalignment/1.27mm", "imbalance/6g", "normal"]
    kinds += [f"{end}/{fault}/0g" for end in ("overhang", "underhang") for fault in ("ball_fault", "cage_fault")]
    kinds += ["overhang/outer_race/6g", "underhang/outer_race/6g"]
    found = listed("mafaulda_sound", touch(tmp_path, *(f"{kind}/1.csv" for kind in kinds)))
    classes = faults.find_corpus("mafaulda_sound").view()[1].classes
    assert sorted(kind.replace("_", "-") for kind, *_ in found) == list(classes)
    assert len(classes) == 10


@pytest.mark.parametrize(("name", "place", "kind"), [("sdust_bearing", "轴承数据集", "OF0.4")])
def test_sdust(tmp_path, name, place, kind):
    values = np.stack([signal(25600 * 15, k, 0.9) for k in range(6)], axis=1)
    put_mat(tmp_path / "raw" / place / kind / "1000_a b.mat", Signal={"y_values": {"values": values, "unit": "g"}})
    touch(tmp_path / "raw", "齿轮数据集/NC/1.mat", "notes.txt")
    clips = make(name, tmp_path / "raw", tmp_path / "out")
    # 15 s: the rest of 5 s is not more than half a cut. Column 6 is channel 1.
    assert [(clip.file, clip.group) for clip in clips] == [
        (f"OF0.4_1000_a_b_channel{k}_ch0_0.wav", f"OF0.4_1000_a_b_channel{k}") for k in range(1, 7)
    ]
    assert {(class_of(clip), clip.rate, clip.samples) for clip in clips} == {("OF0.4", 25600, 256000)}
    for number, clip in enumerate(clips, 1):
        assert np.array_equal(heard(clip.path), pcm(values[:256000, 6 - number]))


def test_sdust_gears(tmp_path):
    chinese = ["NC", "太阳断裂", "太阳点蚀", "太阳磨损", "行星断裂", "行星点蚀", "行星磨损"]
    expected = ["normal", "sunfracture", "sunpitting", "sunwear"]
    expected += ["planetrayfracture", "planetraypitting", "planetraywear"]
    raw = touch(tmp_path / "a", *(f"齿轮数据集/{name}/n_1.mat" for name in chinese), "轴承数据集/NC/1.mat")
    found = listed("sdust_gear", raw)
    assert sorted(kind for kind, *_ in found) == sorted(expected)
    assert ("normal", "NC_n_1_channel6") in [(kind, names[0]) for kind, names, _ in found]
    assert ("sunwear", "sunwear_n_1_channel6") in [(kind, names[0]) for kind, names, _ in found]
    renamed = touch(tmp_path / "b", "gear/NC/n_1.mat", *(f"gear/{name}/n_1.mat" for name in expected[1:]))
    assert sorted(listed("sdust_gear", renamed)) == sorted(found)


@pytest.mark.parametrize(
    ("name", "sensors", "modality"),
    [
        ("umged_sound", ["06"], "sound"),
        ("umged_vib", ["03", "04", "05"], "vibration"),
        ("umged_vol", ["07", "08"], "voltage"),
        ("umged_cur", ["01", "02"], "current"),
    ],
)
def test_umged(tmp_path, name, sensors, modality):
    waves = {f"DataSensor{k:02d}": signal(51200 * 11, k, float(k)) for k in (int(s) for s in sensors)}
    others = {f"DataSensor{k:02d}": np.full(8, 99.0) for k in range(1, 12)}
    path = tmp_path / "raw" / "data" / "G2" / "T3" / "N139_G2_E16_T3_S1200.mat"
    put_mat73(path, **{k: v[:, None] for k, v in (others | waves).items()})
    clips = make(name, tmp_path / "raw", tmp_path / "out")
    stem = "G2_T3_N139_G2_E16_T3_S1200"
    assert [(clip.file, clip.group) for clip in clips] == [
        (f"{stem}_channel{s}_ch0_0.wav", f"{stem}_channel{s}") for s in sensors
    ]
    facts = [dict(attribute_pairs(clip.attributes)) for clip in clips]
    common = {"class": "E16", "modality": modality, "gear": "G2"}
    if len(sensors) > 1:  # which are recordings of their own for RMIS, made at one time
        common["recording"] = f"{stem}_channel{sensors[0]}".replace("_", "-")
    assert facts == [common | {"channel": s} for s in sensors]
    loudest = max(1.0, *(float(s) for s in sensors))
    for clip, wave in zip(clips, waves.values(), strict=True):
        assert (clip.rate, clip.samples) == (51200, 512000)
        assert np.array_equal(heard(clip.path), pcm(wave[:512000] / loudest))


def test_umged_is_read_in_parts(tmp_path, monkeypatch):
    import h5py

    wave = signal(51200 * 36)
    put_mat73(tmp_path / "raw" / "G1" / "N1_G1_E00_T0_S600.mat", DataSensor06=wave[:, None])
    parts = []
    get = h5py.Dataset.__getitem__

    def watched(self, index, **options):
        parts.append(get(self, index, **options))
        return parts[-1]

    monkeypatch.setattr(h5py.Dataset, "__getitem__", watched)
    monkeypatch.setattr("system.corpora.faults.convert.BLOCK", 100_000)
    clips = make("umged_sound", tmp_path / "raw", tmp_path / "out")
    assert max(part.size for part in parts) == 512000
    assert [clip.file[-10:] for clip in clips] == [f"06_ch0_{k}.wav"[-10:] for k in range(4)]
    expected = [wave[k : k + 512000] for k in (0, 512000, 1024000, 51200 * 26)]
    assert all(np.array_equal(heard(c.path), pcm(e)) for c, e in zip(clips, expected, strict=True))


def test_pu(tmp_path):
    channels = [signal(600, k, 0.5 + k) for k in range(7)]
    names = [
        "K001/N09_M07_F10_K001_1",
        "K001/N09_M07_F10_K001_12",
        "KI04/N15_M01_F10_KI04_3",
        "KB27/N15_M07_F04_KB27_1",
    ]
    for name in names:
        put_pu(tmp_path / "raw" / f"{name}.mat", channels)
    clips = make("pu_cur", tmp_path / "raw", tmp_path / "out")
    # RMIS sorts by the names that it gives, capitals first; all runs and channels of a bearing and condition are one.
    assert [(clip.file, class_of(clip), clip.group) for clip in clips] == [
        (f"{group}_{run}_channel{channel}.wav", kind, group)
        for group, kind, runs in (
            ("IR_lifetime_KI04_N15_M01_F10_KI04", "IR", ["3"]),
            ("OR_lifetime_KB27_N15_M07_F04_KB27", "OR", ["1"]),
            ("healthy_K001_N09_M07_F10_K001", "healthy", ["12", "1"]),
        )
        for run in runs
        for channel in (2, 3)
    ]
    assert {(clip.rate, clip.samples) for clip in clips} == {(64000, 600)}
    assert np.array_equal(heard(clips[0].path), pcm(channels[1] / 2.5))
    assert np.array_equal(heard(clips[1].path), pcm(channels[2] / 2.5))
    vibration = make("pu_vib", tmp_path / "raw", tmp_path / "vib")
    assert np.array_equal(heard(vibration[0].path), pcm(channels[6] / 6.5))
    organised = touch(tmp_path / "b", *(f"OR/lifetime/{name}.mat" for name in names))
    assert sorted(listed("pu_cur", organised)) == sorted(listed("pu_cur", tmp_path / "raw"))


def test_all_bearings_of_pu():
    from system.corpora.faults.pu import BEARINGS

    kinds = [place.partition("/")[0] for place in BEARINGS.values()]
    assert [kinds.count(kind) for kind in ("healthy", "IR", "OR")] == [6, 13, 13]


def test_the_unreadable_file_of_pu(tmp_path):
    from system.errors import WheeltapperError

    channels = [signal(300, k) for k in range(7)]
    folder = tmp_path / "raw" / "KA08"
    touch(folder, "N15_M01_F10_KA08_2.mat")
    with pytest.raises(
        WheeltapperError, match=r"KA08_2\.mat: .*put RMIS's N15_M01_F10_KA08_2_new\.mat into its folder"
    ):
        make("pu_vib", tmp_path / "raw", tmp_path / "out")
    put_pu(folder / "N15_M01_F10_KA08_2_new.mat", channels, nested=True)
    (clip,) = make("pu_vib", tmp_path / "raw", tmp_path / "out")
    assert clip.file == "OR_artificial_KA08_N15_M01_F10_KA08_2_channel7.wav"
    assert np.array_equal(heard(clip.path), pcm(channels[6]))


def put_iiee(raw, rate=44100, test="test_cut"):
    for folder, stems in (("train_cut", ["pure_0", "pure_1"]), (test, ["atmo_low_0", "talking_1_3"])):
        for k, engine in enumerate(("engine1_good", "engine2_broken", "engine3_heavyload")):
            for stem in stems:
                put_wav(raw / "set" / folder / engine / f"{stem}.wav", signal(600, k), rate)


def test_iiee(tmp_path):
    put_iiee(tmp_path / "raw")
    put_wav(tmp_path / "raw" / "set" / "train" / "engine1_good" / "pure.wav", signal(600), 44100)
    clips = make("iiee", tmp_path / "raw", tmp_path / "out")
    assert len(clips) == 12
    assert [(class_of(c), c.split) for c in clips if c.split == "train"] == [
        (kind, "train") for kind in ("good", "broken", "heavyload") for _ in range(2)
    ]
    asked = clips[0]
    assert asked.file == "test_cut/engine1_good/atmo_low_0.wav"
    assert dict(attribute_pairs(asked.attributes))["condition"] == "atmo-low"
    assert clips[1].group == "test_cut/engine1_good/talking_1"
    # The published files are used as they are.
    assert Path(asked.path) == tmp_path / "raw" / "set" / asked.file
    assert not (tmp_path / "out" / "audio").exists()


def test_iiee_without_cuts_to_ask(tmp_path):
    from system.errors import WheeltapperError

    put_iiee(tmp_path / "raw", test="test")
    with pytest.raises(WheeltapperError, match=r"expected recordings in test_cut/engine1_good/, found none"):
        make("iiee", tmp_path / "raw", tmp_path / "out")
    clips = make("iiee", tmp_path / "raw", tmp_path / "siren", "siren")
    assert sum(clip.split == "test" for clip in clips) == 6
