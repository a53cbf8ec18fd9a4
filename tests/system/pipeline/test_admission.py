"""Stage 0 refuses what a later stage would refuse, and says where; it takes all the rest."""

from dataclasses import replace

import pytest

from system import manifest
from system.errors import WheeltapperError
from system.manifest import Clip
from system.pipeline.admission import admit


@pytest.fixture
def clips() -> list[Clip]:
    return [
        Clip("toy", "fan", "00", split, f"{split}{n}.wav", f"/r/{split}{n}.wav", label, "source", digest=f"{split}{n}")
        for split, n, label in [
            *(("train", n, "normal") for n in range(3)),
            *(("test", n, "anomaly" if n else "normal") for n in range(2)),
        ]
    ]


def places(clips) -> list[str]:
    return [f"line {2 + number}" for number in range(len(clips))]


def test_names_become_those_of_the_challenges_files(clips):
    clips[0] = replace(clips[0], file='id_00/a, "b".wav')
    admitted = admit(clips, "m.csv", places(clips))
    assert [clip.file for clip in admitted] == ["id_00_a_ _b_.wav", *(clip.file for clip in clips[1:])]
    assert [replace(clip, file="") for clip in admitted] == [replace(clip, file="") for clip in clips]


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (3, {"machine": "a/b"}, "line 5: machine: expected a machine's name without /"),
        (3, {"machine": "Fan"}, "line 5: machine: expected names that differ in more than case, found 'fan', 'Fan'"),
        (3, {"section": "A"}, "line 5: section: expected a section of two digits, found 'A'"),
        (3, {"file": "notes.doc"}, "line 5: file: expected a name that ends in .wav"),
        (0, {"file": "a,b.wav"}, ""),
        (1, {"file": "train0_.wav"}, ""),
        (0, {"label": "anomaly"}, "line 2: label: expected normal recordings in split train, found an anomaly"),
        (0, {"path": "/r/test/x.wav"}, "line 2: path: expected a training recording outside of folders named test"),
        (0, {"file": "section_00_source_test_normal_0000.wav"}, "line 2: split: expected test as the name says"),
        (3, {"label": ""}, "fan: expected test clips all labelled or all anonymous, found 1 and 1"),
        (4, {"digest": "train1"}, "line 6: test1.wav has the content of /r/train1.wav"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(clips, number, change, message):
    clips[number] = replace(clips[number], **change)
    if not message:
        assert len(admit(clips, "m.csv", places(clips))) == 5
        return
    with pytest.raises(WheeltapperError) as caught:
        admit(clips, "m.csv", places(clips))
    assert f"m.csv: {message}" in str(caught.value)


def test_two_names_that_become_one(clips):
    clips[:2] = [replace(clips[0], file="a/b.wav"), replace(clips[1], file="a,b.wav")]
    with pytest.raises(
        WheeltapperError, match=r"line 3: file: expected names that differ in more than .* line 2's too"
    ):
        admit(clips, "m.csv", places(clips))


def test_too_few_to_learn_from_and_many_problems(clips):
    few = [replace(clip, rate=8000, samples=80_000) for clip in (clips[0], *clips[3:])]
    lacking = "fan section 00: expected at least 2 normal training clips, found 1"
    with pytest.raises(WheeltapperError, match=lacking):
        admit(few, "m.csv", places(clips[:3]))
    admit([replace(few[0], samples=800_000), *few[1:]], "m.csv", places(clips[:3]))
    many = [replace(clips[0], file=f"{n}.doc", path=f"/r/{n}") for n in range(30)]
    with pytest.raises(WheeltapperError, match=r"m\.csv: 30 problems \(the first 10 are shown\)") as caught:
        admit(many, "m.csv", places(many))
    assert len(str(caught.value).splitlines()) == 11


@pytest.mark.parametrize("name", ["../../x", "x" * 250, "a\nb", "CON", " fan"])
def test_a_manifest_with_such_a_machine_is_refused_with_its_line(tmp_path, clips, name):
    clips[1] = replace(clips[1], machine=name)
    known = [replace(clip, channels=1, rate=1, samples=1) for clip in clips]
    manifest.write(tmp_path / "m.csv", known)
    with pytest.raises(WheeltapperError, match=r"m\.csv: line [34]: machine: expected"):
        manifest.read(tmp_path / "m.csv")
