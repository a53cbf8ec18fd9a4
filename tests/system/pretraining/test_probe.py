"""The probe during training: a few labelled recordings, always the same ones."""

import pytest

from system.errors import WheeltapperError
from system.pretraining.probe import Probe


@pytest.fixture
def clips(record):
    """Two classes, each one recording three times: the nearest neighbour is always of the same class."""
    return [
        record(f"{kind}{copy}.wav", seed=seed, attributes=f"class_{kind}", channels=1)
        for seed, kind in enumerate(("hum", "hiss"))
        for copy in range(3)
    ]


def test_copies_are_told_apart_by_any_encoder(clips, tiny_encoder):
    assert Probe(clips, 10)(tiny_encoder()) == {"probe_cls": 100.0, "probe_tokens": 100.0}


def test_the_choice_of_recordings_is_the_same_each_time(clips):
    first, again = Probe(clips, 4), Probe(clips, 4)
    assert len(first.recordings) == 4
    assert first.classes == again.classes
    assert first.folds is None


def test_machines_with_anomalies_have_no_classes_to_find(record):
    test = [record(f"{label}.wav", split="test", label=label, seed=1) for label in ("normal", "anomaly")]
    with pytest.raises(WheeltapperError, match=r"pretrain\.probe: expected recordings with classes"):
        Probe([record("a.wav", label="normal"), *test], 3)
