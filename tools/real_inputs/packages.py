"""Packages as people change them by hand, which the validator must see through."""

import io
import json
import random
import re
import shutil
import zipfile
from collections.abc import Callable

import yaml
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from real_inputs.bases import ENCODER, SPECTRUM
from real_inputs.case import Place, case, expect
from real_inputs.checks import no_traceback, well
from real_inputs.program import run

NUMBERS, PACKAGE, AUTHORS = "17 numbers in a package", "17 packages", "17 authors"
MACHINES = ("BlowerDustCollector", "Sander", "SewingMachine", "ToothBrush", "ToyDrone")
DEVELOPMENT = ("ToyCar", "ToyCarEmu", "bearingEmu", "fan", "gearboxEmu", "sliderEmu", "valveEmu")
TEAM = "Lindqvist_KTH"
PDF = f"task2/{TEAM}_task2.technical_report.pdf"
CLIPS = 200
Files = dict[str, bytes]
META = {
    "submission": {
        "authors": [
            {
                "firstname": "Karin",
                "lastname": "Lindqvist",
                "email": "karin.lindqvist@kth.se",
                "corresponding": True,
                "affiliation": {
                    "institution": "KTH Royal Institute of Technology",
                    "department": None,
                    "location": "Stockholm, Sweden",
                },
            }
        ],
    },
    "system": {
        "description": {
            "input_sampling_rate": "16kHz",
            "data_augmentation": None,
            "front_end": None,
            "acoustic_features": "log-mel energies",
            "embeddings": "BEATs",
            "machine_learning_method": "kNN",
            "aggregation_method": "average",
            "domain_adaptation_method": None,
            "domain_generalization_method": None,
            "ensemble_method_subsystem_count": None,
            "decision_making": None,
            "attribute_usage": None,
            "external_data_usage": "pre-trained model",
            "development_data_usage": "development",
        },
        "complexity": {"total_parameters": 90_000_000, "MACS": None},
        "external_datasets": [{"name": "BEATs_iter3", "url": "https://github.com/microsoft/unilm"}],
        "source_code": None,
    },
}


def _label(index: int) -> str:
    return f"{TEAM}_task2_{index}"


def _meta_path(index: int = 1) -> str:
    return f"task2/{_label(index)}/{_label(index)}.meta.yaml"


def _table(index: int = 1, kind: str = "anomaly_score", machine: str = "Sander") -> str:
    return f"task2/{_label(index)}/{kind}_{machine}_section_00_test.csv"


def _package(systems: tuple[int, ...] = (1, 2)) -> Files:
    """A package in which nothing is wrong."""
    files = {PDF: _pdf()}
    for index in systems:
        meta = json.loads(json.dumps(META))
        names = {"label": _label(index), "name": f"Distances {index}", "abbreviation": f"Dist{index}"}
        meta["submission"] = names | meta["submission"]
        figures = {"auc_source": 61.5 + index, "auc_target": 54.25, "pauc": 51.0}
        meta["results"] = {"development_dataset": {machine: figures for machine in DEVELOPMENT}}
        files[_meta_path(index)] = yaml.dump(meta, sort_keys=False, Dumper=_Whole).encode()
        for machine in MACHINES:
            dice = random.Random(f"{machine}{index}")
            scores = [dice.gauss(0, 1) for _ in range(CLIPS)]
            files[_table(index, machine=machine)] = _rows(map(repr, scores))
            files[_table(index, "decision_result", machine)] = _rows(str(int(value > 0.5)) for value in scores)
    return files


class _Whole(yaml.SafeDumper):
    """Writes every mapping in full."""

    def ignore_aliases(self, data: object) -> bool:
        return True


_Whole.add_representer(type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "!!null"))


def _rows(values) -> bytes:
    return "".join(f"section_00_{number:04d}.wav,{value}\n" for number, value in enumerate(values)).encode()


def _pdf(password: str = "", owner: str = "") -> bytes:
    """A page of text, encrypted if there is a password."""
    buffer = io.BytesIO()
    lock = StandardEncryption(password, ownerPassword=owner) if password or owner else None
    page = Canvas(buffer, encrypt=lock)
    page.drawString(100, 700, "Distances to normal clips: a technical report.")
    page.save()
    return buffer.getvalue()


