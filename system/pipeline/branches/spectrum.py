"""A branch that describes clips by statistics of their spectrum over time; nothing is trained."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from submission.texts import BranchText, subtraction_text
from system import processes
from system.config import VIEWS, SpectrumBranchConfig, SpectrumConfig
from system.config.branches import FRAMES
from system.embeddings.parts import describe_in_parts
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.files import write_json
from system.manifest import Clip
from system.parallel import map_in_order
from system.pipeline.branches.base import Branch, Rows
from system.progress import progress_bar

FEATURES = {
    "mel": "log-mel energies",
    "even": "log energies of evenly spaced bands",
    "log": "log energies of log-spaced bands",
}


class SpectrumBranch(Branch[SpectrumBranchConfig]):
    """See ``pipeline.branches.base.Branch``."""

    settings = SpectrumBranchConfig

    def training_settings(self) -> dict[str, Any]:
        return self._described()

    def embedding_settings(self) -> dict[str, Any]:
        return self._described()

    def _described(self) -> dict[str, Any]:
        """Settings that say how a clip is described; the card lists them, and its figures depend on them."""
        return {name: asdict(self.config)[name] for name in ("spectrum", "inputs", "subtraction")}

    def weights(self) -> list[Path]:
        return [self.run.card(self.name)]

    def adapt(self, clips: Sequence[Clip], rate: int, device: str) -> list[Path]:
        from system.frontends.spectrum import describe

        config, inputs = self.config.spectrum, len(self.config.inputs)
        with self._blamed():  # before the recordings are read
            describe(np.zeros((1, 1), np.float32), rate, config)
        seconds = max(clip.seconds for clip in self.windows(clips))
        frames = 1 + int(seconds * rate) // config.hop
        cost = frames * (config.n_fft * math.log2(config.n_fft) + config.bands * (config.n_fft // 2 + 1))
        numbers = inputs * config.row_size
        in_frame = numbers // config.segments
        card = {
            # No network: what is fitted are mean and covariance of a machine's references, of frames the deviations.
            "total_parameters": 2 * in_frame if config.statistic == FRAMES else numbers * (numbers + 3) // 2,
            "trainable_parameters": 0,
            "macs": {view: int(count * cost) for view, count in zip(VIEWS, (inputs, 1), strict=True)},
            "seconds": seconds,
            "rate": rate,
            **self._described(),
        }
        if processes.is_main():
            write_json(self.run.card(self.name), card)
        return self.weights()

    @classmethod
    def embed(
        cls, run: Experiment, branches: Sequence["SpectrumBranch"], clips: Sequence[Clip], workers: int, device: str
    ) -> Iterator[tuple[str, Rows]]:
        """Rows of each branch in every view, float32 (N, ...) as ``Spectra.describe`` makes them of a channel, of two
        inputs (N, 2, ...).

        Each recording is read once, and inputs and spectrograms that several branches have in common are made once.
        """
        rates = {branch.name: branch.rate for branch in branches}

        def describe(own: list[Clip]) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
            for place, row in enumerate(map_in_order(lambda clip: _describe(run, rates, clip), own, workers)):
                yield [place], {name: values[None] for name, values in row.items()}

        with progress_bar(len(clips), f"describing {', '.join(rates)}") as bar:
            rows = describe_in_parts(clips, cls.parts(run, branches), describe, bar.update)
        for name, values in rows.items():
            yield name, _views(values)

    def clip_embedder(self, device: str) -> Callable[[Clip], Rows]:
        rates = {self.name: self.rate}
        return lambda clip: _views(_describe(self.run, rates, clip)[self.name][None])

    def text(self, name: str) -> BranchText:
        config = self.config.spectrum
        statistic, bands = _statistic_text(config), _bands_text(config)
        merged = f", {config.merge} neighbours averaged" if config.merge > 1 else ""
        if config.order == "statistic_first":
            merged += ", the statistic of each frequency bin first"
        merged += ", the mean over bands subtracted" * config.remove_level
        two_channels = max(clip.model_channels for clip in self.training) > 1
        if config.weight == "far" and two_channels:
            merged += ", frames weighted by the inverse power of the far microphone"
        subtraction = subtraction_text(self.config.inputs, self.config.subtraction) if two_channels else ""
        system = [f"Branch {name}: described as branch {self.name}."]
        if name == self.name:
            system = [f"Inputs of branch {name}: {', '.join(self.config.inputs)}; {subtraction}."] * bool(subtraction)
            system += [f"Branch {name}: {statistic} of {bands}{merged}; nothing is trained."]
        return BranchText(
            name=name,
            kind="spectrum",
            subject=f"the {statistic} of {bands}",
            inputs=tuple(self.config.inputs) if two_channels else ("near",),
            features=FEATURES[config.filterbank],
            aggregation="average" if config.statistic == "mean" else statistic.removesuffix(" over time"),
            front_end=(subtraction,) * bool(subtraction),
            data_usage=("references",),
            system=tuple(system),
            **self.scorer_text(name),
        )

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Names the branch in messages on its settings."""
        try:
            yield
        except WheeltapperError as error:
            raise WheeltapperError(f"branches.{self.name}.spectrum.{error}") from error


def _statistic_text(config: SpectrumConfig) -> str:
    """The statistic in words."""
    if config.statistic == FRAMES:
        return f"levels in {config.segments} segments"
    if config.statistic == "quantile":
        return f"{100 * config.level:g} % quantile over time"
    if config.statistic == "power_mean" and config.exponent != 1.0:
        return f"mean of power to the {config.exponent:g} over time"
    return {
        "mean": "mean",
        "power_mean": "mean power",
        "deviation": "deviation",
        "crest": "crest factor",
        "change": "deviation of frame differences",
        "modulation": f"envelope spectrum in {config.modulation_bands} bands",
        "kurtosis": "kurtosis of the power",
    }[config.statistic] + " over time"


def _bands_text(config: SpectrumConfig) -> str:
    """The filters in words."""
    name = "log-spaced bands" if config.filterbank == "log" else f"log-{config.filterbank} bands"
    limits = [f"from {config.low_hz:g} Hz"] * bool(config.low_hz) + [f"to {config.high_hz:g} Hz"] * bool(config.high_hz)
    return " ".join([str(config.bands), name, *limits])


def _views(both: np.ndarray) -> Rows:
    """(N, inputs, ...) as both views have them: ``near_only`` puts the first input in the place of the second."""
    if both.shape[1] == 1:
        return dict.fromkeys(VIEWS, both[:, 0])
    return dict(zip(VIEWS, (both, np.repeat(both[:, :1], 2, axis=1)), strict=True))


def _describe(run: Experiment, rates: Mapping[str, int], clip: Clip) -> dict[str, np.ndarray]:
    """Rows (inputs, ...) of a clip by each branch, given each branch's rate in Hz."""
    from system import audio, waveforms
    from system.frontends.channels import Channels
    from system.frontends.spectrum import Spectra

    wave, native = waveforms.read(clip)
    resampled: dict[int, Channels] = {}
    spectra: dict[tuple, Spectra] = {}
    found = {}
    for name, rate in rates.items():
        branch = SpectrumBranch(run, name).config
        if rate not in resampled:
            resampled[rate] = Channels(audio.resample(wave, native, rate), rate, clip.path)
        way = (rate, *resampled[rate].ways(branch.inputs, branch.subtraction))
        if way not in spectra:
            inputs = resampled[rate].select(branch.inputs, branch.subtraction)
            spectra[way] = Spectra(inputs, rate, resampled[rate].far)
        found[name] = spectra[way].describe(branch.spectrum)
    return found
