"""Functions that each add one defect to a valid package, and the expected finding of the validator."""

from collections.abc import Callable

from package_builder import DEV, PDF, ROOT, TEAM, csv_path, good_package, label, meta_path

SCORES = csv_path("Sander")
DECISIONS = csv_path("Sander", kind="decision_result")
BASELINE = "DCASE%dT2%s_section_00_test_seed13711_id(0_)_Eval"
E, W = "error", "warning"
Files = dict[str, bytes]
Defect = Callable[[Files], None]


def edit(path: str, old: str, new: str, count: int = 1) -> Defect:
    """A defect that replaces text in one file."""

    def defect(files: Files) -> None:
        assert old.encode() in files[path]
        files[path] = files[path].replace(old.encode(), new.encode(), count)

    return defect


def meta(old: str, new: str) -> Defect:
    return edit(meta_path(), old, new)


def rename(old: str, new: str) -> Defect:
    """A defect that renames all paths with ``old`` in them."""

    def defect(files: Files) -> None:
        hits = [name for name in files if old in name]
        assert hits
        for name in hits:
            files[name.replace(old, new)] = files.pop(name)

    return defect


def add(name: str, content: bytes = b"x\n") -> Defect:
    return lambda files: files.update({name: content})


def drop(part: str) -> Defect:
    def defect(files: Files) -> None:
        hits = [name for name in files if part in name]
        assert hits
        for name in hits:
            del files[name]

    return defect


def prefix(text: str) -> Defect:
    def defect(files: Files) -> None:
        for name in list(files):
            files[text + name] = files.pop(name)

    return defect


def both(*defects: Defect) -> Defect:
    def defect(files: Files) -> None:
        for one in defects:
            one(files)

    return defect


def line(path: str, number: int, text: str | None) -> Defect:
    """A defect that replaces line ``number`` (from 1) of a CSV, or drops it."""

    def defect(files: Files) -> None:
        lines = files[path].decode().split("\n")
        lines[number - 1 : number] = [] if text is None else [text]
        files[path] = "\n".join(lines).encode()

    return defect


def values(path: str, value: Callable[[int, str], str]) -> Defect:
    """A defect that replaces all values of a CSV by a function of their position and text."""

    def defect(files: Files) -> None:
        rows = [row.split(",") for row in files[path].decode().split()]
        files[path] = "".join(f"{name},{value(n, old)}\n" for n, (name, old) in enumerate(rows)).encode()

    return defect


def five_systems(files: Files) -> None:
    files.update({name.replace("task2_1", "task2_5"): content for name, content in files.items() if "task2_1" in name})


def second_team(index: int) -> Defect:
    """A defect: the second system is a valid one of another team."""

    def defect(files: Files) -> None:
        new = f"Jones_EX_task2_{index}"
        for name in [name for name in files if label(2) in name]:
            files[name.replace(label(2), new)] = files.pop(name).replace(label(2).encode(), new.encode())
        path = f"{ROOT}/{new}/{new}.meta.yaml"
        files[path] = files[path].replace(b"lastname: Miller", b"lastname: Jones")
        files[f"{ROOT}/Jones_EX_task2.technical_report.pdf"] = files[PDF]

    return defect


def _cut(files: Files, start: str, end: str | None, new: str) -> Files:
    """The meta file with the text from ``start`` up to ``end`` replaced."""
    text = files[meta_path()].decode()
    begin = text.index(start)
    stop = len(text) if end is None else text.index(end, begin)
    return {meta_path(): (text[:begin] + new + text[stop:]).encode()}


def _in_all_metas(files: Files, old: str, new: str) -> None:
    for name in files:
        if name.endswith(".yaml"):
            files[name] = files[name].replace(old.encode(), new.encode())


def _copy(kind: str, machine: str, source: str, index: int = 1) -> Defect:
    """A defect: a CSV of another machine or of the first system in the place of one's own."""

    def defect(files: Files) -> None:
        files[csv_path(machine, index, kind)] = files[csv_path(source, 1, kind)].replace(b"\n", b"\r\n")

    return defect


def same_systems(files: Files) -> None:
    for name in [name for name in files if label(1) in name and name.endswith(".csv")]:
        rows = files[name].decode().split()
        files[name.replace(label(1), label(2))] = "\n".join(reversed(rows)).encode() + b"\n"


