"""Simulates the false alarms that thresholds from normal references give on new normal clips.

Machines are drawn from distributions: embeddings on a few directions of falling variance with a little noise in all, in
one or several states, with normal or heavy tails (Student, 4 degrees of freedom), and target clips that are shifted.
Each is given references, a scorer and a threshold, and judged by new clips, so that its false-alarm rate is known.
``before`` is the plain quantile of the leave-one-out scores, both domains weighted alike, and Mahalanobis banks as they
were, one for every domain of four clips and three clips no sphere; ``now`` is what the program does. The last row is of
all machines.

    python tools/false_alarm_study.py [--machines 25] [--seed 0] [--csv recipes/dcase2026/results/false_alarms.csv]

Columns of the csv, false-alarm rates in percent where ``ASKED`` were asked:

    scorer, references, shift, law     the setting; references are source + target, shift is in deviations of the
                                       widest direction
    both, before                       mean over machines of the mean rate of the domains
    both, before low / high            10 % and 90 % quantile over the machines
    both, before worst                 the machine farthest from what was asked
    both, now ...                      the same of the present rule
    source, ... / target, ...          the same of the domains
    faults found, before / now         mean share of faulty clips above the threshold
    in range                           share of rates within the range that the program states beside the threshold
"""

import argparse
import csv
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from system import scoring
from system.files import open_atomic
from system.scoring import calibrate
from system.scoring.mahalanobis import GaussianBank, ledoit_wolf

ROOT = Path(__file__).resolve().parents[1]
ASKED = 0.1
TESTS = 2000  # new clips of each domain
FAULT = 1.5  # size of the faults, in deviations of the widest direction
NOISE = 0.05  # deviation in all directions
FORMER_SMALLEST = 4  # clips of a Mahalanobis bank
DOMAIN: dict[str, Any] = {"bank": "domain", "standardize": True}


@dataclass(frozen=True)
class Setting:
    """Machines of one kind, their references, and the scorer.

    Attributes:
        scorer: name.
        settings: of the scorer.
        source: number of references.
        target: number of references.
        shift: of the target domain, in deviations of the widest direction.
        heavy: whether tails are heavy.
        states: number of states that clips are in.
        dim: of the embeddings.
    """

    scorer: str
    settings: Mapping[str, Any]
    source: int
    target: int = 0
    shift: float = 1.5
    heavy: bool = False
    states: int = 1
    dim: int = 128

    @property
    def text(self) -> dict[str, str]:
        """The setting as columns."""
        bank = (
            "" if "bank" not in self.settings else ", by domain" if self.settings["bank"] == "domain" else ", one bank"
        )
        if bank == ", by domain" and not self.settings.get("standardize"):
            bank += ", raw"
        law = ("heavy tails" if self.heavy else "normal") + (f", {self.states} states" if self.states > 1 else "")
        references = f"{self.source} + {self.target}" if self.target else str(self.source)
        shift = f"{self.shift:g}" if self.target else ""
        return {"scorer": self.scorer + bank, "references": references, "shift": shift, "law": law}


SETTINGS = (
    Setting("mahalanobis", DOMAIN, 990, 10, dim=64),
    Setting("mahalanobis", DOMAIN, 300, 10, heavy=True),
    Setting("mahalanobis", DOMAIN, 60, 10),
    Setting("mahalanobis", DOMAIN, 60, 10, shift=3.0, states=4),
    Setting("mahalanobis", {"bank": "domain"}, 60, 8),
    Setting("mahalanobis", DOMAIN, 30, 5),
    Setting("mahalanobis", DOMAIN, 12, 4),
    Setting("mahalanobis", {"bank": "global"}, 22, heavy=True),
    Setting("mahalanobis", {"bank": "global"}, 8),
    Setting("mahalanobis", {"bank": "global"}, 3),
    Setting("knn", {"k": 1}, 90, 10),
    Setting("knn", {"k": 1, **DOMAIN}, 90, 10),
    Setting("knn", {"k": 1}, 12, 4),
    Setting("knn", {"k": 1}, 22),
    Setting("ldn", {}, 60, 10),
    Setting("lof", {}, 100, 10, shift=0.5, heavy=True, states=4),
)


