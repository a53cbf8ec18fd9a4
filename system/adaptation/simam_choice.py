"""The kind of SimAM for each machine: set by hand, or chosen from normal training clips.

The EFB paper chooses between global and local by inspection of spectrograms and leaves an automatic choice open. The
rule here compares how well a frozen encoder separates perturbed from unperturbed recordings. Normal clips are held out
in turn and perturbed in ways that resemble faults (``perturbations.py``). Their score is the distance to the
nearest of the other clips, normalised per domain as in scoring. A machine gets ``local`` if its mean AUC exceeds that
of ``global`` by more than three standard errors of the difference, else ``global``: without evidence, all machines are
treated alike.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from system import processes, waveforms
from system.adaptation.perturbations import perturb
from system.config import EncoderConfig
from system.encoders.base import Encoder
from system.encoders.pooling import pool_tokens, select
from system.errors import WheeltapperError
from system.frontends.simam import enhance
from system.manifest import Clip, check_training, group_by
from system.scoring.knn import KnnScorer
from system.training.state import step_seed

KINDS = ("global", "local")  # candidates
# Advantage required of the second kind. The error of the references, about as large, is not included in it.
MIN_STANDARD_ERRORS = 3.0
MAX_CLIPS = 64  # per machine
MIN_CLIPS = 4  # per machine
FOLDS = 2
POOL = "band"  # keeps frequencies apart and needs no training


def kinds_of_machines(
    config: EncoderConfig,
    machines: Sequence[str],
    encoder: Encoder,
    clips: Sequence[Clip],
    rate: int,
    seed: int,
    depth: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Determines the kind of SimAM of every machine. Of several processes each takes its share of the machines.

    Args:
        config: settings of the encoder; ``simam_machines`` takes precedence over ``simam``.
        machines: all machines of the run.
        encoder: frozen encoder without SimAM of its own.
        clips: normal training clips.
        rate: sampling rate in Hz.
        seed: of the choice of clips and of their perturbations.
        depth: number of blocks to run, 0 for all.
        device: cpu or cuda.
        progress: called with the number of clips done and in all.

    Returns:
        {"kind", "by_hand"} for each machine; if chosen automatically, with the results of ``compare_kinds``.

    Raises:
        WheeltapperError: ``simam_machines`` names an unknown machine, or a machine has too few clips for the choice.
    """
    check_training(clips)
    unknown = [machine for machine in config.simam_machines if machine not in machines]
    if unknown:
        raise WheeltapperError(
            f"encoder.simam_machines: expected machines among {', '.join(machines)}, found {', '.join(unknown)}"
        )
    result: dict[str, dict[str, Any]] = {
        m: {"kind": config.simam_machines.get(m, config.simam), "by_hand": True} for m in machines
    }
    if config.simam != "auto":
        return result
    members = group_by(clips, "machine")
    own_clips = {m: [clips[index] for index in members.get((m,), ())] for m in machines}
    samples = {m: _sample(own, m, seed) for m, own in own_clips.items() if m not in config.simam_machines}
    mine = {machine: samples[machine] for machine in processes.share(list(samples))}
    done, total = 0, sum(map(len, mine.values()))
    chosen: dict[str, dict[str, Any]] = {}
    encoder.to(device).eval()
    for machine, own in mine.items():
        rows: list[np.ndarray] = []
        for clip in own:
            rows.append(_embed_copies(encoder, clip, rate, depth, step_seed(seed, len(rows))))
            done += 1
            if progress:
                progress(done, total)
        found = compare_kinds(np.stack(rows), np.array([clip.domain or "source" for clip in own]))
        better = found["difference"] > MIN_STANDARD_ERRORS * found["standard_error"]
        chosen[machine] = {"kind": KINDS[better], "by_hand": False, **found}
    encoder.to("cpu")
    for part in processes.collect(chosen):
        result |= part
    return result


def compare_kinds(embeddings: np.ndarray, domains: np.ndarray) -> dict[str, Any]:
    """Compares how well each kind separates perturbed from unperturbed clips of a machine.

    Args:
        embeddings: (clips, copies, kinds, dim); the first copy is unperturbed.
        domains: domain of each clip, (clips,).

    Returns:
        "auc": for each kind, the AUC of perturbed against unperturbed clips, averaged over the perturbations;
        "difference": AUC of the second kind minus that of the first; "standard_error": of the difference, by the
        jackknife over the clips with fixed references.
    """
    ranks = []
    for place in range(len(KINDS)):
        scores = _held_out(embeddings[:, :, place], domains)
        ahead = scores[:, 1:, None] - scores[:, 0]  # (perturbed clip, perturbation, unperturbed clip)
        ranks.append(((ahead > 0) + 0.5 * (ahead == 0)).mean(1))
    first, second = ranks
    clips, gain = len(first), second - first
    without = gain.sum() - gain.sum(0) - gain.sum(1) + np.diag(gain)
    spread = (without / (clips - 1) ** 2).std()
    return {
        "auc": {kind: float(rank.mean()) for kind, rank in zip(KINDS, ranks, strict=True)},
        "difference": float(gain.mean()),
        "standard_error": float(np.sqrt(clips - 1) * spread),
    }


def _held_out(embeddings: np.ndarray, domains: np.ndarray) -> np.ndarray:
    """Scores (clips, copies) of embeddings (clips, copies, dim) against the unperturbed clips of the other fold.

    The clips of each domain are distributed over the folds.
    """
    fold = np.empty(len(domains), int)
    fold[np.argsort(domains, kind="stable")] = np.arange(len(domains)) % FOLDS
    clips, copies, dim = embeddings.shape
    scores = np.empty((clips, copies))
    for number in range(FOLDS):
        held = fold == number
        scorer = KnnScorer(k=1, bank="domain", standardize=True).fit(embeddings[~held, 0], domains[~held])
        scores[held] = scorer.score(embeddings[held].reshape(-1, dim)).reshape(-1, copies)
    return scores


def _sample(own: Sequence[Clip], machine: str, seed: int) -> list[Clip]:
    """At most MAX_CLIPS of the clips of a machine, at most half of them from the target domain."""
    if len(own) < MIN_CLIPS:
        raise WheeltapperError(
            f"encoder.simam auto: {machine}: expected at least {MIN_CLIPS} normal training clips, found {len(own)}"
        )
    order = [own[i] for i in np.random.default_rng(step_seed(seed, -3)).permutation(len(own))]
    target = [clip for clip in order if clip.domain == "target"][: MAX_CLIPS // 2]
    return [clip for clip in order if clip.domain != "target"][: MAX_CLIPS - len(target)] + target


@torch.inference_mode()
def _embed_copies(encoder: Encoder, clip: Clip, rate: int, depth: int, seed: int) -> np.ndarray:
    """Frozen embeddings (copies, kinds, dim) of a clip's near channel, unperturbed and perturbed."""
    near = waveforms.load(clip, rate)[0]
    rows = []
    for copy in (near, *perturb(near, rate, np.random.default_rng(seed)).values()):
        spectrogram = encoder.spectrogram(torch.from_numpy(copy)[None], rate)
        enhanced = torch.cat([enhance(spectrogram, kind) for kind in KINDS]).to(encoder.device)
        tokens = select(encoder(enhanced, depth or None), POOL)
        rows.append(pool_tokens(tokens, POOL).float().cpu().numpy())
    return np.stack(rows)