def systems_of_one_order(files):
    """The scores of the second system, those of the first one but for unit and offset."""
    for name in [name for name in files if f"{label(1)}/anomaly_score" in name]:
        cells = [row.split(",") for row in files[name].decode().split()]
        text = "".join(f"{clip},{3 * float(score) - 7}\n" for clip, score in cells)
        files[name.replace(label(1), label(2))] = text.encode()


# name: (defect, level, fragment of the finding)
DEFECTS = {
    # The tree.
    "system missing altogether": (lambda f: [f.pop(n) for n in list(f) if "_task2_" in n], E, "1 to 4 system folders"),
    "five systems": (five_systems, E, "'5' is not 1 to 4"),
    "index twice": (second_team(1), E, "each index once, found 1"),
    "two teams": (second_team(2), W, "systems of one team"),
    "gap in the numbers": (
        lambda f: (rename("task2_2", "task2_3")(f), _in_all_metas(f, "task2_2", "task2_3")),
        W,
        "expected systems numbered from 1 without gaps, 1 to 2; found 1, 3",
    ),
    "systems that are the same": (
        same_systems,
        W,
        f"{label(2)}: expected systems that differ, found the scores of {label(1)} for all machines",
    ),
    "systems that rank alike": (
        systems_of_one_order,
        W,
        f"{label(2)}: expected systems that differ, found the order of {label(1)} in all machines",
    ),
    "a CSV of the other system": (
        _copy("anomaly_score", "Sander", "Sander", 2),
        W,
        f"expected systems that differ, found the scores of {label(1)} for Sander",
    ),
    "a CSV of another machine": (
        _copy("anomaly_score", "ToyDrone", "Sander"),
        W,
        "expected scores of ToyDrone, found the same ones as in anomaly_score_Sander_section_00_test.csv",
    ),
    "index zero": (rename("task2_2", "task2_0"), E, "'0' is not 1 to 4"),
    "another task": (rename(label(2), f"{TEAM}_task1_2"), E, "'task1' is not task2"),
    "underscore in surname": (rename(label(2), "Van_Miller_EX_task2_2"), E, "too many underscores"),
    "accent in label": (rename(label(2), "Müller_EX_task2_2"), E, "letters, digits and hyphens"),
    "task2 one too deep": (prefix("MyPackage/"), E, "one folder too deep"),
    "task2 missing": (
        lambda f: [f.update({n.removeprefix("task2/"): f.pop(n)}) for n in list(f)],
        E,
        "found the systems at the top",
    ),
    "task2 in capitals": (rename("task2/", "Task2/"), E, "a folder with the name task2, found Task2"),
    "another top folder": (add("task1/readme.txt"), E, "nothing beside task2/, found the folder task1"),
    "file at the top": (add("notes.txt"), E, "nothing beside task2/, found the file notes.txt"),
    "systems one too deep": (rename(f"{ROOT}/{TEAM}_task2_", f"{ROOT}/out/{TEAM}_task2_"), E, "one folder too deep"),
    "csv one too deep": (rename(f"{label(1)}/anomaly", f"{label(1)}/csv/anomaly"), E, "found it in a subfolder"),
    "mac left-over": (add("__MACOSX/task2/._x"), E, "left-over of an operating system"),
    "DS_Store": (add(f"{ROOT}/.DS_Store"), E, "left-over of an operating system"),
    "Thumbs.db": (add(f"{ROOT}/{label(1)}/Thumbs.db"), E, "left-over of an operating system"),
    "extra file in a system": (add(f"{ROOT}/{label(1)}/model.pt"), W, "found another file"),
    "extra file beside the systems": (add(f"{ROOT}/README.txt"), W, "found another file"),
    "empty folder in a system": (add(f"{ROOT}/{label(1)}/figures/", b""), W, "found an empty one"),
    # Files of a system.
    "no CSVs in a system": (
        lambda f: [f.pop(n) for n in list(f) if label(2) in n and n.endswith(".csv")],
        E,
        "expected score and decision files (CSV), found none",
    ),
    "scores missing": (drop(SCORES), E, "expected anomaly_score_Sander_section_00_test.csv, found none"),
    "decisions missing": (drop(DECISIONS), E, "expected decision_result_Sander_section_00_test.csv, found none"),
    "no decisions at all": (drop("decision_result"), E, "expected decision_result_ToyDrone_section_00_test.csv"),
    "name of 2021": (
        rename("score_Sander_section_00_test", "score_Sander_section_00"),
        E,
        "_section_00_test.csv, found",
    ),
    "name of 2020": (rename("score_Sander_section_00_test", "score_Sander_id_00"), E, "_section_00_test.csv, found"),
    "name unknown": (rename("anomaly_score_Sander_section_00_test", "scores_Sander"), E, "found another name"),
    "both kinds of names": (
        lambda f: f.update({SCORES.replace("Sander_section_00_test", BASELINE % (2026, "Sander")): f[SCORES]}),
        E,
        "expected one file for Sander section 00",
    ),
    # Machines.
    "machine in lower case": (rename("_ToyDrone_", "_toydrone_"), E, "expected the machine ToyDrone, found toydrone"),
    "machine misspelt": (rename("_SewingMachine_", "_SewingMashine_"), E, "found SewingMashine"),
    "machine misspelt in one": (
        rename(f"{label(2)}/anomaly_score_Sander", f"{label(2)}/anomaly_score_sander"),
        E,
        "Sander misspelt",
    ),
    "machine missing": (drop("_ToyDrone_"), E, "found no files at all for ToyDrone"),
    "machine of another year": (rename("_ToothBrush_", "_Scanner_"), E, "found also Scanner, a machine of 2024"),
    "development machine added": (
        lambda f: f.update({n.replace("Sander", "fan"): c for n, c in f.items()}),
        E,
        "found also fan, a development machine",
    ),
    "section 01": (
        both(
            rename("Sander_section_00", "Sander_section_01"), edit(SCORES.replace("_00_", "_01_"), "n_00", "n_01", -1)
        ),
        E,
        "Sander: expected section 00, found section 01",
    ),
    "only development machines": (
        lambda f: (f.clear(), f.update(good_package(machines=DEV[2026]))),
        W,
        "only development machines (2026): a rehearsal",
    ),
    "machines of nobody": (
        lambda f: (f.clear(), f.update(good_package(machines=("PumpA", "PumpB")))),
        W,
        "not a challenge year's machines (rehearsal): PumpA, PumpB",
    ),
    # Content of the CSVs.
    **{
        f"score {text!r}": (line(SCORES, 3, f"section_00_0002.wav,{text}"), E, f":3: expected a {what}")
        for text, what in {
            "1_0": "number in plain decimal digits as the score, found '1_0'",
            "１２": "number in plain decimal digits",
            "٣": "number in plain decimal digits",
            "1e400": "finite score, found 1e400",
            "0x1p3": "number as the score, found '0x1p3'",
        }.items()
    },
    "decision of full width": (
        line(DECISIONS, 3, "section_00_0002.wav,１"),
        E,
        ":3: expected a number in plain decimal",
    ),
    "header": (line(SCORES, 1, "file,score\nsection_00_0000.wav,1.5"), E, ":1: expected no header"),
    "tab": (line(SCORES, 4, "section_00_0003.wav\t1.5"), E, ":4: expected a comma"),
    "three columns": (line(SCORES, 4, "section_00_0003.wav,1.5,0"), E, ":4: expected 2 columns, found 3"),
    "blank line": (line(SCORES, 4, "section_00_0003.wav,1.5\n"), E, "found a blank line"),
    "trailing blank line": (lambda f: f.update({SCORES: f[SCORES] + b"\n"}), E, ":201: "),
    "nan": (line(SCORES, 7, "section_00_0006.wav,nan"), E, ":7: expected a finite score, found nan"),
    "infinity": (line(SCORES, 7, "section_00_0006.wav,-inf"), E, ":7: expected a finite score, found -inf"),
    "text for a score": (line(SCORES, 7, "section_00_0006.wav,high"), E, ":7: expected a number"),
    "byte-order mark": (lambda f: f.update({SCORES: b"\xef\xbb\xbf" + f[SCORES]}), E, ":1: expected plain UTF-8"),
    "not text": (lambda f: f.update({SCORES: b"\xff\xfe\x00\x81"}), E, "expected UTF-8 text"),
    "empty csv": (lambda f: f.update({SCORES: b""}), E, "found an empty file"),
    "clip missing": (line(SCORES, 7, None), E, "1 missing (section_00_0006.wav)"),
    "clip unknown": (edit(SCORES, "section_00_0006", "section_00_9999"), E, "1 unknown (section_00_9999.wav)"),
    "clip twice": (line(SCORES, 7, "section_00_0005.wav,0.25"), E, ":7: expected each clip once"),
    "no extension": (edit(SCORES, "_0006.wav", "_0006"), E, "that end in .wav, found 1 others (section_00_0006)"),
    "folder in column 1": (edit(SCORES, "section_00_0006", "test/section_00_0006"), E, ":7: expected a bare file name"),
    "clips of another section": (edit(SCORES, "section_00_", "section_03_", -1), E, "expected clips of section 00"),
    "decision 2": (line(DECISIONS, 7, "section_00_0006.wav,2"), E, ":7: expected a decision of 0 or 1, found 2"),
    "decision 0.9": (line(DECISIONS, 7, "section_00_0006.wav,0.9"), E, ":7: expected a decision of 0 or 1, found 0.9"),
    "decision 1.0": (values(DECISIONS, lambda n, old: old + ".0"), W, "found other forms in 200 lines"),
    "constant scores": (values(SCORES, lambda n, old: "0.5"), W, "found 0.5 for all 200 clips"),
    "many ties": (values(SCORES, lambda n, old: str(n // 2)), W, "found 200 of 200 clips that share their score"),
    "decisions all equal": (values(DECISIONS, lambda n, old: "1"), W, "found 1 for all 200 clips"),
    "decisions turned round": (
        values(DECISIONS, lambda n, old: str(1 - int(old))),
        W,
        "decisions that follow the scores",
    ),
    "too few clips": (
        lambda f: (f.clear(), f.update(good_package(clips=120))),
        W,
        "expected 200 clips of Sander section 00, found 120",
    ),
    # Meta file.
    "meta missing": (drop(meta_path()), E, f"expected {label(1)}.meta.yaml, found no meta file"),
    "meta.yml": (rename(f"{label(1)}.meta.yaml", f"{label(1)}.meta.yml"), E, f"expected the name {label(1)}.meta.yaml"),
    "two meta files": (add(f"{ROOT}/{label(1)}/old.meta.yaml", b"a: 1\n"), W, "expected one meta file"),
    "another label": (
        meta(f"label: {label(1)}", "label: Miller_EX_task2_1"),
        E,
        "submission.label: expected Miller_EX-Lab",
    ),
    "tab in yaml": (meta("  name:", "\tname:"), E, ":3: expected spaces only, found a tab"),
    "broken yaml": (meta("authors:", "authors: ["), E, "expected YAML"),
    "not utf-8": (lambda f: f.update({meta_path(): f[meta_path()] + b"\xff"}), E, "found the byte 0xff"),
    "empty meta": (lambda f: f.update({meta_path(): b""}), E, "expected a mapping with submission, system, results"),
    "meta is a list": (lambda f: f.update({meta_path(): b"- a\n"}), E, "found a list"),
    "key twice": (meta("  name:", "  label: x\n  name:"), E, "submission.label: expected once, found a second time"),
    "anchors": (meta("Acoustics", "&a Acoustics\n        room: *a"), E, "an anchor that is used again"),
    "no label": (meta(f"  label: {label(1)}\n", ""), E, "submission.label: expected this key"),
    "no name": (meta("  name: Distances to normal clips 1\n", ""), E, "submission.name: expected this key"),
    "no abbreviation": (meta("  abbreviation: Dist1\n", ""), E, "submission.abbreviation: expected this key"),
    "abbreviation a number": (meta("Dist1", "2026"), E, "submission.abbreviation: expected text, found 2026"),
    "abbreviation long": (meta("Dist1", "DistancesToAll"), W, "expected at most 10 characters, found 14"),
    "abbreviation shared": (meta("Dist1", "Dist2"), W, "submission.abbreviation: expected one per system"),
    "no authors": (
        lambda f: f.update(_cut(f, "  authors:\n", "system:\n", "  authors: []\n")),
        E,
        "at least one author",
    ),
    "example mail": (meta("bo@ex-lab.org", "bo@example.org"), E, "authors[1].email: expected the author's own address"),
    "nobody's name": (
        meta("firstname: Bo\n      lastname: Smith", "firstname: Jane\n      lastname: Doe"),
        E,
        "'Jane Doe'",
    ),
    "rehearsal": (meta("firstname: Bo", "firstname: Rehearsal"), E, "placeholder 'Rehearsal Smith'"),
    "demonstration institute": (
        meta("institution: Laboratory of Exact Listening", "institution: Demonstration Institute"),
        E,
        "authors[0].affiliation.institution: expected the author's own institution, found the placeholder 'Demonst",
    ),
    "nowhere": (meta("Springfield, Neverland", "Example City, Nowhere"), E, "found the placeholder 'Example City, No"),
    "label of a demonstration": (
        lambda f: (rename(TEAM, "Wheeltapper_Demo")(f), _in_all_metas(f, TEAM, "Wheeltapper_Demo")),
        E,
        "submission.label: expected the label of your team, found a demonstration's, Wheeltapper_Demo_task2_1",
    ),
    "no mail": (meta("      email: bo@ex-lab.org\n", ""), E, "submission.authors[1].email: expected this key"),
    "odd mail": (meta("bo@ex-lab.org", "bo at example"), W, "authors[1].email: expected an address"),
    "no corresponding author": (meta("      corresponding: true\n", ""), E, "exactly one author with corresponding"),
    "two corresponding authors": (
        meta("      email: bo@", "      corresponding: true\n      email: bo@"),
        E,
        "with corresponding: true, found 2",
    ),
    "corresponding is a word": (meta("corresponding: true", "corresponding: Ada"), E, "expected true or no such key"),
    "affiliation a text": (
        lambda f: f.update(_cut(f, "      affiliation:\n", "    - first", "      affiliation: Example\n")),
        E,
        "authors[0].affiliation: expected a mapping",
    ),
    "institute": (
        meta("institution:", "institute:"),
        E,
        "affiliation.institution: expected this key, found none (found institute",
    ),
    "other surname": (meta("lastname: Miller", "lastname: Jones"), W, "expected Miller as in the label, found 'Jones'"),
    "description key missing": (
        meta("    front_end: !!null\n", ""),
        E,
        "system.description.front_end: expected this key",
    ),
    "attribute_usage missing": (meta("    attribute_usage: !!null\n", ""), E, "attribute_usage: expected this key"),
    "description key unknown": (
        meta("front_end: !!null", "front_end: !!null\n    frontends: !!null"),
        W,
        "frontends: expected no such key (did you mean front_end?)",
    ),
    "description key misspelt": (
        meta("front_end:", "frontend:"),
        E,
        "front_end: expected this key, found none (found frontend",
    ),
    "description a list": (meta("data_augmentation: !!null", "data_augmentation: [a, b]"), E, "one text with commas"),
    "method null": (
        meta("machine_learning_method: kNN", "machine_learning_method: !!null"),
        W,
        "machine_learning_method: expected text",
    ),
    "subsystems a word": (
        meta("subsystem_count: !!null", "subsystem_count: two"),
        E,
        "expected a positive integer or !!null",
    ),
    "parameters missing": (
        meta("    total_parameters: 90000000\n", ""),
        E,
        "complexity.total_parameters: expected this key",
    ),
    "parameters as text": (meta("90000000", "90 million"), E, "total_parameters: expected a positive integer"),
    "parameters zero": (meta("90000000", "0"), E, "total_parameters: expected a positive integer"),
    "parameters a fraction": (meta("90000000", "90.5"), E, "total_parameters: expected a positive integer"),
    "MACS as text": (meta("MACS: !!null", "MACS: 3.5 G"), E, "MACS: expected a positive integer or !!null"),
    "datasets a text": (
        lambda f: f.update(_cut(f, "  external_datasets:\n", "  source_code", "  external_datasets: BEATs\n")),
        E,
        "external_datasets: expected a list",
    ),
    "dataset without a name": (
        meta("name: BEATs_iter3", "name: !!null"),
        E,
        "external_datasets[0].name: expected the name",
    ),
    "dataset without address": (
        meta("https://zenodo.org/beats", "!!null"),
        W,
        "external_datasets[0].url: expected an address",
    ),
    "usage undeclared": (
        meta("external_data_usage: pre-trained model", "external_data_usage: !!null"),
        W,
        "external_data_usage: expected how",
    ),
    "source_code of an example": (
        meta("source_code: !!null", "source_code: https://www.example.org/code"),
        W,
        "system.source_code: expected the address of your code, found the placeholder 'https://www.example.org/code'",
    ),
    "source_code missing": (meta("  source_code: !!null\n", ""), E, "system.source_code: expected this key"),
    "results missing": (lambda f: f.update(_cut(f, "results:\n", None, "")), E, "results: expected this key"),
    "results a list": (
        lambda f: f.update(_cut(f, "  development_dataset:\n", None, "  development_dataset: []\n")),
        E,
        "found a list",
    ),
    "result a fraction": (
        meta("auc_source: 61.5", "auc_source: 0.615"),
        E,
        "ToyCar.auc_source: expected a percentage, found 0.615",
    ),
    "result 1.0": (meta("pauc: 51", "pauc: 1.0"), E, "a fraction? multiply by 100"),
    "result above 100": (meta("auc_source: 61.5", "auc_source: 161.5"), E, "from 0 to 100, found 161.5"),
    "result negative": (meta("auc_source: 61.5", "auc_source: -3"), E, "from 0 to 100, found -3"),
    "result nan": (meta("auc_source: 61.5", "auc_source: .nan"), E, "expected a number, found nan"),
    "pauc impossible": (meta("pauc: 51", "pauc: 40"), E, "ToyCar.pauc: expected at least 47.37, the least that"),
    "pauc too good for the AUCs": (
        meta("pauc: 51", "pauc: 95"),
        E,
        "ToyCar: expected an AUC of at least 90.50 in one domain with a pAUC of 95, found 61.5 at most",
    ),
    "AUCs too good for the pauc": (
        meta("auc_source: 61.5, auc_target: 54.25", "auc_source: 99, auc_target: 97"),
        E,
        "ToyCar: expected an AUC of at most 90.69 in one domain with a pAUC of 51, found 97 at least",
    ),
    "result with underscore": (
        meta("auc_source: 61.5", "auc_source: 6_1.5"),
        E,
        "expected a number in decimal digits alone (a text in quotes), found '6_1.5'",
    ),
    "parameters with underscores": (meta("90000000", "90_000_000"), E, "found '90_000_000'"),
    "parameters in hexadecimal": (meta("90000000", "0x1F"), E, "found '0x1F'"),
    "parameters in octal": (meta("90000000", "0777"), E, "found '0777'"),
    "parameters in minutes": (meta("90000000", "190:20:30"), E, "found '190:20:30'"),
    "parameters in full width": (meta("90000000", "９００"), E, "expected a positive integer"),
    "result a text": (meta("auc_source: 61.5", "auc_source: 61.5 %"), E, "expected a number, found '61.5 %'"),
    "result missing": (meta("auc_source: 61.5, ", ""), W, "ToyCar.auc_source: expected a percentage, found nothing"),
    "result key of 2021": (
        meta("pauc: 51", "harmonic_mean_pauc: 51"),
        W,
        "harmonic_mean_pauc: expected only auc_source",
    ),
    "results of a machine missing": (
        meta("    fan: {auc_source: 61.5, auc_target: 54.25, pauc: 51}\n", ""),
        W,
        "found none of fan",
    ),
    "results of an evaluation machine": (meta("    fan:", "    Sander:"), W, "an evaluation machine of 2026"),
    # Technical report.
    "no report": (drop(".pdf"), E, f"expected {TEAM}_task2.technical_report.pdf, found no technical report"),
    "report misnamed": (rename(PDF, f"{ROOT}/report.pdf"), E, "found report.pdf: rename it"),
    "report empty": (lambda f: f.update({PDF: b""}), E, "expected a PDF, found an empty file"),
    "report of Word": (lambda f: f.update({PDF: b"PK\x03\x04doc"}), E, "expected a PDF that begins with %PDF"),
    "report encrypted": (
        lambda f: f.update({PDF: b"%PDF-1.4\ntrailer\n<< /Root 1 0 R /Encrypt 5 0 R >>\n%%EOF\n"}),
        E,
        "technical_report.pdf: expected a PDF without encryption or password, found an encrypted one",
    ),
    "report cut off": (lambda f: f.update({PDF: b"%PDF-1.4\n1 0 obj"}), W, "is it truncated?"),
    "report of one system only": (
        rename(PDF, f"{ROOT}/{label(1)}.technical_report.pdf"),
        E,
        f"found none for {label(2)}",
    ),
}
