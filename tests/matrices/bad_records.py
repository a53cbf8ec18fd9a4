"""Bad truth, scores, manifests, results and embeddings."""

import io

import numpy as np
from bad_input_files import (
    DECISIONS,
    SCORES,
    Case,
    changed,
    content,
    edited,
    embeddings,
    manifest,
    noise,
    patched,
    plain,
    published_truth,
    put_wav,
    rename,
    scored,
)


def misplaced(fields: dict) -> bytes:
    """An npz whose directory says that its entries begin before the file does."""
    buffer = io.BytesIO()
    np.savez(buffer, **fields)
    data = buffer.getvalue()
    place = data.rindex(b"PK\x05\x06") + 16
    return patched(data, place, (int.from_bytes(data[place : place + 4], "little") + 256).to_bytes(4, "little"))


SHAKER = "section_00_0000.wav,section_00_source_test_normal_0000_noAttribute.wav"

TRUTH = {
    "label unknown": Case(
        scored(edited("truth.csv", "source,normal", "source,broken")),
        "truth.csv: line 2",
        "normal or anomaly",
        "'broken'",
    ),
    "domain unknown": Case(
        scored(edited("truth.csv", ",source,", ",Source,")), "truth.csv: line 2", "expected source, target", "'Source'"
    ),
    "column missing": Case(
        scored(edited("truth.csv", "domain,label", "domain,state")), "truth.csv: line 1", "domain,label", "state"
    ),
    "row cut off": Case(
        scored(edited("truth.csv", "_0003.wav,target,normal", "_0003.wav,target")),
        "line 5",
        "expected 5 columns",
        "found 4",
    ),
    "clip twice": Case(
        scored(edited("truth.csv", "_0001.wav", "_0000.wav")), "truth.csv", "section_00_0000.wav", "twice"
    ),
    "domain empty": Case(
        scored(edited("truth.csv", ",source,", ",,")), "section_00_0000.wav", "source or target", "none"
    ),
    "no anomaly": Case(
        scored(changed("truth.csv", lambda data: data.replace(b"anomaly", b"normal"))), "truth.csv", "expected", "found"
    ),
    "header alone": Case(
        scored(content("truth.csv", "machine,section,file,domain,label\n")), "truth.csv", "at least one clip", "none"
    ),
    "not text": Case(scored(content("truth.csv", b"\xff\xfe\x00\x81")), "truth.csv", "expected UTF-8 text", "0xff"),
    "no file": Case(scored(lambda folder: (folder / "truth.csv").unlink()), "truth.csv", "expected a table", "nothing"),
    "list: name outside the grammar": Case(
        published_truth(2023, "shaker", "section_00_0000.wav,normal.wav"),
        "list.csv: line 2",
        "DCASE file name",
        "normal",
    ),
    "list: no machine first": Case(
        published_truth(2023, SHAKER), "list.csv: line 1", "name of a machine first", "section"
    ),
    "list: machine of another year": Case(
        published_truth(2023, "HairDryer", SHAKER), "list.csv", "evaluation machines and sections of 2023", "HairDryer"
    ),
    "list: known to be wrong": Case(
        published_truth(2022, "ToyCar", "section_03_0160.wav,section_03_target_test_normal_0024_car_G2.wav"),
        "list.csv: line 2",
        "refused",
        "wrong label",
    ),
}

CSVS = {
    "NaN": Case(scored(edited(f"scores/{SCORES}", "1.5", "nan")), f"{SCORES}: line 2", "a finite score", "found nan"),
    "row missing": Case(
        scored(edited(f"scores/{SCORES}", "section_00_0001.wav,1.5\n", "")),
        "fan section 00",
        "exactly the 6",
        "1 missing",
    ),
    "header": Case(
        scored(changed(f"scores/{SCORES}", lambda data: b"file,score\r\n" + data)),
        f"{SCORES}: line 1",
        "no header",
        "file",
    ),
    "byte-order mark": Case(
        scored(changed(f"scores/{SCORES}", lambda data: b"\xef\xbb\xbf" + data)),
        f"{SCORES}: line 1",
        "plain UTF-8",
        "mark",
    ),
    "name twice": Case(
        scored(edited(f"scores/{SCORES}", "_0001.wav", "_0000.wav")), f"{SCORES}: line 2", "each clip once", "line 1"
    ),
    "semicolons": Case(
        scored(changed(f"scores/{SCORES}", lambda data: data.replace(b",", b";"))),
        f"{SCORES}: line 1",
        "2 columns",
        "1",
    ),
    "decision 0.9": Case(
        scored(edited(f"scores/{DECISIONS}", ",1", ",0.9")),
        f"{DECISIONS}: line 2",
        "expected a decision of 0 or 1",
        "0.9",
    ),
    "two files of one machine": Case(
        scored(content("scores/anomaly_score_DCASE2026T2fan_section_00_test_seed1_id(0_)_Eval.csv", "a.wav,1\n")),
        "/scores",
        "expected one anomaly_score file for fan section 00",
        "Eval.csv",
    ),
    "no file": Case(
        scored(rename(f"scores/{SCORES}", "x.csv")), "scores", "every machine of the ground truth", "none for fan"
    ),
    "empty": Case(scored(content(f"scores/{SCORES}", "")), f"{SCORES}: line 1", "one line per clip", "an empty file"),
}

