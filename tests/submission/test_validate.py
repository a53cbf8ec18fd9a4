"""The validator on packages written by hand: valid ones, and valid ones with one defect each."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from package_builder import (
    DEV,
    EVAL,
    PDF,
    ROOT,
    clip_names,
    errors,
    good_package,
    label,
    meta_path,
    warnings,
    write_folder,
    write_zip,
)
from package_defects import BASELINE, DEFECTS, SCORES, Files, W, edit, values

from submission import outputs_check
from submission.meta_check import LABEL
from submission.validate import Finding, validate
from system import bin as command_line


@pytest.mark.parametrize("name", DEFECTS)
def test_seeded_defect_is_found(name, tmp_path):
    defect, level, fragment = DEFECTS[name]
    files = good_package()
    defect(files)
    findings = validate(write_zip(tmp_path / "p.zip", files))
    assert any(found.level == level and fragment in str(found) for found in findings), [str(f) for f in findings]
    if level == W:
        assert errors(findings) == []


@pytest.mark.parametrize("name", ["scores missing", "nan", "header", "meta missing", "report misnamed", "DS_Store"])
def test_folder_gives_the_same_findings_as_the_zip(name, tmp_path):
    files = good_package()
    DEFECTS[name][0](files)
    zipped = validate(write_zip(tmp_path / "p.zip", files))
    assert validate(write_folder(tmp_path / "folder", files)) == zipped


def test_all_defects_at_once(tmp_path):
    files = good_package()
    names = ["nan", "decision 2", "parameters as text", "no corresponding author", "report of Word", "DS_Store"]
    for name in names:
        DEFECTS[name][0](files)
    findings = "\n".join(errors(validate(write_zip(tmp_path / "p.zip", files))))
    for name in names:
        assert DEFECTS[name][2] in findings
    assert len(findings.splitlines()) == len(names)


@pytest.mark.parametrize("year", [2023, 2024, 2025, 2026])
@pytest.mark.parametrize("given", [False, True])
def test_good_package_of_each_year_has_no_findings(year, given, tmp_path):
    path = write_zip(tmp_path / "p.zip", good_package(year))
    assert [str(found) for found in validate(path, year=year if given else None)] == []


@pytest.mark.parametrize("systems", [1, 2, 3, 4])
def test_one_to_four_systems(systems, tmp_path):
    assert validate(write_zip(tmp_path / "p.zip", good_package(systems=systems))) == []


def crlf(files: Files) -> None:
    for name in files:
        if not name.endswith(".pdf"):
            files[name] = files[name].replace(b"\n", b"\r\n")


def per_system_reports(files: Files) -> None:
    content = files.pop(PDF)
    for index in (1, 2):
        files[f"{ROOT}/{label(index)}.technical_report.pdf"] = content


def reports_inside(files: Files) -> None:
    content = files.pop(PDF)
    for index in (1, 2):
        files[f"{ROOT}/{label(index)}/{label(index)}.technical_report.pdf"] = content


def no_external(files: Files) -> None:
    for index in (1, 2):
        edit(meta_path(index), "name: BEATs_iter3", "name: !!null")(files)
        edit(meta_path(index), "https://zenodo.org/beats", "!!null")(files)
        edit(meta_path(index), "pre-trained model", "!!null")(files)


def shuffled(files: Files) -> None:
    for name in files:
        if name.endswith(".csv"):
            files[name] = b"".join(reversed(files[name].splitlines(keepends=True)))


def no_last_newline(files: Files) -> None:
    for name in files:
        files[name] = files[name].removesuffix(b"\n") if name.endswith(".csv") else files[name]


@pytest.mark.parametrize(
    "variant",
    [
        crlf,
        per_system_reports,
        reports_inside,
        no_external,
        shuffled,
        no_last_newline,
        edit(meta_path(), "    MACS: !!null\n", ""),
        edit(meta_path(), "MACS: !!null", "MACS: 1234567890"),
        edit(meta_path(), "subsystem_count: !!null", "subsystem_count: 3"),
        edit(SCORES, ",", ", ", -1),
    ],
)
def test_valid_variants_have_no_findings(variant, tmp_path):
    files = good_package()
    variant(files)
    assert [str(found) for found in validate(write_zip(tmp_path / "p.zip", files))] == []


def baseline_names(files: Files, year: int) -> None:
    for name in [name for name in files if name.endswith(".csv")]:
        folder, file = name.rsplit("/", 1)
        kind = "anomaly_score" if file.startswith("anomaly") else "decision_result"
        machine = file.removeprefix(kind + "_").removesuffix("_section_00_test.csv")
        files[f"{folder}/{kind}_{BASELINE % (year, machine)}.csv"] = files.pop(name)


def test_baseline_names_are_warned_of_with_the_challenges_own_name(tmp_path):
    files = good_package(2024)
    baseline_names(files, 2024)
    findings = validate(write_zip(tmp_path / "p.zip", files))
    assert errors(findings) == []
    assert len(warnings(findings)) == 2 * 2 * len(EVAL[2024])
    assert "expected anomaly_score_3DPrinter_section_00_test.csv" in "\n".join(warnings(findings))


def test_baseline_name_of_another_year_is_an_error(tmp_path):
    files = good_package(2024)
    baseline_names(files, 2025)
    assert "expected DCASE2024T2, found DCASE2025T2" in errors(validate(write_zip(tmp_path / "p.zip", files)))[0]


@pytest.mark.parametrize("year", [2023, 2024])
def test_attribute_usage_is_asked_for_since_2025_only(year, tmp_path):
    files = good_package(year)
    edit(meta_path(), "    attribute_usage: !!null\n", "")(files)
    assert validate(write_zip(tmp_path / "p.zip", files)) == []


def test_year_is_taken_as_given(tmp_path):
    path = write_zip(tmp_path / "p.zip", good_package(2025))
    findings = errors(validate(path, year=2024))
    assert any("expected the evaluation machines of 2024" in found for found in findings)
    assert any("AutoTrash, a machine of 2025" in found for found in findings)
    assert "expected a year of 2023" in errors(validate(path, year=2022))[0]


def make_audio(root, machines, names):
    for machine in machines:
        folder = root / machine / "test"
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).touch()
    return root


class TestAudio:
    def test_numbering_from_one_is_taken_from_the_audio(self, tmp_path):
        files = good_package(2024)
        renumbered = [f"section_00_{number:04d}.wav" for number in range(1, 201)]
        for name in files:
            if "_Scanner_" in name:
                rows = files[name].decode().split()
                new = (f"{clip},{row.split(',')[1]}\n" for clip, row in zip(renumbered, rows, strict=True))
                files[name] = "".join(new).encode()
        audio = make_audio(tmp_path / "raw", [m for m in EVAL[2024] if m != "Scanner"], clip_names())
        make_audio(audio, ["Scanner"], renumbered)
        path = write_zip(tmp_path / "p.zip", files)
        assert validate(path, audio_dir=audio) == []
        # Without the recordings, the files only have to agree with each other.
        assert validate(path) == []

    def test_set_must_be_that_of_the_audio(self, tmp_path):
        audio = make_audio(tmp_path / "raw", EVAL[2026], clip_names(201))
        findings = errors(validate(write_zip(tmp_path / "p.zip", good_package()), audio_dir=audio))
        assert len(findings) == 2 * 2 * len(EVAL[2026])
        assert "expected the 201 clips of raw/" in findings[0]
        assert "1 missing (section_00_0200.wav)" in findings[0]

    def test_machines_must_be_those_of_the_audio(self, tmp_path):
        audio = make_audio(tmp_path / "raw", ["PumpA", "PumpC"], clip_names(20))
        files = good_package(machines=("PumpA", "PumpB"), clips=20)
        findings = errors(validate(write_zip(tmp_path / "p.zip", files), audio_dir=audio))
        assert any("expected PumpB/test/*.wav" in found for found in findings)
        assert any("PumpC has anonymous test clips" in found for found in findings)

    def test_labelled_machines_may_stay_out(self, tmp_path):
        audio = make_audio(tmp_path / "raw", EVAL[2026], clip_names())
        make_audio(audio, ["fan"], ["section_00_source_test_normal_0000_noAttribute.wav"])
        assert validate(write_zip(tmp_path / "p.zip", good_package()), audio_dir=audio) == []

    @pytest.mark.parametrize("missing", ["nowhere", "empty"])
    def test_no_audio_is_an_error(self, missing, tmp_path):
        (tmp_path / "empty").mkdir()
        path = write_zip(tmp_path / "p.zip", good_package(systems=1))
        assert "<machine>/test/*.wav" in errors(validate(path, audio_dir=tmp_path / missing))[0]


class TestFolder:
    def test_task2_itself_or_its_parent(self, tmp_path):
        write_folder(tmp_path, good_package(systems=1))
        assert validate(tmp_path) == []
        assert validate(tmp_path / "task2") == []

    def test_what_lies_beside_is_mentioned_only(self, tmp_path):
        write_folder(tmp_path, {**good_package(systems=1), "README.md": b"x"})
        findings = validate(tmp_path)
        assert [found.level for found in findings] == ["warning"]
        assert "README.md" in findings[0].message

    def test_links_are_not_followed(self, tmp_path):
        write_folder(tmp_path / "p", good_package(systems=1))
        (tmp_path / "p" / ROOT / label(1) / "loop").symlink_to(tmp_path / "p")
        findings = errors(validate(tmp_path / "p"))
        assert findings == [
            f"error: {ROOT}/{label(1)}/loop: expected a file or folder, found a symbolic link",
        ]

    def test_pipe_does_not_hang(self, tmp_path):
        files = good_package(systems=1)
        write_folder(tmp_path, files)
        (tmp_path / SCORES).unlink()
        os.mkfifo(tmp_path / SCORES)
        findings = errors(validate(tmp_path))
        assert any("found a device, pipe or socket" in found for found in findings)

    def test_a_stranger_folder(self, tmp_path):
        write_folder(tmp_path, {"a/b.txt": b"x"})
        assert len(validate(tmp_path)) == 1
        assert "expected the folder task2/, found a" in str(validate(tmp_path)[0])

    @pytest.mark.parametrize("name", ["missing", "nul\0l"])
    def test_nothing_there(self, name, tmp_path):
        assert errors(validate(str(tmp_path / name)))


@given(
    st.from_regex(r"[A-Za-z0-9-]{1,12}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9-]{1,12}", fullmatch=True),
    st.integers(1, 4),
)
def test_labels_that_follow_the_rule_pass(surname, institute, index):
    assert LABEL.fullmatch(f"{surname}_{institute}_task2_{index}")


@given(st.text(min_size=1, max_size=20))
def test_labels_have_four_parts_of_plain_letters(text):
    """Independent implementation: four parts, two of letters, digits and hyphens, then task2 and an index."""
    parts = text.split("_")
    plain = [p and all(c == "-" or (c.isascii() and c.isalnum()) for c in p) for p in parts]
    expected = len(parts) == 4 and all(plain) and parts[2] == "task2" and parts[3] in tuple("1234")
    assert bool(LABEL.fullmatch(text)) == expected
    assert not LABEL.fullmatch(f"{text}_x_task2_1") or (all(plain) and len(parts) == 1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(short=st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=16))
def test_abbreviations_are_warned_of_above_ten_characters(tmp_path, short):
    files = good_package(systems=1, machines=("PumpA",), clips=3)
    edit(meta_path(), "abbreviation: Dist1", f"abbreviation: {json.dumps(short, ensure_ascii=False)}")(files)
    findings = validate(write_zip(tmp_path / "p.zip", files))
    assert any("at most 10 characters" in found for found in warnings(findings)) == (
        len(short) > 10 and bool(short.strip())
    )
    assert bool(errors(findings)) == (not short.strip())


def test_findings_are_errors_first_and_never_twice(tmp_path):
    files = good_package()
    DEFECTS["abbreviation long"][0](files)
    DEFECTS["nan"][0](files)
    findings = validate(write_zip(tmp_path / "p.zip", files))
    assert [found.level for found in findings] == ["error", "warning"]
    assert findings[0] == Finding("error", SCORES, 7, "expected a finite score, found nan")


def test_many_bad_lines_stay_readable(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs_check, "MAX_LINE_FINDINGS", 10)
    files = good_package(systems=1)
    values(SCORES, lambda n, old: "nan")(files)
    findings = errors(validate(write_zip(tmp_path / "p.zip", files)))
    assert len(findings) == 11
    assert "190 more lines are wrong" in "\n".join(findings)


class TestVerb:
    def test_valid(self, tmp_path, capsys):
        path = write_zip(tmp_path / "p.zip", good_package(systems=1))
        assert command_line.main(["validate", str(path)]) == 0
        assert capsys.readouterr().out == f"{path}: valid, 0 errors, 0 warnings\n"

    def test_invalid_with_json(self, tmp_path, capsys):
        files = good_package(systems=1)
        DEFECTS["nan"][0](files)
        DEFECTS["abbreviation long"][0](files)
        path = write_zip(tmp_path / "p.zip", files)
        assert command_line.main(["validate", str(path), "--json", str(tmp_path / "out.json")]) == 1
        out = capsys.readouterr().out.splitlines()
        assert out[0] == f"error: {SCORES}:7: expected a finite score, found nan"
        assert out[1].startswith("warning: ")
        assert out[2] == f"{path}: invalid, 1 error, 1 warning"
        written = json.loads((tmp_path / "out.json").read_text())
        assert (written["valid"], written["errors"], written["warnings"]) == (False, 1, 1)
        assert written["findings"][0]["line"] == 7

    def test_cannot_be_opened(self, tmp_path, capsys):
        assert command_line.main(["validate", str(tmp_path / "none.zip")]) == 1
        assert "expected a zip or folder, found nothing" in capsys.readouterr().out

    def test_audio_and_year(self, tmp_path):
        path = write_zip(tmp_path / "p.zip", good_package(systems=1))
        audio = make_audio(tmp_path / "raw", EVAL[2026], clip_names(199))
        assert command_line.main(["validate", str(path), "--audio", str(audio)]) == 1
        assert command_line.main(["validate", str(path), "--year", "2026"]) == 0
        assert command_line.main(["validate", str(path), "--year", "2025"]) == 1

    def test_names_that_no_terminal_shows(self, tmp_path, capsys):
        files = good_package(systems=1)
        files[f"{ROOT}/bad\x1b[31m\nname"] = b"x"
        assert command_line.main(["validate", str(write_zip(tmp_path / "p.zip", files))]) == 0
        assert "bad\\x1b[31m\\nname" in capsys.readouterr().out

    def test_needs_nothing_heavy(self):
        heavy = "torch pandas scipy sklearn matplotlib soundfile"
        code = f"import sys, submission.validate; print([m for m in {heavy.split()} if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


def test_builder_and_years_agree():
    """The year files must equal the builder's tables, which were written by hand from the rules."""
    from system.corpora.challenge import load_year

    for year in EVAL:
        assert set(load_year(year).eval) == set(EVAL[year])
        assert set(load_year(year).dev) == set(DEV[year])
