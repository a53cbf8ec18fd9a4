"""Comparison of the claims in a package with facts of its run."""

from dataclasses import replace

import pytest
from package_builder import good_package, label, write_zip
from package_defects import E, W

from submission.facts import RunFacts
from submission.validate import validate


class TestFacts:
    """Findings for a package with given facts of the run."""

    facts = RunFacts(
        results={label(1): {"ToyCar": {"auc_source": 61.5, "auc_target": 54.25, "pauc": 51.0}}},
        total_parameters={label(1): 90_000_000},
        external_models={label(1): ["BEATs iter3"]},
        config_hash="abc",
        frozen_config_hash="abc",
        training_files=["fan/train/section_00_source_train_normal_0000_x.wav"],
        training_digests={"d1": "fan/train/a.wav"},
        evaluation_digests={"d2": "Sander/test/section_00_0000.wav"},
        machine_settings={"fan": {"k": 3}, "Sander": {"k": 3}},
    )

    def run(self, tmp_path, **changes):
        path = write_zip(tmp_path / "p.zip", good_package(systems=1))
        return validate(path, facts=replace(self.facts, **changes))

    def test_true_claims(self, tmp_path):
        assert self.run(tmp_path) == []

    @pytest.mark.parametrize(
        ("changes", "level", "fragment"),
        [
            ({"results": {label(1): {"ToyCar": {"auc_source": 61.52}}}}, W, "expected 61.52 as recomputed, found 61.5"),
            ({"total_parameters": {label(1): 90_000_001}}, E, "expected 90000001 as in the model"),
            ({"external_models": {label(1): ["AudioMAE"]}}, E, "expected AudioMAE, which the system uses"),
            ({"config_hash": "abd"}, E, "expected the configuration abc"),
            ({"training_files": ["fan/test/x.wav"]}, E, "normal training clips only, found fan/test/x.wav"),
            (
                {"training_files": ["fan/train/section_00_source_test_anomaly_0001_x.wav"]},
                E,
                "normal training clips only",
            ),
            ({"evaluation_digests": {"d1": "Sander/test/z.wav"}}, E, "found Sander/test/z.wav (also fan/train/a.wav)"),
            ({"machine_settings": {"fan": {"k": 3}, "Sander": {"k": 5}}}, W, "found different k"),
        ],
    )
    def test_false_claims(self, changes, level, fragment, tmp_path):
        findings = self.run(tmp_path, **changes)
        assert [found.level for found in findings] == [level]
        assert fragment in str(findings[0])

    def test_rounding_is_no_difference(self, tmp_path):
        assert self.run(tmp_path, results={label(1): {"ToyCar": {"auc_source": 61.5049}}}) == []
