"""What a package says of a system follows from what the system is."""

import pytest

from submission import texts
from submission.meta_check import DESCRIPTION, SUBSYSTEMS
from submission.technical_report import ReportFacts, markdown
from submission.texts import BranchText
from system.config import SubtractionConfig, SystemConfig
from system.config.package import PackageConfig

SPECTRUM = BranchText(
    "low", "spectrum", "the 10 % quantile over time of 128 log-mel bands", "k-nearest neighbours", "log-mel energies",
    ("residual",), front_end=("magnitude subtraction of the far microphone (window 1024)",), data_usage=("references",),
)  # fmt: skip
ENCODER = BranchText(
    "main", "encoder", "BEATs with low-rank adapters", "Mahalanobis distance", "log-amplitude spectrogram",
    ("near", "far"), embedding="BEATs", tuning="with low-rank adapters", augmentation=("mixup",), gate=True,
    attributes="classes of an additive-angular-margin loss", bank_per_domain=True, data_usage=("fine-tuning",),
)  # fmt: skip
AUTOENCODER = BranchText(
    "box", "autoencoder", "what an autoencoder does not reconstruct", "autoencoder, mean squared error",
    "log-mel energies", ("near",), reference_scores="", data_usage=("training",),
)  # fmt: skip
ENCODER_WORDS = ("encoder", "adapter", "lora", "gate", "margin", "fitted", "pre-trained", "projection", "token")


def system(*names: str, **settings) -> SystemConfig:
    return SystemConfig(weights=dict.fromkeys(names, 0.5), **settings)


def everything(branches: list[BranchText], systems: list[SystemConfig]) -> str:
    """All texts of a package in one."""
    found = [texts.description(one, branches, 16000, 0.1) for one in systems]
    words = [str(value) for description in found for value in description.values()]
    words += [texts.summary(one, branches, "System") for one in systems]
    words += [texts.name(one, branches, 1) for one in systems]
    facts = ReportFacts(texts.report_lines(branches), branches=branches)
    report = markdown(PackageConfig(), [], ["SimFan"], True, facts)
    return "\n".join([*words, texts.abstract(PackageConfig(), branches, systems), report]).lower()


def test_a_spectrum_system_is_described_as_one():
    found = everything([SPECTRUM], [system("low")])
    assert "log-mel" in found
    assert "nothing is trained" in found
    assert not [word for word in ENCODER_WORDS if word in found]


def test_an_encoder_system_is_described_as_one():
    found = everything([ENCODER], [system("main")])
    for word in ("beats", "low-rank adapters", "gate", "additive-angular-margin", "mahalanobis"):
        assert word in found
    assert "spectral branch" not in found
    assert "autoencoder" not in found


def test_an_autoencoder_system_is_described_as_one():
    found = everything([AUTOENCODER], [system("box")]).replace("autoencoder", "")
    assert "mean squared error" in found
    assert not [word for word in ENCODER_WORDS if word in found]


def test_a_mixed_system_names_all_its_parts():
    found = everything([ENCODER, SPECTRUM], [system("main", "low")])
    for word in ("beats", "quantile", "noise reference", "fused", "ensemble"):
        assert word in found
    assert "nothing is trained" not in texts.abstract(PackageConfig(), [ENCODER, SPECTRUM], []).lower()


@pytest.mark.parametrize("branches", [[SPECTRUM], [ENCODER], [AUTOENCODER], [ENCODER, SPECTRUM, AUTOENCODER]])
def test_the_description_has_every_field(branches):
    found = texts.description(system(*(branch.name for branch in branches)), branches, 16000, 0.1)
    assert set(found) == set(DESCRIPTION) - {SUBSYSTEMS}
    required = [name for name, (optional, _) in DESCRIPTION.items() if not optional]
    assert all(found[name] for name in required)


def test_fields_that_do_not_apply_are_null():
    found = texts.description(system("low"), [SPECTRUM], 0, 0.1)
    names = ("data_augmentation", "embeddings", "domain_adaptation_method", "attribute_usage", "external_data_usage")
    assert {found[name] for name in names} == {None}
    assert found["input_sampling_rate"] == "as recorded"
    assert found["development_data_usage"] == "references"


@pytest.mark.parametrize(
    ("one", "branches", "expected"),
    [
        (
            system("main"),
            [ENCODER],
            "exceeded by 10 % of the leave-one-out scores of normal references, domains weighted",
        ),
        (system("box"), [AUTOENCODER], "exceeded by 10 % of the scores of normal references"),
        (system("box", threshold="batches"), [AUTOENCODER], "exceeded by 10 % of a gamma distribution"),
    ],
)
def test_the_threshold(one, branches, expected):
    assert texts.threshold(one, branches, 0.1).startswith(expected)


def test_what_the_team_writes_stands():
    config = PackageConfig(title="Ours", abstract="We listened.")
    assert texts.title(config, [SPECTRUM]) == "Ours"
    assert texts.abstract(config, [SPECTRUM], []) == "We listened."
    given = system("low", name="Low", abbreviation="lo")
    assert (texts.name(given, [SPECTRUM], 3), texts.abbreviation(given, 3)) == ("Low", "lo")


def test_the_summary_names_the_fusion_and_the_inputs():
    both = {"weights": {"main": 0.75, "low": 0.25, "idle": 0.0}}
    found = texts.summary(SystemConfig(**both), [ENCODER, SPECTRUM], "both")
    assert found == "both: weights main 0.75 and low 0.25, inference with both channels."
    smallest = SystemConfig(weights={"main": 0.5, "low": 0.5}, fusion="minimum", view="near_only")
    found = texts.summary(smallest, [ENCODER, SPECTRUM], "both")
    assert found == "both: minimum of main and low, inference with the first input alone (near, residual)."
    assert texts.summary(system("box"), [AUTOENCODER], "box").endswith("inference with the near channel.")


def test_abbreviations_fit_and_differ():
    found = [texts.abbreviation(system("magnitude_quarter", "low"), number) for number in (1, 2, 3, 4)]
    assert len(set(found)) == 4
    assert max(map(len, found)) <= 10


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"method": "magnitude"}, "magnitude subtraction of the far microphone (window 1024)"),
        ({"stretch": 3.0, "method": "scaled_magnitude"}, "scaled magnitude .* gains over 3 s"),
        ({"taps": 2, "coherence": True}, "complex least-squares .* one gain a clip, 2 taps, scaled by coherence"),
    ],
)
def test_subtraction(settings, expected):
    import re

    found = texts.subtraction_text(["residual"], SubtractionConfig(**settings))
    assert re.search(expected.replace("(", r"\(").replace(")", r"\)"), found)
    assert texts.subtraction_text(["near", "far"], SubtractionConfig(**settings)) == ""
