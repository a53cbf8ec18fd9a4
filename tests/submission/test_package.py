"""Writing packages: content, reproducibility, and errors."""

import re
import zipfile
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from package_builder import DEV, EVAL
from run_builder import KEYS, PUBLISHED, make_clips, make_systems, write_run

from submission.facts import RunFacts
from submission.package import label, write_package
from submission.technical_report import ReportFacts
from submission.validate import validate
from system.config.package import AuthorConfig, ExternalResource, PackageConfig
from system.errors import WheeltapperError
from system.evaluation import challenge_csv
from system.manifest import Clip

AUTHOR = AuthorConfig("Ada", "Li", "ada@ex-lab.org", True, "NTNU", location="Oslo, Norway")


def signed(*authors: AuthorConfig) -> PackageConfig:
    return PackageConfig(surname="Li", affiliation="NTNU", authors=list(authors or (AUTHOR,)))


class TestPackage:
    def test_tree_and_zip_hold_the_same(self, tmp_path):
        written = write_run(tmp_path)
        tree = tmp_path / "package"
        with zipfile.ZipFile(written[0]) as opened:
            names = opened.namelist()
            assert opened.testzip() is None
            for name in names:
                assert opened.read(name) == (tree / name).read_bytes()
        labels = [f"Wheeltapper_Demo_task2_{index}" for index in (1, 2, 3, 4)]
        per_system = ("anomaly_score_PumpA_section_00_test.csv", "decision_result_PumpA_section_00_test.csv")
        expected = [f"task2/{text}/{name}" for text in labels for name in (*per_system, f"{text}.meta.yaml")]
        expected.append("task2/Wheeltapper_Demo_task2.technical_report.pdf")
        assert names == sorted(expected)
        assert {path.relative_to(tree).as_posix() for path in written} == {
            *expected,
            "Wheeltapper_Demo_task2.zip",
            "Wheeltapper_Demo_task2.technical_report.md",
            "README.md",
        }
        assert not [path for path in tree.rglob("*") if path.name.startswith(".")]

    def test_is_valid_by_itself_and_against_the_audio(self, tmp_path):
        path = write_run(tmp_path)[0]
        for clip in make_clips():
            if clip.split == "test":
                folder = tmp_path / "raw" / clip.machine / "test"
                folder.mkdir(parents=True, exist_ok=True)
                (folder / clip.file).touch()
        for target in (path, tmp_path / "package"):
            assert [found for found in validate(target, audio_dir=tmp_path / "raw") if found.level == "error"] == []

    def test_scores_are_unchanged(self, tmp_path):
        write_run(tmp_path)
        name = challenge_csv.score_name("PumpA", "00")
        source = challenge_csv.read(tmp_path / "scores2" / name)
        assert challenge_csv.read(tmp_path / "package/task2/Wheeltapper_Demo_task2_2" / name) == source

    def test_meta_files_are_filled_in_from_the_run(self, tmp_path):
        config = PackageConfig(
            external_datasets=[ExternalResource("FISHER-tiny", "https://example.org/fisher")],
            description={
                "front_end": "band-pass",
                "attribute_usage": "null",
                "external_data_usage": "pre-trained model",
            },
            source_code="https://example.org/code",
        )
        write_run(tmp_path, config=config)
        folder = tmp_path / "package/task2"
        first, fourth = (
            yaml.safe_load((folder / f"{text}/{text}.meta.yaml").read_text())
            for text in ("Wheeltapper_Demo_task2_1", "Wheeltapper_Demo_task2_4")
        )
        assert first["submission"]["label"] == "Wheeltapper_Demo_task2_1"
        assert first["system"]["complexity"] == {"total_parameters": 5_500_001, "MACS": 1_234_000_000}
        assert fourth["system"]["complexity"] == {"total_parameters": 5_500_004, "MACS": None}
        assert first["system"]["description"]["ensemble_method_subsystem_count"] == 2
        assert fourth["system"]["description"]["ensemble_method_subsystem_count"] is None
        assert first["system"]["description"]["front_end"] == "band-pass"
        assert first["system"]["description"]["attribute_usage"] is None
        assert first["system"]["external_datasets"] == [{"name": "FISHER-tiny", "url": "https://example.org/fisher"}]
        assert first["results"]["development_dataset"] == {
            "FanX": {"auc_source": 71.5, "auc_target": 60.25, "pauc": 52.125}
        }

    def test_without_anonymous_clips_it_is_a_rehearsal(self, tmp_path):
        write_run(tmp_path, clips=make_clips(evaluation=()))
        folder = tmp_path / "package"
        assert (folder / "task2/Wheeltapper_Demo_task2_1/anomaly_score_FanX_section_00_test.csv").is_file()
        assert "A rehearsal" in (folder / "README.md").read_text()
        assert "not a challenge year's machines (rehearsal): FanX" in (folder / "README.md").read_text()
        assert "**Rehearsal.**" in (folder / "Wheeltapper_Demo_task2.technical_report.md").read_text()

    def test_with_anonymous_clips_it_is_none(self, tmp_path):
        write_run(tmp_path)
        folder = tmp_path / "package"
        assert "A rehearsal:" not in (folder / "README.md").read_text()
        assert "Rehearsal." not in (folder / "Wheeltapper_Demo_task2.technical_report.md").read_text()

    def test_real_machines_have_no_findings(self, tmp_path):
        clips = make_clips(EVAL[2026], DEV[2026], count=200)
        results = {machine: dict(zip(KEYS, values, strict=True)) for machine, values in PUBLISHED.items()}
        systems = make_systems(tmp_path, clips, results)
        path = write_run(tmp_path, clips=clips, systems=systems, config=signed())[0]
        assert [str(found) for found in validate(path)] == []
        assert "Findings of the validator: none." in (tmp_path / "package/README.md").read_text()

    @pytest.mark.parametrize("machines", [EVAL[2026], ("PumpA",)])
    def test_without_authors_it_is_a_demonstration(self, machines, tmp_path):
        clips = make_clips(machines, DEV[2026], count=200 if machines == EVAL[2026] else 6)
        results = {machine: dict(zip(KEYS, values, strict=True)) for machine, values in PUBLISHED.items()}
        path = write_run(tmp_path, clips=clips, systems=make_systems(tmp_path, clips, results))[0]
        found = [each for each in validate(path) if "DEMONSTRATION, not a submission" in each.message]
        assert len(found) == 4
        assert {each.level for each in found} == {"error" if machines == EVAL[2026] else "warning"}
        assert [each for each in validate(path) if each.level == "error" and each not in found] == []
        folder = tmp_path / "package"
        assert "A DEMONSTRATION, not a submission" in (folder / "README.md").read_text()
        assert "**DEMONSTRATION.**" in (folder / "Wheeltapper_Demo_task2.technical_report.md").read_text()
        label = "Wheeltapper_Demo_task2_1"
        document = yaml.safe_load((folder / f"task2/{label}/{label}.meta.yaml").read_text())
        assert document["submission"]["authors"] == []

    def test_with_authors_it_is_none(self, tmp_path):
        path = write_run(tmp_path, config=signed())[0]
        assert [str(each) for each in validate(path) if "DEMONSTRATION" in each.message] == []
        assert "DEMONSTRATION" not in (tmp_path / "package/README.md").read_text()
        report = (tmp_path / "package/Li_NTNU_task2.technical_report.md").read_text()
        assert "DEMONSTRATION" not in report
        assert "Ada Li" in report

    @pytest.mark.parametrize("indices", [(1,), (2, 4), (3, 1, 2)])
    def test_fewer_systems(self, indices, tmp_path):
        clips = make_clips()
        write_run(tmp_path, clips=clips, systems=make_systems(tmp_path, clips, indices=indices))
        folders = sorted(path.name for path in (tmp_path / "package/task2").iterdir() if path.is_dir())
        assert folders == [f"Wheeltapper_Demo_task2_{index}" for index in sorted(indices)]


