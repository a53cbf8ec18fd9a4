import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from system.corpora.names import (
    NameFields,
    attribute_class,
    attribute_pairs,
    format_name,
    parse_name,
)
from system.errors import WheeltapperError

# Every known form: name, layout, what it says.
FORMS = [
    ("normal_id_00_00000012.wav", "id", NameFields("00", label="normal", index="00000012")),
    ("anomaly_id_06_00000000.wav", "id", NameFields("06", label="anomaly", index="00000000")),
    ("id_05_00000123.wav", "id", NameFields("05", index="00000123")),
    (
        "section_00_source_train_normal_0025_strength_1_ambient.wav",
        "domain",
        NameFields("00", "source", "train", "normal", "0025", "strength_1_ambient"),
    ),
    (
        "section_02_target_test_anomaly_0199.wav",
        "domain",
        NameFields("02", "target", "test", "anomaly", "0199"),
    ),
    ("section_03_source_test_0000.wav", "domain", NameFields("03", "source", "test", index="0000")),
    (
        "section_03_source_test_normal_0021_vel_21.wav",
        "section",
        NameFields("03", "source", "test", "normal", "0021", "vel_21"),
    ),
    (
        "section_00_source_train_normal_0000_noAttribute.wav",
        "section",
        NameFields("00", "source", "train", "normal", "0000"),
    ),
    (
        "section_00_target_train_normal_0003_car_A1_spd_1_mic_2_mic_1.wav",
        "section",
        NameFields("00", "target", "train", "normal", "0003", "car_A1_spd_1_mic_2_mic_1"),
    ),
    (
        "section_00_source_train_normal_0001_mic_imp34dt05_mic_pos_A_grind_100_bkg_A.wav",
        "section",
        NameFields("00", "source", "train", "normal", "0001", "mic_imp34dt05_mic_pos_A_grind_100_bkg_A"),
    ),
    (
        "section_00_source_normal_0035_weight15_BckgF.wav",
        "section",
        NameFields("00", "source", "", "normal", "0035", "weight15_BckgF"),
    ),
    (
        "section_00_source_train_normal_0000_vel_600_ac_0.03.wav",
        "section",
        NameFields("00", "source", "train", "normal", "0000", "vel_600_ac_0.03"),
    ),
    ("section_00_0000.wav", "section", NameFields("00", index="0000")),
    ("section_00_test_0000.wav", "section", NameFields("00", split="test", index="0000")),
    ("section_00_machine_0001_.wav", "section", NameFields("00", index="0001", content="machine")),
    (
        "section_00_noise_0100_car_B1.wav",
        "section",
        NameFields("00", index="0100", attributes="car_B1", content="noise"),
    ),
]


@pytest.mark.parametrize(("name", "layout", "fields"), FORMS, ids=[name for name, _, _ in FORMS])
def test_every_published_form_is_read_and_written_back(name, layout, fields):
    assert parse_name(name, layout) == fields
    assert parse_name(name) == fields
    assert format_name(fields, layout) == name


def test_no_attribute_is_no_attribute_in_any_case_and_may_be_left_out():
    bare = "section_00_source_train_normal_0000"
    expected = NameFields("00", "source", "train", "normal", "0000")
    for tail in ("", "_", "_noAttribute", "_noattribute"):
        assert parse_name(bare + tail + ".wav", "section") == expected


def test_other_sound_formats_have_the_same_names():
    fields = parse_name("section_00_0007.FLAC")
    assert fields == NameFields("00", index="0007")
    assert format_name(fields, extension=".flac") == "section_00_0007.flac"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".wav",
        "section_00_0000",
        "section_00_0000.txt",
        "section_0_0000.wav",
        "section_000_0000.wav",
        "section_00_0000.wav.wav",
        "Section_00_0000.wav",
        "section_00_both_train_normal_0000.wav",
        "section_00_source_train_0000.wav",
        "section_00_source_train_broken_0000_x.wav",
        "section_00_source_train_normal_x_y.wav",
        "section_٠٠_0000.wav",
        "normal_id_00_.wav",
        "../section_00_0000.wav",
        "section_00_source_train_normal_0000_a/b.wav",
        "section_00_source_train_normal_0000_a\\b.wav",
        "section_00_source_train_normal_0000_a\nb.wav",
        "section_00_source_train_normal_0000_a\x00b.wav",
        "section_00_source_train_normal_0000_\udcff.wav",
    ],
)
def test_names_outside_the_grammar_are_refused(name):
    with pytest.raises(WheeltapperError, match="expected a DCASE file name"):
        parse_name(name)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("section_00_0000.wav", "id"),
        ("section_00_0000.wav", "domain"),
        ("normal_id_00_00000000.wav", "section"),
        ("section_03_source_test_0000.wav", "section"),
        ("section_00_machine_0001_.wav", "domain"),
    ],
)
def test_a_layout_refuses_the_forms_of_another(name, layout):
    parse_name(name)
    with pytest.raises(WheeltapperError):
        parse_name(name, layout)


