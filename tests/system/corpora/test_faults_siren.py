"""SIREN's views, the data sets of neither benchmark, and real recordings if available."""

import csv
from collections import Counter

import numpy as np
import pytest
import soundfile
from faults_files import DATA, put_csv, put_mat, put_wav, signal

from system import audio
from system.corpora import faults
from system.corpora.faults.convert import prepare
from system.corpora.faults.cwru import NUMBERS
from system.corpora.names import attribute_pairs
from system.corpora.table import class_of
from system.errors import WheeltapperError


def make(name, raw, out, view=""):
    return prepare(faults.find_corpus(name), raw, out, view)


def test_iica(tmp_path):
    for leak, noise in (("tubeleak", "hydr"), ("tubeleak", "hydr_low"), ("ventleak", "lab"), ("ventlow", "lab")):
        for state in ("iO", "niO"):
            put_wav(tmp_path / "raw" / leak / noise / "1" / f"1_{state}_0_1_.wav", signal(900), 48000, "PCM_24")
    clips = make("iica", tmp_path / "raw", tmp_path / "out", "siren")
    assert [(clip.file, class_of(clip)) for clip in clips] == [
        ("tubeleak/hydr/1/1_iO_0_1_.wav", "no-leak"),
        ("tubeleak/hydr/1/1_niO_0_1_.wav", "tubeleak"),
        ("tubeleak/hydr_low/1/1_iO_0_1_.wav", "no-leak"),
        ("tubeleak/hydr_low/1/1_niO_0_1_.wav", "tubeleak"),
        ("ventleak/lab/1/1_iO_0_1_.wav", "no-leak"),
        ("ventleak/lab/1/1_niO_0_1_.wav", "ventleak"),
    ]
    assert {clip.samples for clip in clips} == {900}  # whole, in place
    assert len({clip.group for clip in clips}) == 6


def test_mafaulda(tmp_path):
    """Tachometer and six accelerometers in one file, the microphone in another, without scaling."""
    rows = np.stack([signal(500, k, 3.0 * (k + 1)) for k in range(8)], axis=1)
    put_csv(tmp_path / "raw" / "underhang" / "cage_fault" / "6g" / "13.1.csv", rows)
    rows = np.loadtxt(next((tmp_path / "raw").rglob("*.csv")), delimiter=",")
    (vibration,) = make("mafaulda_vib", tmp_path / "raw", tmp_path / "vib", "siren")
    assert (vibration.file, class_of(vibration)) == ("underhang_cage_fault_6g_13.1.wav", "underhang-cage-fault")
    assert (vibration.channels, dict(attribute_pairs(vibration.attributes))["channel"]) == (7, "1-7")
    assert np.array_equal(audio.read(vibration.path)[0], rows[:, :7].T.astype(np.float32))
    (sound,) = make("mafaulda_sound", tmp_path / "raw", tmp_path / "sound", "siren")
    assert np.array_equal(audio.read(sound.path)[0], rows[:, 7:].T.astype(np.float32))


def put_cwru(path, number, samples=300, fan=True):
    drive = signal(samples, number, 5.0)[:, None]
    signals = {f"X{number}_DE_time": drive} | ({f"X{number}_FE_time": -drive} if fan else {})
    put_mat(path, **signals, **{f"X{number}RPM": np.array([[1797.0]])})
    return drive[:, 0]


def test_cwru(tmp_path):
    drive = put_cwru(tmp_path / "raw" / "12k_Drive_End_Bearing_Fault_Data" / "OR" / "007" / "@6" / "130_0.mat", 130)
    fan = put_cwru(tmp_path / "raw" / "282.mat", 282)
    put_cwru(tmp_path / "raw" / "12k_Fan_End_OR021@3_1_316.mat", 316, fan=False)
    for left_out in ("97.mat", "48k_Drive_End_B007_0_122.mat"):
        put_mat(tmp_path / "raw" / left_out, X=np.ones((1, 3)))
    clips = make("cwru", tmp_path / "raw", tmp_path / "out")
    assert [(clip.file, class_of(clip), clip.group) for clip in clips] == [
        (f"{name}.wav", kind, name)
        for name, kind in (
            ("12k_Drive_End_OR007@6_0_130", "DE-OC@6"),
            ("12k_Fan_End_B007_0_282", "FE-B"),
            ("12k_Fan_End_OR021@3_1_316", "FE-OC@3"),
        )
    ]
    # Both groups by the accelerometer at the drive end, which comes first in the files; in g, not scaled.
    for clip, wave in zip(clips, (drive, fan), strict=False):
        assert (clip.rate, clip.channels, clip.samples) == (12000, 1, 300)
        assert np.array_equal(audio.read(clip.path)[0][0], wave.astype(np.float32))
    assert dict(attribute_pairs(clips[0].attributes)) == {
        **{"class": "DE-OC@6", "modality": "vibration", "channel": "DE"},
        **{"size": "007", "load": "0"},
    }


