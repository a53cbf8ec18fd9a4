"""The table of bad inputs, by group, and of odd ones that must be taken."""

from bad_input_files import (
    TEST,
    TRAIN,
    changed,
    configured,
    content,
    edited,
    manifest,
    put_wav,
    recordings,
    scored,
    wav_bytes,
)
from bad_recordings import AUDIO, LAYOUT, NAMES, TABLES
from bad_records import CSVS, MANIFESTS, RESULTS, TRUTH
from bad_settings import ARCHIVES, CHECKPOINTS, CONFIGS, OUTPUTS

GROUPS = {
    "audio": AUDIO,
    "names": NAMES,
    "layout": LAYOUT,
    "tables": TABLES,
    "truth": TRUTH,
    "CSVs": CSVS,
    "manifests": MANIFESTS,
    "configurations": CONFIGS,
    "checkpoints": CHECKPOINTS,
    "archives": ARCHIVES,
    "results": RESULTS,
    "outputs": OUTPUTS,
}
CASES = {f"{group}: {name}": case for group, cases in GROUPS.items() for name, case in cases.items()}

LIST = "file_name,D1P,D1V\r\nfan/train/" + TRAIN.rpartition("/")[2] + ",vel,1\r\n"
GOOD = {
    "24 bits": recordings(lambda folder: put_wav(folder / TRAIN, subtype="PCM_24")),
    "floats": recordings(lambda folder: put_wav(folder / TRAIN, subtype="FLOAT")),
    "8 bits": recordings(lambda folder: put_wav(folder / TEST, subtype="PCM_U8")),
    "flac": recordings(content("train/section_00_source_train_normal_0009_vel_1.flac", wav_bytes(kind="FLAC"))),
    "unknown chunk": recordings(changed(TEST, lambda data: data[:12] + b"abcd\4\0\0\0wxyz" + data[12:])),
    "length left open": recordings(changed(TEST, lambda data: data[:40] + b"\xff\xff\xff\xff" + data[44:])),
    "attributes with a mark and Windows lines": recordings(
        content("attributes_00.csv", b"\xef\xbb\xbf" + LIST.encode())
    ),
    "truth with a mark and Windows lines": scored(
        changed("truth.csv", lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"))
    ),
    "manifest with Windows lines": manifest(changed("manifest.csv", lambda data: data.replace(b"\n", b"\r\n"))),
    "manifest in quotes": manifest(edited("manifest.csv", ",fan,", ',"fan",')),
    "references in a configuration": configured("seed: &s 1\nthreads: *s\n"),
}