def _findings(place: Place, files: Files) -> list[dict]:
    with zipfile.ZipFile(place / f"{TEAM}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    ended = run("validate", place / f"{TEAM}.zip", "--json", place / "findings.json")
    no_traceback(ended)
    found = json.loads((place / "findings.json").read_text())
    expect(ended.status == int(not found["valid"]), "a status that fits", ended.status)
    return found["findings"]


def _told(findings: list[dict]) -> set[str]:
    return {f"{one['level']} {one['path']} {one['line']}: {one['message']}" for one in findings}


def _new_findings(place: Place, files: Files, base: Files | None = None) -> list[dict]:
    """Findings that the package without the defect does not have."""
    usual = _told(_findings(place, base or _package()))
    return [one for one in _findings(place, files) if not _told([one]) <= usual]


def _found(place: Place, files: Files, *parts: str, base: Files | None = None, level: str = "") -> None:
    """Expects a finding whose place or words hold all of some regular expressions."""
    new = _new_findings(place, files, base)
    hits = [one for one in new if all(re.search(p, next(iter(_told([one]))), re.IGNORECASE) for p in parts)]
    expect(hits, f"a finding with {' and '.join(parts) or 'any words'}", _told(new))
    if level:
        expect(any(one["level"] == level for one in hits), f"an {level}", _told(hits))


@case(PACKAGE, "nothing is wrong with a good one")
def good_package(place: Place) -> None:
    findings = _findings(place, _package())
    expect(not any(one["level"] == "error" for one in findings), "no error", _told(findings))


VALUES = {
    "1_0": "1_0.5",
    "an underscore in the exponent": "1e1_0",
    "full-width digits": "１.５",
    "Arabic digits": "٣.٥",
    "Devanagari digits": "१",
    "a hexadecimal number": "0x1A",
    "a decimal comma": '"1,5"',
    "infinity": "inf",
    "nan": "nan",
    "too large a number": "1e999",
    "a blank inside": "1 .5",
    "a minus of typographers": "−1.5",
    "a separator of thousands": "1'000.5",
    "True": "True",
    "an empty cell": "",
    "a no-break space": "1.5\u00a0",
}


@case(NUMBERS, "a score: {}", VALUES)
def odd_score(place: Place, value: str) -> None:
    files = _package()
    lines = files[_table()].decode().splitlines()
    lines[6] = f"section_00_0006.wav,{value}"
    files[_table()] = ("\n".join(lines) + "\n").encode()
    _found(place, files, r"anomaly_score_Sander", r"\b7\b", level="error")


DECISIONS = {
    "full-width": "１",
    "Arabic": "١",
    "1.0": "1.0",
    "True": "True",
    "+1": "+1",
    "01": "01",
    "0_1": "0_1",
    "²": "²",
}


FOREIGN = ("１", "١", "True", "0_1", "²")  # of no csv; the others are odd ways to write 0 and 1


@case(NUMBERS, "a decision: {}", DECISIONS)
def odd_decision(place: Place, value: str) -> None:
    files, path = _package(), _table(kind="decision_result")
    lines = files[path].decode().splitlines()
    lines[6] = f"section_00_0006.wav,{value}"
    files[path] = ("\n".join(lines) + "\n").encode()
    _found(place, files, r"decision_result_Sander", r"\b7\b", level="error" if value in FOREIGN else "")


FIGURES = {
    "pAUC of 30, below what is possible": ("pauc: 51.0", "pauc: 30.0"),
    "pAUC of 0.51, a share": ("pauc: 51.0", "pauc: 0.51"),
    "pAUC of 101": ("pauc: 51.0", "pauc: 101.0"),
    "AUC of -3": ("auc_target: 54.25", "auc_target: -3"),
    "pAUC with an underscore": ("pauc: 51.0", "pauc: 5_1.0"),
    "pAUC in full-width digits": ("pauc: 51.0", "pauc: ５１"),
    "pAUC as text": ("pauc: 51.0", 'pauc: "51.0"'),
    "parameters with underscores": ("total_parameters: 90000000", "total_parameters: 90_000_000"),
    "parameters in full-width digits": ("total_parameters: 90000000", "total_parameters: ９００"),
}


@case(NUMBERS, "a figure: {}", FIGURES)
def odd_figure(place: Place, change: tuple[str, str]) -> None:
    files = _package()
    text = files[_meta_path()].decode()
    assert change[0] in text
    files[_meta_path()] = text.replace(change[0], change[1], 1).encode()
    _found(place, files, r"meta\.yaml")


@case(NUMBERS, "a possible pAUC of 48 is no error")
def possible_figure(place: Place) -> None:
    files = _package()
    files[_meta_path()] = files[_meta_path()].replace(b"pauc: 51.0", b"pauc: 48.0", 1)
    new = [one for one in _new_findings(place, files) if one["level"] == "error"]
    expect(not new, "no error", _told(new))


ALIKE_SAID = "identical|same|equal|alike|cop|differ|coincid"
ALIKE = {
    "scores and decisions": ("anomaly_score", "decision_result"),
    "scores alone": ("anomaly_score",),
}


@case(PACKAGE, "two systems with identical {}", ALIKE)
def two_systems_alike(place: Place, kinds: tuple[str, ...]) -> None:
    files = _package()
    for kind in kinds:
        for machine in MACHINES:
            files[_table(2, kind, machine)] = files[_table(1, kind, machine)]
    _found(place, files, ALIKE_SAID, "task2_2")


@case(PACKAGE, "two systems with identical numbers, written otherwise")
def two_systems_alike_in_value(place: Place) -> None:
    files = _package()
    for machine in MACHINES:
        lines = files[_table(1, machine=machine)].decode().splitlines()
        cells = [line.split(",") for line in lines]
        text = "".join(f"{name},{float(value):.17e}\n" for name, value in reversed(cells))
        files[_table(2, machine=machine)] = text.encode()
        files[_table(2, "decision_result", machine)] = files[_table(1, "decision_result", machine)]
    _found(place, files, ALIKE_SAID, "task2_2")


@case(PACKAGE, "two systems that rank alike")
def two_systems_of_one_order(place: Place) -> None:
    files = _package()
    for machine in MACHINES:
        cells = [line.split(",") for line in files[_table(1, machine=machine)].decode().splitlines()]
        files[_table(2, machine=machine)] = "".join(f"{name},{float(score) ** 3!r}\n" for name, score in cells).encode()
    _found(place, files, "order|rank|AUC", "task2_2")


@case(PACKAGE, "system numbers {}", {"1 and 3": (1, 3), "2 alone": (2,), "2 and 3": (2, 3), "1, 2 and 4": (1, 2, 4)})
def gap_in_numbers(place: Place, numbers: tuple[int, ...]) -> None:
    whole = _package(tuple(range(1, len(numbers) + 1)))
    _found(place, _package(numbers), r"number|index|gap|consecutive|1 to \d|task2_\d", base=whole)


LOCKED = {"a password to open": ("secret", "owner"), "a password to change": ("", "owner")}


@case(PACKAGE, "an encrypted PDF, {}", LOCKED)
def encrypted_pdf(place: Place, passwords: tuple[str, str]) -> None:
    files = _package()
    files[PDF] = _pdf(*passwords)
    _found(place, files, r"\.pdf", "encrypt|password|protect")


BROKEN_PDF = {
    "cut in half": lambda pdf: pdf[: len(pdf) // 2],
    "of zeros": lambda pdf: pdf[:8] + bytes(500),
    "empty": lambda _: b"",
}


@case(PACKAGE, "a PDF {}", BROKEN_PDF)
def broken_pdf(place: Place, change: Callable[[bytes], bytes]) -> None:
    files = _package()
    files[PDF] = change(files[PDF])
    _found(place, files, r"\.pdf")


PLACEHOLDERS = {
    "an address at example.org": ("karin.lindqvist@kth.se", "karin@example.org"),
    "an address at example.com": ("karin.lindqvist@kth.se", "a@example.com"),
    "an address at localhost": ("karin.lindqvist@kth.se", "a@localhost"),
    "Rehearsal": ("Karin", "Rehearsal"),
    "Demonstration Institute": ("KTH Royal Institute of Technology", "Demonstration Institute"),
    "Nowhere": ("Stockholm, Sweden", "Example City, Nowhere"),
    "TODO": ("Karin", "TODO"),
    "Firstname": ("Karin", "Firstname"),
    "Your institution": ("KTH Royal Institute of Technology", "Your institution"),
    "Vorname": ("Karin", "Vorname"),
    "a dash": ("Karin", "'-'"),
    "N/A": ("KTH Royal Institute of Technology", "N/A"),
    "University of X": ("KTH Royal Institute of Technology", "University of X"),
    "city and country in Chinese": ("Stockholm, Sweden", "城市, 国家"),
    "an address at dummy.com": ("karin.lindqvist@kth.se", "dummy@dummy.com"),
    "an address without a domain's end": ("karin.lindqvist@kth.se", "karin@kth..se"),
}


@case(AUTHORS, "a placeholder: {}", PLACEHOLDERS)
def placeholder(place: Place, change: tuple[str, str]) -> None:
    files = _package()
    for index in (1, 2):
        text = files[_meta_path(index)].decode()
        assert change[0] in text
        files[_meta_path(index)] = text.replace(*change).encode()
    _found(place, files, r"meta\.yaml")


REAL = {
    "a city that holds a word": ("Stockholm, Sweden", "Normal, Illinois, USA"),
    "an umlaut": ("Karin", "Jürgen"),
    "one letter": ("Karin", "K."),
    "an address of four parts": ("karin.lindqvist@kth.se", "k@cs.phys.kth.se"),
    "a last name of one letter": ("Karin", "E"),
    "an address of Mr Foo": ("karin.lindqvist@kth.se", "foo@nus.edu.sg"),
    "City University": ("KTH Royal Institute of Technology", "City University"),
    "a name with test in it": ("KTH Royal Institute of Technology", "Institute of Non-Destructive Testing"),
}


@case(AUTHORS, "no placeholder: {}", REAL)
def no_placeholder(place: Place, change: tuple[str, str]) -> None:
    files = _package()
    for index in (1, 2):
        files[_meta_path(index)] = files[_meta_path(index)].decode().replace(*change).encode()
    new = _new_findings(place, files)
    expect(not new, "no finding", _told(new))


@case(AUTHORS, "a package that nobody signed cannot pass for one to send")
def unsigned_package(place: Place) -> None:
    package = next(place.bases.steady.glob("*.zip"), None)
    if package is None:  # it may not be written at all, where that is said
        expect(place.bases.told(place.bases.steady).lines("author"), "a word about authors", "")
        return
    ended = run("validate", package, "--json", place / "findings.json")
    no_traceback(ended)
    told = _told(json.loads((place / "findings.json").read_text())["findings"])
    expect([one for one in told if re.search("author|email|placeholder", one, re.IGNORECASE)], "authors found", told)


@case(AUTHORS, "a package of our own with its authors is valid")
def signed_package(place: Place) -> None:
    author = {
        "first": "Karin",
        "last": "Lindqvist",
        "email": "karin.lindqvist@kth.se",
        "corresponding": True,
        "institution": "KTH Royal Institute of Technology",
        "location": "Stockholm, Sweden",
    }
    conf = place / "conf.yaml"
    names = {"surname": "Lindqvist", "affiliation": "KTH", "authors": [author]}
    conf.write_text(yaml.safe_dump(SPECTRUM | {"package": names}))
    shutil.copytree(place.bases.small, place / "data")
    well(run("run", "--exp", place / "exp", "--conf", conf, "--data", place / "data", "--stop-stage", 7))
    ended = run("validate", next((place / "exp").glob("*.zip")), "--json", place / "findings.json")
    no_traceback(ended)
    findings = json.loads((place / "findings.json").read_text())["findings"]
    wrong = [one for one in _told(findings) if re.search("author|email|institution", one, re.IGNORECASE)]
    expect(not wrong, "no word about authors", wrong)


@case(PACKAGE, "our own package of systems that coincide")
def own_package_of_alike_systems(place: Place) -> None:
    from real_inputs.training import mono

    conf = place.bases.conf(ENCODER, "encoder")
    well(run("run", "--exp", place / "exp", "--conf", conf, "--data", mono(place), "--stop-stage", 7))
    ended = run("validate", next((place / "exp").glob("*.zip")))
    no_traceback(ended)
    expect(
        ended.lines(ALIKE_SAID, "task2_2|both|system"),
        "two systems alike to be found",
        ended.text,
    )