def test_all_105_recordings_of_cwru():
    kinds = Counter(
        (end, fault.rstrip("0123456789")[:2] if "@" not in fault else fault.partition("@")[2])
        for end, fault, _ in NUMBERS.values()
    )
    assert kinds == {
        **{("DE", "IR"): 16, ("DE", "B"): 16, ("DE", "3"): 8, ("DE", "6"): 12, ("DE", "12"): 8},
        **{("FE", "IR"): 12, ("FE", "B"): 12, ("FE", "3"): 11, ("FE", "6"): 6, ("FE", "12"): 4},
    }


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["B007_0.mat"], r"B007_0\.mat: expected a name with the number of a recording .* found B007_0\.mat"),
        (["9999.mat"], r"9999\.mat: expected a name with the number"),
        (["a/118.mat", "b/118_0.mat"], r"b/118_0\.mat: expected recording 118 once, found also .*a/118\.mat"),
        (["97.mat"], "expected 12 kHz recordings of faults, found none"),
    ],
)
def test_names_that_cwru_does_not_have(tmp_path, names, text):
    for name in names:
        put_cwru(tmp_path / "raw" / name, 1)
    with pytest.raises(WheeltapperError, match=text):
        make("cwru", tmp_path / "raw", tmp_path / "out")


def test_re_encoded_recordings_get_their_scale_back(tmp_path):
    raw = tmp_path / "raw" / "12k_Fan_End"
    steps = np.array([100, -200, 32000], np.int16)
    raw.mkdir(parents=True)
    soundfile.write(raw / "12k_Fan_End_IR014_1_275_FE.flac", steps, 12000)
    table = tmp_path / "raw" / "manifest.csv"
    table.write_text("file,scale_per_lsb\n12k_Fan_End/12k_Fan_End_IR014_1_275_FE.flac,0.25\n")
    (clip,) = make("cwru", tmp_path / "raw", tmp_path / "out")
    assert audio.read(clip.path)[0].tolist() == [[25.0, -50.0, 8000.0]]
    assert dict(attribute_pairs(clip.attributes))["channel"] == "FE"
    for text, expected in (
        ("file,scale_per_lsb\nother.flac,1\n", "expected the scale of 12k_Fan_End/12k_Fan_End_IR014_1_275_FE.flac"),
        ("file,scale_per_lsb\nx.flac,zero\n", "line 2: scale_per_lsb: expected a number above 0, found 'zero'"),
    ):
        table.write_text(text)
        with pytest.raises(WheeltapperError, match=expected):
            make("cwru", tmp_path / "raw", tmp_path / "again" / str(len(text)))
    table.unlink()
    (clip,) = make("cwru", tmp_path / "raw", tmp_path / "plain")
    assert audio.read(clip.path)[0].tolist() == [(steps / 32768).tolist()]


def test_mfpt(tmp_path):
    folder = tmp_path / "raw" / "MFPT Fault Data Sets"
    waves = {}
    for name, rate in (
        ("1 - Three Baseline Conditions/baseline_1", 97656),
        ("2 - Three Outer Race Fault Conditions/OuterRaceFault_3", 97656),
        ("4 - Seven Inner Race Fault Conditions/InnerRaceFault_vload_7", 48828),
        ("6 - Real World Examples/IntermediateSpeedBearing", 100000),
    ):
        waves[name.split("/")[1]] = wave = signal(200, len(name), 7.0)
        put_mat(folder / f"{name}.mat", bearing={"sr": np.uint32(rate), "gs": wave[:, None], "load": 0, "rate": 25})
    clips = make("mfpt", tmp_path / "raw", tmp_path / "out")
    assert [(clip.file, class_of(clip), clip.rate) for clip in clips] == [
        ("InnerRaceFault_vload_7.wav", "inner-race", 48828),
        ("OuterRaceFault_3.wav", "outer-race", 97656),
        ("baseline_1.wav", "normal", 97656),
    ]
    for clip in clips:
        assert np.array_equal(audio.read(clip.path)[0][0], waves[clip.group].astype(np.float32))


