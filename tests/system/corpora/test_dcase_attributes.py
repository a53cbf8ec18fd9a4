import pytest

from system.corpora.attributes import contradicts, join_pairs, read_attributes
from system.errors import WheeltapperError

WAV = "section_00_source_train_normal_0000_vel_6_loc_A.wav"


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "attributes_00.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_keys_and_values_by_split_and_file(tmp_path):
    path = write(
        tmp_path,
        "file_name,d1p,d1v,d2p,d2v\n"
        f"fan/train/{WAV},vel,6,loc,A\n"
        "fan/test/section_00_0000.wav,vel,8,,\n"
        "fan/test/section_00_0001.wav,noAttribute,,,\n"
        "\n"
        "fan/test/section_00_0002.wav\n",
    )
    assert read_attributes(path) == {
        ("train", WAV): [("vel", "6"), ("loc", "A")],
        ("test", "section_00_0000.wav"): [("vel", "8")],
        ("test", "section_00_0001.wav"): [],
        ("test", "section_00_0002.wav"): [],
    }


def test_the_header_may_be_in_any_case_and_order_with_a_byte_order_mark_and_windows_line_ends(tmp_path):
    text = "\ufeffFile_Name,D2P,D2V,D1P,D1V\r\nfan\\train\\a.wav,loc,A,vel,6\r\n"
    assert read_attributes(write(tmp_path, text)) == {("train", "a.wav"): [("vel", "6"), ("loc", "A")]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected file_name,d1p,d1v"),
        ("file,d1p,d1v\n", "line 1: expected file_name,d1p,d1v"),
        ("file_name\n", "line 1: expected file_name,d1p,d1v"),
        ("file_name,d1p\n", "line 1: expected file_name,d1p,d1v"),
        ("file_name,d1p,d1v\na.wav,vel,6\n", "line 2: expected <machine>/<split>/<file>, found 'a.wav'"),
        ("file_name,d1p,d1v\nfan/train/a.wav,vel,6\nfan/train/a.wav,vel,8\n", "line 3: train/a.wav occurs twice"),
    ],
)
def test_damaged_files(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(WheeltapperError) as caught:
        read_attributes(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "attributes_00.csv"
    path.write_bytes(b"file_name,d1p,d1v\n\xff\xfe,a,b\n")
    with pytest.raises(WheeltapperError, match="expected UTF-8"):
        read_attributes(path)


@pytest.mark.parametrize(
    ("name", "pairs", "wrong"),
    [
        ("vel_6_loc_A", [("vel", "6"), ("loc", "A")], False),
        ("vel_6_loc_A", [("Vel", "6.0"), ("loc", "a")], False),
        ("vel_6_loc_A", [("vel", "6")], False),
        ("vel_6", [("vel", "6"), ("loc", "A")], False),
        ("vel_6_loc_A", [("vel", "8"), ("loc", "A")], True),
        ("weight15_BckgF", [("weight", "15"), ("Bckg", "F")], False),
        ("weight15_BckgF", [("weight", "20"), ("Bckg", "F")], True),
        ("car_A1_spd_1_mic_2_mic_1", [("car", "A1"), ("spd", "1"), ("mic", "1")], False),
        ("car_A1_spd_1_mic_2_mic_1", [("car", "A1"), ("spd", "1"), ("mic", "3")], True),
        ("strength_1_ambient", [("strength", "1_ambient")], False),
    ],
)
def test_contradictions(name, pairs, wrong):
    assert contradicts(name, pairs) is wrong


def test_joined_pairs_look_like_a_file_name():
    assert join_pairs([("car", "A1"), ("spd", "1")]) == "car_A1_spd_1"
    assert join_pairs([]) == ""
