"""Stage 3: embed all clips with each branch."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from system import manifest, windows
from system.experiment import Experiment
from system.machine import one_thread_each
from system.manifest import Clip
from system.pipeline import resources
from system.pipeline.branches import by_kind, network_branch, network_branches
from system.pipeline.branches.encoder import EncoderBranch
from system.stage import Stage


def stage(run: Experiment) -> Stage:
    """The stage as it stands in an experiment."""
    branches = network_branches(run)
    encoders = [branch for branch in branches if isinstance(branch, EncoderBranch)]
    settings = {
        "rate": run.config.data.rate,
        "encoders": {branch.name: branch.embedding_settings() for branch in branches},
        "front_ends": {branch.name: branch.front_end() for branch in encoders},
        "readouts": {branch.name: branch.readouts() for branch in encoders},
        "embed": asdict(run.config.embed),
        **windows.settings(_clips(run), run.config.data),
    }
    reads = [run.manifest, *([run.encoder] if run.has_encoder else [])]
    reads += [path for branch in branches for path in branch.weights()]
    stage = run.stage("embed", settings, reads, owns=["embeddings"])
    stage.discards = [run.parts]
    return stage


def _clips(run: Experiment) -> list[Clip]:
    return [clip for clip in manifest.read(run.manifest) if clip.split in ("train", "test")]


def work(run: Experiment) -> Iterable[Path]:
    """Embeds training and test clips; returns the files written."""
    from system.embeddings import files

    device = resources.prepare_torch(run)
    workers = one_thread_each(run.config.threads)
    clips = windows.expand(_clips(run), run.config.data)
    written: list[Path] = []
    for branches in by_kind(run):
        for name, rows in branches[0].embed(run, branches, clips, workers, device):
            for column, values in rows.items():
                written.append(run.index(name).parent / f"{column}.npy")
                files.write_array(written[-1], values)
            written.append(run.index(name))
            files.write_index(run.index(name), clips)
            written += network_branch(run, name).notes()
    return written
