"""Which kind of SimAM a machine's recordings get: by hand, or chosen from normal training clips alone.

The EFB paper decides between global and local by looking at spectrograms, and leaves an automatic choice open. The rule
here asks what SimAM is for: under which kind does a frozen encoder tell a disturbed recording from an undisturbed one
better? Normal clips are held out in turn and disturbed in ways that a fault might sound like (disturb.py); the nearest
of the other clips, in units of its domain as in scoring, ranks them. A machine gets ``local`` where its mean AUC is
better than that of ``global`` by more than three times the standard error of the difference, else ``global``: machines
are treated alike where their clips do not show that they should not be.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from system import audio
from system.adaptation.perturbations import disturb
from system.config import EncoderConfig
from system.encoders.base import Encoder
from system.encoders.pooling import pool_tokens, select
from system.errors import WheeltapperError
from system.frontends.simam import enhance
from system.manifest import Clip, check_training
from system.scoring.knn import KnnScorer
from system.training.state import step_seed

KINDS = ("global", "local")  # that are chosen from
ERRORS = 3.0  # by which the second must be better; the error leaves out that of the references, as large again
CLIPS = 64  # of a machine at most
FEWEST = 4  # of a machine
FOLDS = 2
POOL = "band"  # keeps frequencies apart, and has nothing to learn


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
    """Kind of SimAM of every machine: {"kind", "by_hand"}, and where it was chosen what ``compare_kinds`` found.

    Args:
        config: ``simam_machines`` come first, the other machines get ``simam``.
        encoder: frozen, without SimAM of its own. clips: normal training clips to choose by. rate: Hz.
        seed: of the clips drawn and their disturbances.
        depth: blocks to run, 0 for all. progress: called with clips done and in all.

    Raises WheeltapperError where ``simam_machines`` names another machine, or one has too few clips to choose by.
    """
    check_training(clips)
    unknown = [machine for machine in config.simam_machines if machine not in machines]
    if unknown:
        raise WheeltapperError(
            f"encoder.simam_machines: expected machines among {', '.join(machines)}, found {', '.join(unknown)}"
        )
    result = {m: {"kind": config.simam_machines.get(m, config.simam), "by_hand": True} for m in machines}
    if config.simam != "auto":
        return result
    samples = {m: _sample(clips, m, seed) for m in machines if m not in config.simam_machines}
    done, total = 0, sum(map(len, samples.values()))
    encoder.to(device).eval()
    for machine, own in samples.items():
        rows: list[np.ndarray] = []
        for clip in own:
            rows.append(_embed_copies(encoder, clip, rate, depth, step_seed(seed, len(rows))))
            done += 1
            if progress:
                progress(done, total)
        found = compare_kinds(np.stack(rows), np.array([clip.domain or "source" for clip in own]))
        better = found["difference"] > ERRORS * found["standard_error"]
        result[machine] = {"kind": KINDS[better], "by_hand": False, **found}
    encoder.to("cpu")
    return result


def compare_kinds(embeddings: np.ndarray, domains: np.ndarray) -> dict[str, Any]:
    """How well each kind tells disturbed from undisturbed clips of a machine.

    Args:
        embeddings: (clips, copies, kinds, dim), the first copy undisturbed. domains: (clips,).

    Returns:
        "auc": {kind: mean over the disturbances of their AUC against the undisturbed clips}; "difference": of the
        second kind from the first; "standard_error": of the difference, by leaving out each clip in turn (jackknife)
        with the references as they are.
    """
    ranks = []
    for place in range(len(KINDS)):
        scores = _held_out(embeddings[:, :, place], domains)
        ahead = scores[:, 1:, None] - scores[:, 0]  # (clip disturbed, disturbance, clip undisturbed)
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
    """Scores (clips, copies) of embeddings (clips, copies, dim) against the undisturbed ones of the other fold. Each
    domain is shared out among the folds."""
    fold = np.empty(len(domains), int)
    fold[np.argsort(domains, kind="stable")] = np.arange(len(domains)) % FOLDS
    clips, copies, dim = embeddings.shape
    scores = np.empty((clips, copies))
    for number in range(FOLDS):
        held = fold == number
        scorer = KnnScorer(k=1, bank="domain", standardize=True).fit(embeddings[~held, 0], domains[~held])
        scores[held] = scorer.score(embeddings[held].reshape(-1, dim)).reshape(-1, copies)
    return scores


def _sample(clips: Sequence[Clip], machine: str, seed: int) -> list[Clip]:
    """At most CLIPS of a machine's clips, at most half of them of the target domain."""
    own = [clip for clip in clips if clip.machine == machine]
    if len(own) < FEWEST:
        raise WheeltapperError(
            f"encoder.simam auto: {machine}: expected at least {FEWEST} normal training clips, found {len(own)}"
        )
    order = [own[i] for i in np.random.default_rng(step_seed(seed, -3)).permutation(len(own))]
    target = [clip for clip in order if clip.domain == "target"][: CLIPS // 2]
    return [clip for clip in order if clip.domain != "target"][: CLIPS - len(target)] + target


@torch.inference_mode()
def _embed_copies(encoder: Encoder, clip: Clip, rate: int, depth: int, seed: int) -> np.ndarray:
    """Frozen embeddings (copies, kinds, dim) of a clip's near channel, undisturbed and disturbed."""
    wave, found = audio.read(clip.path)
    near = audio.resample(wave[:1], found, rate)[0]
    rows = []
    for copy in (near, *disturb(near, rate, np.random.default_rng(seed)).values()):
        spectrogram = encoder.spectrogram(torch.from_numpy(copy)[None], rate)
        heard = torch.cat([enhance(spectrogram, kind) for kind in KINDS]).to(encoder.device)
        tokens = select(encoder(heard, depth or None), POOL)
        rows.append(pool_tokens(tokens, POOL).float().cpu().numpy())
    return np.stack(rows)