def machine(setting: Setting, generator: np.random.Generator) -> Callable[..., np.ndarray]:
    """A machine of some kind, as a function of number, domain and size of a fault that draws clips (number, dim)."""
    rank = max(4, setting.dim // 8)
    widths = np.exp(-3.0 * np.arange(rank) / rank)
    axes = np.linalg.qr(generator.normal(size=(setting.dim, rank)))[0].T
    centre = 9.0 * generator.normal(size=setting.dim) / np.sqrt(setting.dim)
    shift = setting.shift * (generator.normal(size=rank) * widths) @ axes
    states = 2.0 * (setting.states > 1) * (generator.normal(size=(setting.states, rank)) * widths) @ axes
    inside, outside = (generator.normal(size=rank) * widths) @ axes, generator.normal(size=setting.dim)
    fault = inside / np.linalg.norm(inside) + outside / np.linalg.norm(outside)

    def draw(number: int, domain: str, size: float = 0.0) -> np.ndarray:
        inner = generator.normal(size=(number, rank)) * widths
        if setting.heavy:
            inner /= np.sqrt(generator.chisquare(4, size=(number, 1)) / 4)
        rows = centre + inner @ axes + NOISE * generator.normal(size=(number, setting.dim)) + size * fault
        return rows + states[generator.integers(0, setting.states, number)] + shift * (domain == "target")

    return draw


def judge(setting: Setting, seed: tuple[int, ...]) -> dict[str, float]:
    """Rates of one machine: ``<rule> <domain>``, ``<rule> found`` and, of the present rule, ``in range``."""
    draw = machine(setting, np.random.default_rng(seed))
    counts = {"source": setting.source, "target": setting.target}
    counts = {domain: count for domain, count in counts.items() if count}
    references = np.concatenate([draw(count, domain) for domain, count in counts.items()])
    domains = np.repeat(list(counts), list(counts.values()))
    healthy = {domain: draw(TESTS, domain) for domain in counts}
    faulty = np.concatenate([draw(TESTS, domain, FAULT) for domain in counts])
    found: dict[str, float] = {}
    for rule in ("before", "now"):
        scorer: Any = scoring.build(setting.scorer, **setting.settings)
        if rule == "before" and setting.scorer == "mahalanobis":
            scorer.smallest_bank = FORMER_SMALLEST
            scorer.fit(references, domains)
            scorer._banks = [former_bank(bank) for bank in scorer._banks]
        else:
            scorer.fit(references, domains)
        own = scorer.reference_scores()
        if rule == "before":
            limit = calibrate.weighted_quantile(own, calibrate.domain_weights(domains), 1.0 - ASKED)
        else:
            limit = calibrate.threshold(own, domains, ASKED)
        rates = {domain: float((scorer.score(rows) > limit).mean()) for domain, rows in healthy.items()}
        found |= {f"{rule} {domain}": rate for domain, rate in rates.items()}
        found |= {f"{rule} both": float(np.mean(list(rates.values())))}
        found[f"{rule} found"] = float((scorer.score(faulty) > limit).mean())
    expected = calibrate.expected_false_alarms(own, domains, limit)
    found["in range"] = float(
        np.mean([expected[name].low <= rate <= expected[name].high for name, rate in rates.items()])
    )
    return found


def former_bank(bank: GaussianBank) -> GaussianBank:
    """A bank with the shrinkage that it had before banks of three became spheres."""
    count, dim = bank.references.shape
    squares = ((bank.references - bank.mean) ** 2).sum(axis=1)
    shrinkage, _ = ledoit_wolf(squares, (bank.variances**2).sum(), count, dim)
    return replace(bank, shrinkage=float(shrinkage))


def summary(text: Mapping[str, str], machines: list[dict[str, float]]) -> dict[str, str]:
    """A row of the csv."""
    row = dict(text)
    for domain in ("both", "source", "target"):
        for rule in ("before", "now"):
            rates = 100.0 * np.array([found[f"{rule} {domain}"] for found in machines if f"{rule} {domain}" in found])
            values = dict.fromkeys(("", " low", " high", " worst"), "")
            if len(rates):
                low, high = np.quantile(rates, [0.1, 0.9])
                worst = rates[np.abs(rates - 100.0 * ASKED).argmax()]
                values = {
                    "": f"{rates.mean():.1f}",
                    " low": f"{low:.1f}",
                    " high": f"{high:.1f}",
                    " worst": f"{worst:.1f}",
                }
            row |= {f"{domain}, {rule}{part}": value for part, value in values.items()}
    for rule in ("before", "now"):
        row[f"faults found, {rule}"] = f"{100.0 * np.mean([found[f'{rule} found'] for found in machines]):.0f}"
    row["in range"] = f"{100.0 * np.mean([found['in range'] for found in machines]):.0f}"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machines", type=int, default=25, help="of each setting (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, default=ROOT / "recipes/dcase2026/results/false_alarms.csv")
    args = parser.parse_args()
    rows, everything = [], []
    for number, setting in enumerate(SETTINGS):
        machines = [judge(setting, (args.seed, number, each)) for each in range(args.machines)]
        everything += machines
        rows.append(summary(setting.text, machines))
        print(rows[-1], flush=True)
    rows.append(summary({"scorer": "all", "references": "", "shift": "", "law": ""}, everything))
    print(rows[-1])
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    made = {
        "command": "python tools/false_alarm_study.py",
        "commit": commit.stdout.strip(),
        "config": "",
        "seeds": args.seed,
    }
    with open_atomic(args.csv) as file:
        writer = csv.DictWriter(file, [*rows[0], *made], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **made} for row in rows)


if __name__ == "__main__":
    main()