class TestSameBytes:
    def test_twice_the_same(self, tmp_path):
        first, second = (write_run(tmp_path / name) for name in ("a", "b"))
        assert first[0].read_bytes() == second[0].read_bytes()
        with zipfile.ZipFile(first[0]) as opened:
            assert {entry.date_time for entry in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}
            assert {entry.external_attr >> 16 for entry in opened.infolist()} == {0o100644}

    def test_over_an_older_package_and_leftovers(self, tmp_path):
        fresh = write_run(tmp_path / "a")[0].read_bytes()
        package = tmp_path / "b/package"
        (package / "task2/Old_Team_task2_1").mkdir(parents=True)
        (package / "task2/Old_Team_task2_1/x.csv").write_text("old")
        (package / ".task2.123.tmp/half").mkdir(parents=True)
        (package / ".Wheeltapper_Demo_task2.zip.123.tmp").write_text("half")
        assert write_run(tmp_path / "b")[0].read_bytes() == fresh
        assert not (package / "task2/Old_Team_task2_1").exists()
        assert not [path for path in package.rglob("*") if path.name.startswith(".")]

    def test_order_of_systems_and_clips_does_not_matter(self, tmp_path):
        clips = make_clips()
        a = write_run(tmp_path / "a", clips=clips)[0]
        b = write_run(tmp_path / "b", clips=clips[::-1], systems=make_systems(tmp_path / "b", clips)[::-1])[0]
        assert a.read_bytes() == b.read_bytes()