@pytest.mark.parametrize(
    ("fields", "layout"),
    [
        (NameFields("00", "source", "train", "normal", "0000"), "id"),
        (NameFields("00", label="normal", index="0000"), "section"),
        (NameFields("00", index="0000", attributes="vel_1"), "section"),
        (NameFields("00", "source", "train", "normal", "0000", "noAttribute"), "section"),
        (NameFields("00", "source", "train", "normal", "0000", "a/b"), "section"),
        (NameFields("0", index="0000"), "section"),
        (NameFields("00", index=""), "section"),
    ],
)
def test_fields_without_a_name_are_refused(fields, layout):
    with pytest.raises(WheeltapperError, match="expected fields"):
        format_name(fields, layout)


two_digits = st.from_regex(r"[0-9]{2}", fullmatch=True)
digits = st.from_regex(r"[0-9]{1,8}", fullmatch=True)
attributes = st.text(st.characters(whitelist_categories=("L", "N", "P", "Zs"), blacklist_characters="/\\"), max_size=20)
attributes = attributes.filter(lambda text: text.isprintable() and text.strip("_ ").lower() not in ("", "noattribute"))
domains = st.sampled_from(["source", "target"])
labels = st.sampled_from(["normal", "anomaly"])
maybe = st.one_of(st.just(""), attributes)
fields_and_layout = st.one_of(
    st.tuples(
        st.builds(NameFields, two_digits, label=st.sampled_from(["", "normal", "anomaly"]), index=digits),
        st.just("id"),
    ),
    st.tuples(
        st.builds(NameFields, two_digits, domains, st.sampled_from(["", "train", "test"]), labels, digits, maybe),
        st.sampled_from(["domain", "section"]),
    ),
    st.tuples(st.builds(NameFields, two_digits, domains, st.just("test"), index=digits), st.just("domain")),
    st.tuples(st.builds(NameFields, two_digits, split=st.sampled_from(["", "test"]), index=digits), st.just("section")),
    st.tuples(
        st.builds(
            NameFields, two_digits, index=digits, attributes=maybe, content=st.sampled_from(["machine", "noise"])
        ),
        st.just("section"),
    ),
)


@given(fields_and_layout)
def test_round_trip(case):
    fields, layout = case
    name = format_name(fields, layout)
    assert parse_name(name, layout) == fields
    assert parse_name(name) == fields


words = st.sampled_from(
    ["section", "00", "03", "source", "target", "train", "test", "normal", "anomaly", "0000", "id", "machine", "noise"]
)
near_names = st.lists(st.one_of(words, st.text(max_size=3)), max_size=8).map("_".join)
names = st.one_of(st.text(), near_names, near_names.map(lambda stem: stem + ".wav"))


@given(names, st.sampled_from([None, "id", "domain", "section"]))
@example("section_00_source_train_normal_0000_.wav", "section")
@example("section_00_noise_0000__noAttribute_.wav", "section")
def test_any_text_is_parsed_or_refused_with_one_line(name, layout):
    try:
        fields = parse_name(name, layout)
    except WheeltapperError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    else:
        # A name that was accepted has a canonical form that says the same.
        canonical = [form for form in ("id", "domain", "section") if layout in (None, form)]
        assert any(_same(fields, form) for form in canonical)


def _same(fields, layout):
    try:
        return parse_name(format_name(fields, layout), layout) == fields
    except WheeltapperError:
        return False


def test_attribute_classes_ignore_case():
    assert attribute_class("pro_Y") == attribute_class("pro_y") == "pro_y"
    assert attribute_class("noAttribute") == attribute_class("") == attribute_class(" noattribute ") == ""
    assert attribute_class("car_A1_spd_1") != attribute_class("car_A1_spd_2")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", []),
        ("noAttribute", []),
        ("vel_21", [("vel", "21")]),
        ("car_A1_spd_28V_mic_1_noise_6", [("car", "A1"), ("spd", "28V"), ("mic", "1"), ("noise", "6")]),
        ("car_A1_spd_1_mic_2_mic_1", [("car", "A1"), ("spd", "1"), ("mic", "2"), ("mic", "1")]),
        ("weight15_BckgF", [("weight", "15"), ("Bckg", "F")]),
        ("spd1200_BckgD", [("spd", "1200"), ("Bckg", "D")]),
        (
            "mic_imp34dt05_mic_pos_A_grind_100_bkg_A",
            [("mic", "imp34dt05"), ("mic_pos", "A"), ("grind", "100"), ("bkg", "A")],
        ),
        ("v1pat_b_v2pat_none", [("v1pat", "b"), ("v2pat", "none")]),
        ("strength_1_ambient", [("strength", "1"), ("ambient", "")]),
    ],
)
def test_attribute_pairs(text, pairs):
    assert attribute_pairs(text) == pairs


@given(st.text())
def test_attribute_helpers_take_any_text(text):
    assert attribute_class(text) == attribute_class(text).strip().lower()
    assert all(len(pair) == 2 for pair in attribute_pairs(text))