MANIFESTS = {
    "no file": Case(plain("shard", "{}/m.csv", "--out", "{}/o"), "m.csv", "expected a manifest", "found nothing"),
    "columns": Case(manifest(edited("manifest.csv", "digest", "hash")), "line 1", "expected the columns", "hash"),
    "rate in words": Case(manifest(edited("manifest.csv", ",8000,", ",8 kHz,")), "line 2: rate", "positive", "'8 kHz'"),
    "split unknown": Case(
        manifest(edited("manifest.csv", ",train,", ",dev,")), "line 2: split", "one of train", "'dev'"
    ),
    "clip twice": Case(
        manifest(changed("manifest.csv", lambda data: data.replace(b"b.wav", b"a.wav"))), "line 3", "a.wav", "line 2"
    ),
    "anomaly to train on": Case(
        manifest(edited("manifest.csv", ",normal,", ",anomaly,"), "deduplicate"),
        "a.wav",
        "normal training clip",
        "anomaly",
    ),
    "recording gone": Case(
        manifest(lambda folder: (folder / "audio" / "b.wav").unlink()),
        "b.wav",
        "expected a file",
        "found nothing",
    ),
    "recording replaced": Case(
        manifest(lambda folder: put_wav(folder / "audio" / "b.wav", noise(0.3))), "b.wav", "expected", "found"
    ),
    "binary": Case(manifest(content("manifest.csv", bytes(range(256)))), "manifest.csv", "expected", "found"),
    "endless cell": Case(
        manifest(edited("manifest.csv", "fan", "f" * 200_000)),
        "manifest.csv",
        "expected UTF-8 text with commas",
        "limit",
    ),
}

RESULTS = {
    "benchmark: objects": Case(
        embeddings(lambda f: f | {"label": f["label"].astype(object)}),
        "data.npz",
        "npz file of plain arrays",
        "allow_pickle",
    ),
    "benchmark: field missing": Case(
        embeddings(lambda f: {"embeddings": f["embeddings"]}), "data.npz", "expected a field", "the fields embeddings"
    ),
    "benchmark: NaN": Case(
        embeddings(lambda f: f | {"embeddings": f["embeddings"] * np.nan}), "data.npz", "expected", "found"
    ),
    "benchmark: text": Case(embeddings(lambda f: b"numbers"), "data.npz", "npz file of plain arrays", "found"),
    "benchmark: damaged directory": Case(embeddings(misplaced), "data.npz", "npz file of plain arrays", "found"),
    "leaderboard: a list": Case(
        plain("leaderboard", "siren", "{}/r.json", "--out", "{}/t.html", r__json="[]"), "r.json", "expected", "found"
    ),
    "leaderboard: nested": Case(
        plain("leaderboard", "siren", "{}/r.json", "--out", "{}/t.html", r__json="[" * 9999), "r.json", "JSON", "damage"
    ),
    "leaderboard: endless number": Case(
        plain("leaderboard", "siren", "{}/r.json", "--out", "{}/t.html", r__json="9" * 5000), "r.json", "JSON", "damage"
    ),
    "explain: no sound": Case(
        plain("explain", "--audio", "{}/a.wav", "--out", "{}/p.html", a__wav="text"),
        "a.wav",
        "expected",
        "found 4 bytes",
    ),
    "select: no run": Case(
        plain("select", "{}/exp", "--out", "{}/f.yaml"), "config.yaml", "expected a configuration", "found nothing"
    ),
}