class TestRefusals:
    def refuse(self, folder, match, **arguments):
        with pytest.raises(WheeltapperError, match=match) as caught:
            write_run(folder, **arguments)
        assert "\n" not in str(caught.value)
        assert not (folder / "package/Wheeltapper_Demo_task2.zip").exists()
        package = folder / "package"
        assert not package.exists() or not [path for path in package.iterdir() if path.name.startswith(".")]

    def test_missing_scores(self, tmp_path):
        systems = make_systems(tmp_path, make_clips())
        (tmp_path / "scores3/decision_result_PumpA_section_00_test.csv").unlink()
        self.refuse(tmp_path, r"scores3/decision_result_PumpA_section_00_test.csv: expected scores", systems=systems)

    def test_scores_of_other_clips(self, tmp_path):
        systems = make_systems(tmp_path, make_clips(count=5))
        self.refuse(tmp_path, r"expected the 6 test clips of the manifest, found 5 \(different: sec", systems=systems)

    @pytest.mark.parametrize("indices", [(), (1, 1), (0, 1), (1, 2, 3, 4, 5)])
    def test_indices(self, indices, tmp_path):
        entry = make_systems(tmp_path, make_clips(), indices=(1,))[0]
        systems = [replace(entry, index=index) for index in indices]
        with pytest.raises(WheeltapperError, match="expected 1 to 4 with different indices"):
            write_package(PackageConfig(), systems, make_clips(), tmp_path / "package", tmp_path / "package/x.zip")

    @pytest.mark.parametrize(
        ("config", "match"),
        [
            (PackageConfig(surname="Van Dyke"), "package.surname: expected 1 to 60 .*found 'Van Dyke': write Van-Dyke"),
            (PackageConfig(surname="Müller"), "package.surname: .*letters A to Z.*found 'Müller': write Mueller"),
            (PackageConfig(surname="Łukaszewicz-Çelik"), "write Lukaszewicz-Celik"),
            (PackageConfig(surname="李"), "package.surname: expected .*hyphens, found '李'$"),
            (PackageConfig(surname="a" * 300), "package.surname: expected 1 to 60"),
            (PackageConfig(affiliation="A_B"), "package.affiliation: expected .*found 'A_B': write A-B"),
            (PackageConfig(affiliation=""), "package.affiliation: expected .*found ''"),
            (
                PackageConfig(description={"colour": "red"}),
                "package.description.colour: expected one of input_sampling",
            ),
            (PackageConfig(description={"embedings": "x"}), "embedings: did you mean embeddings?"),
            (
                PackageConfig(description={"embeddings": " "}),
                "package.description.embeddings: expected text, found only",
            ),
            (
                PackageConfig(description={"ensemble_method_subsystem_count": "two"}),
                "package.description.ensemble_method_subsystem_count: expected a positive integer .*found 'two'",
            ),
            (signed(replace(AUTHOR, corresponding=False)), "package.authors: expected exactly one author .*found 0"),
            (
                signed(replace(AUTHOR, email="a@example.org")),
                "package.authors.0.email: .* found the placeholder 'a@exam",
            ),
            (signed(replace(AUTHOR, last="Surname")), "package.authors.0: .*own name, found the placeholder 'Ada Sur"),
            (signed(replace(AUTHOR, location="Nowhere")), "package.authors.0.location: .* the placeholder 'Nowhere'"),
            (PackageConfig(authors=[AUTHOR]), "package.surname, package.affiliation: expected those of .* Wheeltapper"),
            (
                signed(replace(AUTHOR, first="")),
                "package.authors.0.first: expected text, found nothing",
            ),
            (
                signed(AUTHOR, replace(AUTHOR, corresponding=False, last=" ")),
                "package.authors.1.last: ",
            ),
            (
                signed(replace(AUTHOR, email="")),
                "package.authors.0.email: expected text, found nothing",
            ),
            (signed(replace(AUTHOR, institution="")), "package.authors.0.institution: expected text"),
            (
                PackageConfig(external_datasets=[ExternalResource(url="https://x.org")]),
                "external_datasets.0.name: expec",
            ),
            (PackageConfig(source_code=" "), "package.source_code: expected text, found only blanks"),
            (PackageConfig(year=2019), "package.year: expected 0.* or one of 2020"),
            (PackageConfig(report_pdf="none.pdf"), "package.report_pdf: expected a PDF, found nothing at none.pdf"),
            (
                PackageConfig(report_pdf=__file__),
                "package.report_pdf: .*expected a PDF that begins with %PDF, found",
            ),
        ],
    )
    def test_config(self, config, match, tmp_path):
        self.refuse(tmp_path, match, config=config)

    def test_an_encrypted_report(self, tmp_path):
        (tmp_path / "r.pdf").write_bytes(b"%PDF-1.4\ntrailer\n<< /Encrypt 5 0 R >>\n%%EOF\n")
        config = PackageConfig(report_pdf=str(tmp_path / "r.pdf"))
        self.refuse(tmp_path, "package.report_pdf: .*r.pdf: expected a PDF without encryption", config=config)

    def test_unknown_section_of_the_report(self, tmp_path):
        self.refuse(tmp_path, "report: expected only .*found conclusion", report=ReportFacts({"conclusion": ["x"]}))

    def test_fractions_for_percentages(self, tmp_path):
        results = {"FanX": {"auc_source": 0.7, "auc_target": 0.6, "pauc": 0.5}}
        systems = make_systems(tmp_path, make_clips(), results)
        self.refuse(tmp_path, "FanX.auc_source: expected a percentage, found 0.7", systems=systems)

    def test_evaluation_clip_among_the_training_clips(self, tmp_path):
        clips = [replace(clip, digest="same") if clip.machine == "PumpA" else clip for clip in make_clips()]
        self.refuse(tmp_path, "expected no evaluation clip among the training clips, found PumpA/test/", clips=clips)
        assert "error: run: " in (tmp_path / "package/README.md").read_text()
        assert (tmp_path / "package/task2").is_dir()

    def test_anomaly_among_the_training_clips(self, tmp_path):
        name = "section_00_source_train_anomaly_0000_x.wav"
        clips = [*make_clips(), Clip("c", "FanX", "00", "train", name, f"/d/FanX/train/{name}", "anomaly")]
        self.refuse(tmp_path, "expected training on normal training clips only, found FanX/train/", clips=clips)

    def test_counts_that_are_not_the_models(self, tmp_path):
        facts = RunFacts(total_parameters={"Wheeltapper_Demo_task2_2": 7})
        self.refuse(tmp_path, "expected 7 as in the model, found 5500002", facts=facts)

    def test_undeclared_model(self, tmp_path):
        facts = RunFacts(external_models={"Wheeltapper_Demo_task2_1": ["FISHER-mini"]})
        self.refuse(tmp_path, "expected FISHER-mini, which the system uses", facts=facts)

    def test_an_older_zip_does_not_outlive_a_failure(self, tmp_path):
        write_run(tmp_path)
        facts = RunFacts(config_hash="a", frozen_config_hash="b")
        self.refuse(tmp_path, "expected the configuration b", facts=facts)

    def test_no_test_clips(self, tmp_path):
        clips = [clip for clip in make_clips() if clip.split == "train"]
        self.refuse(tmp_path, "expected test clips", clips=clips, systems=make_systems(tmp_path, make_clips()))


class TestConfig:
    @given(st.text(max_size=12), st.text(max_size=12), st.integers(1, 4))
    def test_labels(self, surname, affiliation, index):
        """Either the label has four parts, or the configuration is refused."""
        plain = re.compile("[A-Za-z0-9-]+")
        config = PackageConfig(surname=surname, affiliation=affiliation)
        if plain.fullmatch(surname) and plain.fullmatch(affiliation):
            assert label(config, index).split("_") == [surname, affiliation, "task2", str(index)]
        else:
            with pytest.raises(WheeltapperError, match=r"package\.surname"):
                label(config, index)
