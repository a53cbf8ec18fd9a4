import logging

import pytest

from system.corpora.truth import Truth, read_truth
from system.errors import WheeltapperError


def write(tmp_path, *lines):
    path = tmp_path / "eval_data_list.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_list_of_machines_and_pairs_of_names(tmp_path):
    path = write(
        tmp_path,
        "ToyDrone",
        "section_00_0000.wav,section_00_source_test_normal_0000_car_A1.wav",
        "section_00_0001.wav,section_00_target_test_anomaly_0001_car_A1.wav",
        "Vacuum",
        "section_00_0000.wav,section_00_target_test_normal_0000_noAttribute.wav",
    )
    assert read_truth(path, 2023) == [
        Truth("ToyDrone", "00", "section_00_0000.wav", "source", "normal"),
        Truth("ToyDrone", "00", "section_00_0001.wav", "target", "anomaly"),
        Truth("Vacuum", "00", "section_00_0000.wav", "target", "normal"),
    ]


def test_2020_has_a_third_column_and_no_domains(tmp_path):
    path = write(tmp_path, "fan", "id_01_00000000.wav,anomaly_id_01_00000098.wav,1")
    assert read_truth(path, 2020) == [Truth("fan", "01", "id_01_00000000.wav", "", "anomaly")]
    path = write(tmp_path, "fan", "id_01_00000000.wav,anomaly_id_01_00000098.wav,0")
    with pytest.raises(WheeltapperError, match=r"line 2: expected 0 \(normal\) or 1 \(anomaly\) as .*, found '0'"):
        read_truth(path, 2020)


def test_2021_knows_the_domain_of_anonymous_clips(tmp_path):
    path = write(tmp_path, "fan", "section_03_target_test_0000.wav,section_03_target_test_anomaly_0000.wav")
    assert read_truth(path, 2021) == [Truth("fan", "03", "section_03_target_test_0000.wav", "target", "anomaly")]
    path = write(tmp_path, "fan", "section_03_source_test_0000.wav,section_03_target_test_anomaly_0000.wav")
    with pytest.raises(WheeltapperError, match="expected two names of one section and domain"):
        read_truth(path, 2021)


def test_2024_robotic_arm_lacks_the_word_test(tmp_path):
    path = write(tmp_path, "RoboticArm", "section_00_0000.wav,section_00_source_normal_0035_weight15_BckgF.wav")
    assert read_truth(path, 2024) == [Truth("RoboticArm", "00", "section_00_0000.wav", "source", "normal")]


WRONG_2022 = "section_03_0160.wav,section_03_target_test_normal_0024_car_G2_spd_31V.wav"
RIGHT_2022 = "section_03_0160.wav,section_03_target_test_anomaly_0160_car_G2_spd_31V.wav"


@pytest.mark.parametrize("machine", ["ToyCar", "ToyTrain"])
def test_the_defective_list_of_2022_is_refused_and_the_corrected_one_taken(tmp_path, machine, caplog):
    path = write(tmp_path, machine, WRONG_2022)
    with pytest.raises(WheeltapperError, match=r"line 2: refused: .*wrong label for 608 of the 1200"):
        read_truth(path, 2022)
    with caplog.at_level(logging.WARNING):
        assert read_truth(write(tmp_path, machine, RIGHT_2022), 2022)[0].label == "anomaly"
    assert f"domains of {machine}" in caplog.text
    assert len(read_truth(write(tmp_path, machine, WRONG_2022), 2022, corrected=True)) == 1


def test_the_defect_of_2022_touches_no_other_machine_or_year(tmp_path):
    assert read_truth(write(tmp_path, "fan", WRONG_2022), 2022)[0].label == "normal"
    renumbered = "section_00_0160.wav,section_00_target_test_normal_0024_car_G2.wav"
    assert read_truth(write(tmp_path, "ToyDrone", renumbered), 2023)[0].label == "normal"


def ground_truth(tmp_path, labels, domains=None, machine="ToyCar", section="03"):
    for folder, lines in (("ground_truth_data", labels), ("ground_truth_domain", domains)):
        if lines is not None:
            (tmp_path / folder).mkdir(exist_ok=True)
            path = tmp_path / folder / f"ground_truth_{machine}_section_{section}_test.csv"
            path.write_text("".join(f"{line}\r\n" for line in lines))
    return tmp_path


def test_the_form_of_the_evaluators(tmp_path):
    path = ground_truth(
        tmp_path,
        ["section_03_0000.wav,1", "section_03_0001.wav,0"],
        ["section_03_0001.wav,0", "section_03_0000.wav,1"],
    )
    assert read_truth(path, 2022) == [
        Truth("ToyCar", "03", "section_03_0000.wav", "target", "anomaly"),
        Truth("ToyCar", "03", "section_03_0001.wav", "source", "normal"),
    ]


@pytest.mark.parametrize(
    ("labels", "domains", "message"),
    [
        (["section_03_0000.wav,2"], ["section_03_0000.wav,0"], "line 1: expected name.wav,0 or name.wav,1"),
        (["section_03_0000.wav"], ["section_03_0000.wav,0"], "line 1: expected name.wav,0 or name.wav,1"),
        (["section_03_0000.wav,0"] * 2, ["section_03_0000.wav,0"], "line 2: expected a new clip"),
        (["section_04_0000.wav,0"], [], "line 1: expected a new clip of section 03"),
        (["nonsense.wav,0"], [], "line 1: 'nonsense.wav': expected a DCASE file name"),
        (["section_03_0000.wav,0"], None, "expected the domain of ToyCar/section_03_0000.wav"),
        ([], [], "found no clip"),
    ],
)
def test_damaged_evaluator_files(tmp_path, labels, domains, message):
    path = ground_truth(tmp_path, labels, domains)
    with pytest.raises(WheeltapperError) as caught:
        read_truth(path, 2022)
    assert str(tmp_path) in str(caught.value)
    assert message in str(caught.value)


def test_a_folder_without_truth(tmp_path):
    with pytest.raises(WheeltapperError, match=r"expected ground_truth_<machine>_section_<NN>_test\.csv, found none"):
        read_truth(tmp_path, 2023)
    with pytest.raises(WheeltapperError, match="expected the truth of 2023, found nothing"):
        read_truth(tmp_path / "missing.csv", 2023)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["section_00_0000.wav,section_00_source_test_normal_0000_a.wav"], "line 1: expected the name of a machine"),
        (["ToyDrone", "section_00_0000.wav,section_00_0000.wav"], "line 2: expected anonymous.wav,labelled.wav"),
        (["ToyDrone", "a,b,c,d"], "line 2: expected anonymous.wav,labelled.wav"),
        (["ToyDrone", "section_00_0000.wav,whatever.wav"], "line 2: 'whatever.wav'"),
        (
            ["ToyDrone", "section_01_0000.wav,section_00_source_test_normal_0000_a.wav"],
            "line 2: expected two names of one section",
        ),
        (
            ["ToyDrone"] + ["section_00_0000.wav,section_00_source_test_normal_0000_a.wav"] * 2,
            "expected each clip once, found ToyDrone/section_00_0000.wav twice",
        ),
        (
            ["fan", "section_00_0000.wav,section_00_source_test_normal_0000_a.wav"],
            "found fan section 00",
        ),
        (["ToyDrone"], "found no clip"),
        ([""], "found no clip"),
    ],
)
def test_damaged_lists(tmp_path, lines, message):
    path = write(tmp_path, *lines)
    with pytest.raises(WheeltapperError) as caught:
        read_truth(path, 2023)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
