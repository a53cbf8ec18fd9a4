"""Bad recordings, names, folders and the tables beside them."""

import numpy as np
from bad_input_files import (
    RATE,
    TEST,
    TRAIN,
    Case,
    changed,
    content,
    noise,
    patched,
    plain,
    put_wav,
    recordings,
    rename,
    table,
    wav_bytes,
)


def wav(name: str, wave=None, rate: int = RATE, subtype: str = "PCM_16"):
    return lambda folder: put_wav(folder / name, wave, rate, subtype)


def with_sample(value: float) -> np.ndarray:
    wave = noise()
    wave[7, 1] = value
    return wave


TRAIN_FILE, TEST_FILE = TRAIN.rpartition("/")[2], TEST.rpartition("/")[2]
ATTRIBUTES = "attributes_00.csv"
ROW = f"fan/train/{TRAIN_FILE}"

AUDIO = {
    "no byte": Case(recordings(content(TRAIN, b"")), TRAIN_FILE, "expected a sound file", "an empty file (0 bytes)"),
    "text": Case(
        recordings(content(TRAIN, "not sound\n" * 9)), TRAIN_FILE, "expected a readable wav", "found 90 bytes"
    ),
    "a picture": Case(
        recordings(content(TEST, b"\x89PNG\r\n\x1a\n" + bytes(99))), TEST_FILE, "expected a readable wav", "found 107"
    ),
    "cut in half": Case(
        recordings(changed(TRAIN, lambda data: data[: len(data) // 2])), TRAIN_FILE, "the header promises 6444", "3222"
    ),
    "header alone": Case(recordings(wav(TRAIN, noise(0))), TRAIN_FILE, "expected sound", "a file of 0 samples"),
    "half a header": Case(recordings(changed(TRAIN, lambda data: data[:20])), TRAIN_FILE, "truncated", "found 20"),
    "rate of zero": Case(
        recordings(changed(TEST, lambda data: patched(data, 24, bytes(4)))), TEST_FILE, "expected", "found"
    ),
    "silent training clip": Case(
        recordings(wav(TRAIN, noise() * 0)), TRAIN_FILE, "expected sound in a training clip", "silence"
    ),
    "NaN": Case(
        recordings(wav(TRAIN, with_sample(np.nan), subtype="FLOAT")), TRAIN_FILE, "expected finite samples", "found 1"
    ),
    "infinity": Case(
        recordings(wav(TEST, with_sample(-np.inf), subtype="FLOAT")), TEST_FILE, "expected finite samples", "found 1"
    ),
    "rate of two billion": Case(
        recordings(changed(TEST, lambda data: patched(data, 24, b"\xff\xff\xff\x7f"))),
        TEST_FILE,
        "expected a sampling rate of 10",
        "2,147,483,647 Hz",
    ),
    "mono among stereo": Case(
        recordings(wav(TEST, noise(channels=1))), TEST_FILE, "expected 2 channel(s) like the other", "found 1"
    ),
    "six channels": Case(recordings(wav(TEST, noise(channels=6))), TEST_FILE, "expected 1 or 2 channels", "found 6"),
    "a hundredth of a second": Case(recordings(wav(TRAIN, noise(0.01))), TRAIN_FILE, "expected at least 0.1 s", "0.01"),
    "damaged flac": Case(
        recordings(
            content("test/section_00_source_test_normal_0009_x.flac", patched(wav_bytes(kind="FLAC"), 600, b"\0" * 900))
        ),
        "normal_0009_x.flac",
        "damaged",
        "sample",
    ),
    "link to nothing": Case(
        recordings(
            lambda folder: (folder / "test" / "section_00_source_test_normal_0009_x.wav").symlink_to("gone.wav")
        ),
        "normal_0009_x.wav",
        "expected a sound file",
        "found nothing",
    ),
}

NAMES = {
    "free name": Case(
        recordings(rename(TRAIN, "train/pump 1.wav")), "pump 1.wav", "expected a DCASE file name", "'pump"
    ),
    "three digits of section": Case(
        recordings(rename(TRAIN, "train/section_000_source_train_normal_0000_x.wav")),
        "section_000_source",
        "expected a DCASE file name",
        "section_000",
    ),
    "domain misspelt": Case(
        recordings(rename(TEST, "test/section_00_sorce_test_normal_0000_x.wav")),
        "sorce",
        "such as section_00_source",
        "sorce",
    ),
    "anomaly in train": Case(
        recordings(rename(TRAIN, "train/section_00_source_train_anomaly_0000_x.wav")),
        "train_anomaly_0000_x.wav",
        "expected training clips with normal in their name",
        "found an anomaly",
    ),
    "no label in train": Case(
        recordings(rename(TRAIN, "train/section_00_0000.wav")), "train/section_00_0000.wav", "normal", "without label"
    ),
    "test name in train": Case(
        recordings(rename(TEST, f"train/{TEST_FILE}")), TEST_FILE, "expected a train clip", "a name that says test"
    ),
    "supplemental clip in test": Case(
        recordings(rename(TEST, "test/section_00_noise_0000_.wav")), "noise_0000_.wav", "in supplemental/", "section_NN"
    ),
    "domain against folder": Case(
        recordings(rename(TEST, "target_test/section_00_source_test_normal_0000.wav")),
        "target_test/section_00_source",
        "expected the target domain",
        "a name that says source",
    ),
    "one clip in two formats": Case(
        recordings(content(TRAIN.replace(".wav", ".flac"), wav_bytes(kind="FLAC"))),
        TRAIN_FILE,
        "expected a unique name",
        "found the same in",
    ),
    "labelled and anonymous": Case(
        recordings(wav("test/section_00_0007.wav")), "/fan", "all labelled or all anonymous", "found 4 and 1"
    ),
    "line break in a name": Case(
        recordings(rename(TRAIN, "train/section_00\n.wav")), "section_00\\n.wav", "expected a DCASE file name", "\\n"
    ),
    "undecodable name": Case(
        recordings(rename(TRAIN, "train/section_00_\udcff.wav")), "section_00_", "expected a DCASE file name", "udcff"
    ),
}

LAYOUT = {
    "no folder": Case(plain("prepare", "{}/none", "--out", "{}/o.csv"), "/none", "expected a folder", "found nothing"),
    "a file for a folder": Case(
        plain("prepare", "{}/x.wav", "--out", "{}/o.csv", x__wav=wav_bytes()), "x.wav", "expected a folder", "a file"
    ),
    "the machine itself": Case(
        lambda folder: ["prepare", recordings(lambda _: 0)(folder)[1] + "/fan", "--out", str(folder / "o.csv")],
        "in/fan",
        "expected a folder of <machine>",
        "the folder of one machine",
    ),
    "one level too high": Case(
        lambda folder: ["prepare", str(recordings(lambda _: 0)(folder) and folder), "--out", str(folder / "o.csv")],
        "give",
        "expected a folder of <machine>",
        "found no machine",
    ),
    "no training clip": Case(
        recordings(lambda folder: [path.unlink() for path in (folder / "train").iterdir()]),
        "/fan",
        "expected at least 2 normal training clips",
        "found none",
    ),
    "one training clip": Case(
        recordings(lambda folder: [path.unlink() for path in sorted((folder / "train").iterdir())[1:]]),
        "/fan: section 00",
        "expected at least 2 normal training clips",
        "found 1",
    ),
    "recording beside train": Case(
        recordings(wav("x.wav")), "/fan", "expected recordings in train/ and test/", "x.wav"
    ),
    "a folder in train": Case(recordings(wav("train/a/x.wav")), "train/a", "expected recordings directly in", "below"),
}

TABLES = {
    "attributes: header": Case(
        recordings(content(ATTRIBUTES, f"name,d1p,d1v\n{ROW},vel,1\n")),
        ATTRIBUTES,
        "expected file_name,d1p",
        "name,d1p",
    ),
    "attributes: no values": Case(
        recordings(content(ATTRIBUTES, f"file_name,d1p\n{ROW},vel\n")),
        ATTRIBUTES,
        "expected file_name,d1p,d1v",
        "found",
    ),
    "attributes: bare names": Case(
        recordings(content(ATTRIBUTES, f"file_name,d1p,d1v\n{TRAIN_FILE},vel,1\n")),
        f"{ATTRIBUTES}: line 2",
        "expected <machine>/<split>/<file>",
        TRAIN_FILE,
    ),
    "attributes: Latin-1": Case(
        recordings(content(ATTRIBUTES, f"file_name,d1p,d1v\n{ROW},t\xfcr,1\n".encode("latin-1"))),
        ATTRIBUTES,
        "expected UTF-8 text",
        "0xfc",
    ),
    "attributes: UTF-16": Case(
        recordings(content(ATTRIBUTES, f"file_name,d1p,d1v\n{ROW},vel,1\n".encode("utf-16"))),
        ATTRIBUTES,
        "expected UTF-8 text",
        "0xff",
    ),
    "attributes: twice": Case(
        recordings(content(ATTRIBUTES, f"file_name,d1p,d1v\n{ROW},vel,1\n{ROW},vel,2\n")),
        f"{ATTRIBUTES}: line 3",
        "occurs twice",
        "different attributes",
    ),
    "attributes: empty": Case(recordings(content(ATTRIBUTES, "")), ATTRIBUTES, "expected file_name", "found nothing"),
    "attributes: endless number": Case(
        recordings(content(ATTRIBUTES, f"file_name,d{'9' * 5000}p,d1v\n")), ATTRIBUTES, "expected file_name", "found"
    ),
    "table: column": Case(
        table("fle\na.wav\n"), "table.csv: line 1", "expected a header such as file,machine", "'fle'"
    ),
    "table: ragged": Case(table("file,class\na.wav\n"), "table.csv: line 2", "expected 2 columns", "found 1"),
    "table: file missing": Case(table("file\na.wav\nc.wav\n"), "c.wav", "expected a sound file", "found nothing"),
    "table: file twice": Case(table("file\na.wav\na.wav\n"), "table.csv: line 3", "expected each file once", "a.wav"),
    "table: cell empty": Case(
        table("file,label\n\na.wav,\n ,ok\n"), "table.csv: line 4", "expected text", "found nothing"
    ),
    "table: condition": Case(
        table("file\na.wav\n", "--where", "file~["), "where: file~[", "regular expression", "found"
    ),
    "table: no row": Case(table("file\na.wav\n", "--where", "file=x"), "table.csv", "at least one row", "found none"),
    "table: quote left open": Case(
        table('file,note\na.wav,"1\nb.wav,2\n'),
        "table.csv",
        "expected text with quotes in pairs",
        "unexpected end of data",
    ),
}
