"""Stages 1 to 3 in two processes: what one process writes."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from training_runs import in_processes, run_command

from system.bin import main
from system.encoders import checkpoints

WELL = [(0, "")] * 2
LOOP = "{steps: 3, batch_size: 4, warmup_steps: 1, save_every: 1, log_every: 1}"
CONF = f"""
encoder: {{family: fisher, size: nano, simam: auto}}
threads: 1
pretrain: {{loop: {{steps: 0}}}}
branches:
  main:
    depth: 2
    embedding_dim: 16
    crop_seconds: 0.3
    pseudo_attributes: {{clusters: 2}}
    heads: {{kind: adacos, adaptive_scale: true}}
    loop: {LOOP}
  second: {{embedding_dim: 8, crop_seconds: 0.3, tune: full, loop: {LOOP}}}
  light: {{kind: spectrum, spectrum: {{bands: 16}}}}
  lighter: {{kind: spectrum, spectrum: {{bands: 8}}, inputs: [near]}}
  network:
    kind: autoencoder
    autoencoder: {{hidden: [8], bottleneck: 4, epochs: 1, folds: 2}}
    scorer: {{name: precomputed}}
systems: [{{name: all, abbreviation: all, weights: {{main: 0.4, second: 0.3, light: 0.1, lighter: 0.1, network: 0.1}}}}]
"""


@pytest.fixture(scope="module")
def prepared(recordings, tmp_path_factory) -> Path:
    """An experiment after stage 0, with settings of all kinds of branches."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "conf.yaml").write_text(CONF)
    exp = folder / "exp"
    given = ["--exp", str(exp), "--conf", str(folder / "conf.yaml"), "--data", str(recordings)]
    assert main(["run", *given, "--stop-stage", "0"]) == 0
    return exp