def test_mimii(tmp_path):
    for ratio in ("-6_dB", "6_dB"):
        for state, count in (("normal", 5), ("abnormal", 2)):
            for k in range(count):
                path = tmp_path / "raw" / f"{ratio}_fan" / "fan" / "id_04" / state / f"{k:08d}.wav"
                put_wav(path, np.tile(signal(160, k)[:, None], 8), 16000)
    clips = make("mimii", tmp_path / "raw", tmp_path / "out")
    assert Counter((c.machine, c.section, c.split, c.label, class_of(c)) for c in clips) == {
        (f"fan_{ratio}dB", "04", *rest): count
        for ratio in ("-6", "6")
        for rest, count in (
            (("train", "normal", "normal"), 3),
            (("test", "normal", "normal"), 2),
            (("test", "anomaly", "abnormal"), 2),
        )
    }
    assert {c.file for c in clips if c.split == "train"} == {f"id_04/normal/{k:08d}.wav" for k in (2, 3, 4)}
    assert {(c.channels, c.rate) for c in clips} == {(8, 16000)}
    for path in (tmp_path / "raw" / "6_dB_fan").rglob("normal/*.wav"):
        path.unlink()
    with pytest.raises(WheeltapperError, match=r"fan_6dB id_04: expected more normal than abnormal .* found 0 and 2"):
        make("mimii", tmp_path / "raw", tmp_path / "out")


def real(name):
    if not (DATA / name).is_dir():
        pytest.skip(f"real recordings: expected {name} in shared/data beside the checkout or WHEELTAPPER_TEST_DATA")
    with open(DATA / name / "manifest.csv", newline="") as file:
        return DATA / name, list(csv.DictReader(file))


def test_real_cwru(tmp_path):
    folder, rows = real("cwru_12k_48k")
    clips = make("cwru", folder, tmp_path / "out")
    rows = {row["file"].split("/")[1].rpartition("_")[0]: row for row in rows if row["file"].startswith("12k_")}
    assert len(clips) == len(rows) == 105
    for clip in clips:
        row = rows[clip.group.replace("@", "at")]
        facts = dict(attribute_pairs(clip.attributes))
        assert class_of(clip) == row["label"].replace("_", "-")
        assert (facts["size"], facts["load"], facts["channel"]) == (
            row["fault_size_mil"],
            row["load_hp"],
            row["channel"],
        )
        assert (clip.rate, clip.samples) == (int(row["sr"]), int(row["samples"]))
    row = rows["12k_Drive_End_B007_0_118"]
    counts = soundfile.read(folder / row["file"], dtype="int16")[0]
    wave = audio.read(next(clip.path for clip in clips if clip.group.endswith("_118")))[0][0]
    assert np.allclose(wave, counts * float(row["scale_per_lsb"]), rtol=1e-6)


def test_real_mfpt(tmp_path):
    folder, rows = real("mfpt_faults")
    clips = make("mfpt", folder, tmp_path / "out")
    assert {clip.group: class_of(clip) for clip in clips} == {
        row["file"].removesuffix(".flac"): row["label"].replace("_", "-") for row in rows
    }
    assert Counter(map(class_of, clips)) == {"inner-race": 7, "outer-race": 7}
    assert {(clip.rate, clip.samples) for clip in clips} == {(48828, 146484)}
    steps = soundfile.read(folder / rows[0]["file"], dtype="int32")[0] >> 8
    wave = audio.read(next(clip.path for clip in clips if f"{clip.group}.flac" == rows[0]["file"]))[0][0]
    assert np.allclose(wave, steps * 1e-5, rtol=1e-6)
