"""Bad configurations, checkpoints and archives, and places that cannot be written to."""

import stat
import zipfile

from bad_input_files import (
    Case,
    checkpoint,
    configured,
    downloaded,
    fixture,
    of_mode,
    package,
    patched,
    plain,
    recordings,
    running_pickle,
    table,
    torch_bytes,
    wav_bytes,
    zipped,
)


def laughs(levels: int = 12) -> str:
    """Nine references each to the line above: 9 to the power of ``levels`` values in a few lines."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


def with_nan(loaded: dict) -> dict:
    tensors = loaded.get("model", loaded)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel() > 4)
    tensors[name].view(-1)[3] = float("nan")
    return loaded


CONFIGS = {
    "unknown key": Case(configured("pretrain: {lop: {steps: 1}}\n"), "conf.yaml", "did you mean loop", "pretrain.lop"),
    "wrong type": Case(configured("seed: many\n"), "conf.yaml: seed", "expected a whole number", "many"),
    "tab": Case(configured("data:\n\tsynthetic: tiny\n"), "conf.yaml", "expected yaml", "'\\t'"),
    "list": Case(configured("- seed\n"), "conf.yaml", "expected yaml of keys and values", "found a list"),
    "text": Case(configured("just words\n"), "conf.yaml", "expected yaml of keys and values", "found"),
    "empty": Case(configured(""), "conf.yaml", "expected yaml of keys and values", "found none"),
    "key twice": Case(configured("seed: 1\ndata: {synthetic: tiny}\nseed: 2\n"), "conf.yaml", "once", "seed"),
    "references that multiply": Case(configured(laughs()), "conf.yaml", "expected", "found"),
    "reference to itself": Case(configured("seed: &a [*a]\n"), "conf.yaml", "expected", "found"),
    "nested without end": Case(configured("seed: " + "[" * 1000), "conf.yaml", "expected", "found"),
    "date of no calendar": Case(configured("seed: 2026-99-99\n"), "conf.yaml", "expected", "found"),
    "Python object": Case(
        configured("seed: !!python/object/apply:os.system ['true']\n"), "conf.yaml", "expected yaml", "python/object"
    ),
    "number of 5000 digits": Case(configured(f"seed: {'9' * 5000}\n"), "conf.yaml", "expected", "found"),
    "Latin-1": Case(configured(b"# f\xfcr\nseed: 1\n"), "conf.yaml", "expected yaml", "0xfc"),
    "base missing": Case(configured("base: none.yaml\n"), "none.yaml", "expected a configuration", "found nothing"),
    "base in a circle": Case(configured("base: conf.yaml\nseed: 1\n"), "conf.yaml: base", "another file", "a circle"),
    "override without value": Case(
        configured("seed: 1\n", "--set", "seed"), "--set seed", "expected key=value", "seed"
    ),
    "override out of range": Case(
        configured("seed: 1\n", "--set", "pretrain.loop.batch_size=0"), "batch_size", "expected at least 1", "found 0"
    ),
    "override that multiplies": Case(
        configured("seed: 1\n", "--set", "seed=" + "[" * 3000), "--set", "expected", "found"
    ),
}

CHECKPOINTS = {
    "cut off": Case(
        checkpoint("x.pt", lambda: fixture("fisher/fisher.pt")[:9000]), "x.pt", "expected a torch checkpoint", "damaged"
    ),
    "no byte": Case(checkpoint("x.pt", b""), "x.pt", "expected a torch checkpoint", "damaged"),
    "text": Case(checkpoint("x.pt", b"weights\n"), "x.pt", "expected a torch checkpoint", "damaged"),
    "code": Case(checkpoint("x.pt", running_pickle), "x.pt", "more than tensors and plain values", "refused"),
    "a list": Case(
        checkpoint("x.pt", torch_bytes(lambda loaded: [1, 2])), "x.pt", "expected a dict of tensors", "list"
    ),
    "other family": Case(
        checkpoint("x.pt", lambda: fixture("fisher/fisher.pt"), "--encoder", "beats"), "x.pt", "expected", "found"
    ),
    "no known family": Case(
        checkpoint("x.pt", torch_bytes(lambda loaded: {"model": {"w": next(iter(loaded["model"].values()))}})),
        "x.pt",
        "expected tensors of a known encoder",
        "found other names",
    ),
    "NaN weights": Case(checkpoint("x.pt", torch_bytes(with_nan)), "x.pt", "does not fit Fisher", "holds NaN"),
    "tensor missing": Case(
        checkpoint("x.pt", torch_bytes(lambda loaded: loaded["model"].popitem() and loaded)),
        "x.pt",
        "does not fit",
        "missing",
    ),
    "safetensors cut off": Case(
        checkpoint("x.safetensors", lambda: fixture("echo/echo.safetensors")[:5000]),
        "x.safetensors",
        "expected",
        "damaged",
    ),
    "safetensors of a giant": Case(
        checkpoint("x.safetensors", b"\xff\xff\xff\xff\xff\x7f\0\0{}"),
        "x.safetensors",
        "expected a safetensors",
        "damaged",
    ),
    "safetensors settings": Case(
        checkpoint("x.safetensors", lambda: fixture("echo/echo.safetensors"), "--encoder", "fisher"),
        "x.safetensors",
        "expected",
        "found",
    ),
    "no file": Case(
        plain("convert", "{}/x.pt", "{}/o.safetensors"), "x.pt", "expected a file or a name", "found neither"
    ),
}

ENTRY = b"fan\n" * 50
ARCHIVES = {
    "damaged": Case(
        downloaded(lambda: zipped(("fan/a.wav", ENTRY))[:-30]), "dev_fan.zip", "expected a whole zip", "damage"
    ),
    "damaged inside": Case(
        downloaded(lambda: patched(zipped(("fan/a.wav", ENTRY)), 42, b"\xff\xff\xff")),
        "dev_fan.zip",
        "a whole zip",
        "damage",
    ),
    "packed by LZMA": Case(
        downloaded(lambda: zipped(("fan/a.wav", ENTRY), method=zipfile.ZIP_LZMA)),
        "dev_fan.zip",
        "deflated",
        "method 14",
    ),
    "leads outside": Case(
        downloaded(zipped(("fan/a.wav", ENTRY), ("fan/../../x", ENTRY))), "dev_fan.zip", "refused", "with '..'"
    ),
    "absolute": Case(downloaded(zipped(("/fan/a.wav", ENTRY))), "dev_fan.zip", "refused", "absolute"),
    "link": Case(
        downloaded(zipped((of_mode("fan/a.wav", stat.S_IFLNK | 0o777), b"/etc/passwd"))),
        "dev_fan.zip",
        "refused",
        "a symbolic link",
    ),
    "bomb": Case(
        downloaded(zipped(("fan/a.wav", bytes(8 << 20)))), "dev_fan.zip", "expected at most 40 times", "found 8388608"
    ),
    "file and folder of one name": Case(
        downloaded(zipped(("fan/a", ENTRY), ("fan/a/b.wav", ENTRY))),
        "dev_fan.zip",
        "a file or a folder",
        "below a file",
    ),
    "another machine": Case(
        downloaded(zipped(("valve/a.wav", ENTRY))), "dev_fan.zip", "expected a folder fan/", "valve"
    ),
    "another hash": Case(downloaded(zipped(("fan/a.wav", ENTRY)), 2023), "dev_fan.zip", "expected MD5", "found"),
    "package: text": Case(package(b"no zip"), "package.zip", "expected a zip file", "not one"),
    "package: no file": Case(plain("validate", "{}/none.zip"), "none.zip", "expected a zip or folder", "found nothing"),
    "package: nothing": Case(package(zipped()), "package.zip", "expected the folder task2/", "no files"),
}


def below_a_file(folder) -> list[str]:
    options = recordings(lambda _: 0)(folder)
    (folder / "out").write_text("a file\n")
    return options


def a_folder(folder) -> list[str]:
    options = recordings(lambda _: 0)(folder)
    (folder / "out" / "manifest.csv" / "x").mkdir(parents=True)
    return options


OUTPUTS = {
    "below a file": Case(below_a_file, "out", "expected a place in a folder", "found the file"),
    "a folder": Case(a_folder, "manifest.csv", "", "directory"),
    "the table itself": Case(
        lambda folder: [*table("file\na.wav\n")(folder)[:2], "--out", str(folder / "in" / "table.csv")],
        "table.csv",
        "expected another file",
        "found",
    ),
    "experiment below a file": Case(
        plain("embed", "--exp", "{}/x/exp", "--conf", "{}/c.yaml", x="a file", c__yaml="seed: 1\n"),
        "x",
        "",
        "directory",
    ),
    "page without ending": Case(
        plain("explain", "--audio", "{}/a.wav", "--out", "{}/p", a__wav=wav_bytes()), "/p", "ends in .html", "found"
    ),
}
