"""Valid packages written by hand, as {path: bytes}, independent of the code under test."""

import random
import zipfile
from pathlib import Path

DEV = {
    2023: ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"),
    2026: ("ToyCar", "ToyCarEmu", "bearingEmu", "fan", "gearboxEmu", "sliderEmu", "valveEmu"),
}
DEV[2024] = DEV[2025] = DEV[2023]
EVAL = {
    2023: ("ToyDrone", "ToyNscale", "ToyTank", "Vacuum", "bandsaw", "grinder", "shaker"),
    2024: (
        "3DPrinter",
        "AirCompressor",
        "BrushlessMotor",
        "HairDryer",
        "HoveringDrone",
        "RoboticArm",
        "Scanner",
        "ToothBrush",
        "ToyCircuit",
    ),
    2025: ("AutoTrash", "BandSealer", "CoffeeGrinder", "HomeCamera", "Polisher", "ScrewFeeder", "ToyPet", "ToyRCCar"),
    2026: ("BlowerDustCollector", "Sander", "SewingMachine", "ToothBrush", "ToyDrone"),
}
TEAM = "Miller_EX-Lab"
ROOT = "task2"
PDF = f"{ROOT}/{TEAM}_task2.technical_report.pdf"

META = """submission:
  label: {label}
  name: Distances to normal clips {index}
  abbreviation: Dist{index}
  authors:
    - firstname: Ada
      lastname: Miller
      email: ada.miller@ex-lab.org
      corresponding: true
      affiliation:
        institution: Laboratory of Exact Listening
        department: !!null
        location: Springfield, Neverland
    - firstname: Bo
      lastname: Smith
      email: bo@ex-lab.org
      affiliation:
        institution: Laboratory of Exact Listening
        department: Acoustics
        location: Springfield, Neverland
system:
  description:
    input_sampling_rate: 16kHz
    data_augmentation: !!null
    front_end: !!null
    acoustic_features: log-mel energies
    embeddings: BEATs
    machine_learning_method: kNN
    aggregation_method: average
    domain_adaptation_method: !!null
    domain_generalization_method: !!null
    ensemble_method_subsystem_count: !!null
    decision_making: !!null
    attribute_usage: !!null
    external_data_usage: pre-trained model
    development_data_usage: development
  complexity:
    total_parameters: 90000000
    MACS: !!null
  external_datasets:
    - name: BEATs_iter3
      url: https://zenodo.org/beats
  source_code: !!null
results:
  development_dataset:
{results}"""


def label(index: int) -> str:
    return f"{TEAM}_task2_{index}"


def meta_path(index: int = 1) -> str:
    return f"{ROOT}/{label(index)}/{label(index)}.meta.yaml"


def csv_path(machine: str, index: int = 1, kind: str = "anomaly_score") -> str:
    return f"{ROOT}/{label(index)}/{kind}_{machine}_section_00_test.csv"


def clip_names(count: int = 200) -> list[str]:
    return [f"section_00_{number:04d}.wav" for number in range(count)]


def good_package(
    year: int = 2026, systems: int = 2, machines: tuple[str, ...] | None = None, clips: int = 200
) -> dict[str, bytes]:
    """A package without findings (for the official machines and 200 clips)."""
    files = {PDF: b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n%%EOF\n"}
    results = "".join(f"    {m}: {{auc_source: 61.5, auc_target: 54.25, pauc: 51}}\n" for m in DEV[year])
    for index in range(1, systems + 1):
        files[meta_path(index)] = META.format(label=label(index), index=index, results=results).encode()
        for machine in machines or EVAL[year]:
            rng = random.Random(f"{machine}{index}")
            scores = {name: rng.gauss(0, 1) for name in clip_names(clips)}
            files[csv_path(machine, index)] = "".join(f"{n},{s!r}\n" for n, s in scores.items()).encode()
            decisions = "".join(f"{n},{int(s > 0.5)}\n" for n, s in scores.items())
            files[csv_path(machine, index, "decision_result")] = decisions.encode()
    return files


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def errors(findings: list) -> list[str]:
    return [str(found) for found in findings if found.level == "error"]


def warnings(findings: list) -> list[str]:
    return [str(found) for found in findings if found.level == "warning"]
