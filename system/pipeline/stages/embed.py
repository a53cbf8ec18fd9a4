"""Stage 3: embed all clips with each branch."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from system import manifest
from system.experiment import Experiment
from system.machine import one_thread_each
from system.pipeline import resources
from system.pipeline.branches import encoder as encoder_branch
from system.pipeline.branches.kinds import by_kind, kind
from system.stage import Stage


def stage(run: Experiment) -> Stage:
    """The stage as it stands in an experiment."""
    settings = {
        "rate": run.config.data.rate,
        "encoders": {name: kind(branch).embedding_settings(branch) for name, branch in run.owners.items()},
        "front_ends": {name: encoder_branch.front_end(run.encoder_config(name)) for name in run.encoder_branches},
        "readouts": {name: encoder_branch.readouts(run, name) for name in run.encoder_branches},
        "embed": asdict(run.config.embed),
    }
    reads = [run.manifest, *([run.encoder] if run.has_encoder else [])]
    reads += [path for name in run.owners for path in run.weights(name)]
    return run.stage("embed", settings, reads, owns=["embeddings"])


def work(run: Experiment) -> Iterable[Path]:
    """Embeds training and test clips; returns the files written."""
    from system.embeddings import embed, files

    device = resources.prepare_torch(run)
    workers = one_thread_each(run.config.threads)
    clips = [clip for clip in manifest.read(run.manifest) if clip.split in ("train", "test")]
    written: list[Path] = []
    for module, names in by_kind(run.owners).items():
        for name, rows in module.embed(run, names, clips, workers):
            for column, values in rows.items():
                written.append(run.index(name).parent / f"{column}.npy")
                files.write_array(written[-1], values)
            written.append(run.index(name))
            files.write_index(run.index(name), clips)
            encoder_branch.clear_parts(run, name)
    if run.has_encoder:
        dtype = embed.choose_precision(run.config.embed.precision, device)
        print(f"embeddings in {str(dtype).removeprefix('torch.')} on {device}")
    return written
