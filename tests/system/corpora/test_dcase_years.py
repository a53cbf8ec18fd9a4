import pytest
import yaml

from system.corpora.challenge import load_year, read_year
from system.corpora.year_files import YEARS, known_years
from system.errors import WheeltapperError


def test_every_year_of_the_challenge_is_known():
    assert known_years() == list(range(2020, 2027))


# year: layout, rule, channels, machines dev and eval, zips, whether dev and eval share machines
FACTS = {
    2020: ("id", 2020, 1, 6, 6, 18, True),
    2021: ("domain", 2021, 1, 7, 7, 21, True),
    2022: ("section", 2022, 1, 7, 7, 21, True),
    2023: ("section", 2022, 1, 7, 7, 21, False),
    2024: ("section", 2022, 1, 7, 9, 25, False),
    2025: ("section", 2022, 1, 7, 8, 23, False),
    2026: ("section", 2022, 2, 7, 5, 17, False),
}


@pytest.mark.parametrize("number", FACTS)
def test_years_hold_what_was_published(number):
    layout, rule, channels, dev, evaluation, zips, shared = FACTS[number]
    year = load_year(number)
    assert (year.year, year.layout, year.rule, year.channels, year.rate) == (number, layout, rule, channels, 16000)
    assert (len(year.dev), len(year.eval)) == (dev, evaluation)
    archives = year.select()
    assert len(archives) == len({archive.name for archive in archives}) == zips
    assert bool(set(year.dev) & set(year.eval)) is shared
    # Development and evaluation data of one machine must not be mixed in one folder.
    folders = {archive.part: archive.folder for archive in archives}
    assert (folders["dev"] != folders["test"]) is shared
    assert folders["train"] == folders["test"]
    for phase in (year.dev, year.eval):
        for machine in phase.values():
            assert list(machine.sections) == sorted(set(machine.sections))


def test_published_exceptions():
    by_name = {archive.name: archive for number in known_years() for archive in load_year(number).select()}
    assert "dev_ToyCar_r2.zip" in {archive.name for archive in load_year(2026).select(["ToyCar"])}
    assert by_name["dev_ToyCar_r2.zip"].md5 == "353201db217e25377a7e7eccf9c1c8a7"
    names = {archive.name: archive for archive in load_year(2024).select(parts=("train",))}
    assert {"eval_data_3DPrinter_train_r2.zip", "eval_data_RoboticArm_train_r2.zip"} < set(names)
    assert {archive.record for archive in names.values()} == {11259435}
    assert by_name["dev_data_ToyCar.zip"].record in (3678171, 4562016)
    assert load_year(2020).select(["ToyCar"], ("dev",))[0].bytes == 1816443231
    assert load_year(2020).dev["ToyCar"].sections == ("01", "02", "03", "04")
    assert load_year(2022).defects[0].machines == ("ToyCar", "ToyTrain")


def test_selection():
    year = load_year(2026)
    assert [archive.part for archive in year.select(["ToyDrone"])] == ["train", "test"]
    assert [archive.machine for archive in year.select(["fan", "ToyCar"], ("dev",))] == ["ToyCar", "fan"]
    with pytest.raises(WheeltapperError, match=r"machine: expected one of ToyCar, .* found 'toycar'"):
        year.select(["toycar"])
    with pytest.raises(WheeltapperError, match="part: expected one of dev, train, test"):
        year.select(parts=("eval",))
    with pytest.raises(WheeltapperError, match="found none for fan in test"):
        year.select(["fan"], ("test",))


@pytest.mark.parametrize("number", [2019, 2027, 26, -1])
def test_unknown_years_are_refused_with_the_known_ones(number):
    with pytest.raises(WheeltapperError, match=rf"expected one of 2020, .*2026, found {number}"):
        load_year(number)


def damaged(**changes):
    data = yaml.safe_load((YEARS / "2026.yaml").read_text())
    data.update(changes)
    return yaml.safe_dump(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("year: [", "expected YAML"),
        ("", "file: "),
        (damaged(surprise=1), "surprise: Extra inputs"),
        (damaged(rule=2019), "rule: "),
        (damaged(channels=3), "channels: "),
        (damaged(machines={"dev": {"fan": {"sections": [0], "seconds": 1, "attributes": True}}}), "sections.0: "),
        (damaged(machines={"dev": {}}), "expected dev and eval"),
        (damaged(year=2025), "year: expected 2026, found 2025"),
    ],
)
def test_damaged_year_files_name_the_key(tmp_path, text, message):
    path = tmp_path / "2026.yaml"
    path.write_text(text)
    with pytest.raises(WheeltapperError) as caught:
        read_year(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_hash_for_a_machine_that_does_not_exist_is_noticed(tmp_path):
    data = yaml.safe_load((YEARS / "2026.yaml").read_text())
    data["archives"]["test"]["md5"]["Sandpaper"] = "0" * 32
    path = tmp_path / "2026.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(WheeltapperError, match="unknown machine Sandpaper"):
        read_year(path)


def test_years_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_year(2026).channels = 1
