"""The precision of a branch's rows is chosen once; whatever embeds later for the same run follows the record."""

import pytest
import torch

from system import config
from system.embeddings.precision import precision_of
from system.encoders import family_class
from system.experiment import Experiment
from system.pipeline.branches import clip_embedder, network_branch


class Model(torch.nn.Module):
    """As much of an adapted encoder as its preparation needs."""

    def __init__(self):
        super().__init__()
        self.encoder = family_class("fisher").build("tiny", 0)


@pytest.mark.parametrize("recorded", ["fp32", "bf16", "int8"])
def test_another_machine_follows_the_record(monkeypatch, tmp_path, recorded):
    setting = "auto" if recorded != "int8" else recorded
    run = Experiment(tmp_path, config.load("recipes/dcase2026/conf/toy.yaml", [f"embed.precision={setting}"]))
    branch = network_branch(run, "main")
    monkeypatch.setattr("system.embeddings.precision.has_bf16", lambda device: recorded == "bf16")
    assert branch._precision("cpu", Model().encoder) == recorded
    assert not run.precision("main").exists()
    assert branch._settled_precision("cpu", Model().encoder) == recorded
    assert branch.notes() == [run.precision("main")]
    monkeypatch.setattr("system.embeddings.precision.has_bf16", lambda device: recorded != "bf16")
    assert branch._settled_precision("cpu", Model().encoder) == recorded

    used = []
    monkeypatch.setattr(type(branch), "load", lambda self: Model())
    monkeypatch.setattr("system.embeddings.embed.embed_machine", lambda model, *args, **_: used.append(model) or {})
    clip_embedder(run, ["main"])("main", None)
    assert precision_of(used[0].encoder) == recorded
