"""The stages of a study: autoencoder, frozen and fine-tuned encoders on labelled recordings (MIMII paper)."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from system.encoders.cards import checkpoint_file
from system.errors import WheeltapperError
from system.experiment import Experiment
from system.machine import choose_device, one_thread_each
from system.pipeline import resources
from system.pipeline.session import execute
from system.progress import progress_bar
from system.stage import Stage

if TYPE_CHECKING:
    import numpy as np

    from system.embeddings.store import EmbeddingStore
    from system.encoders.base import Encoder
    from system.manifest import Clip
    from system.study.data import SplitRow
    from system.study.features import FrontEnd

    Given = dict[str, Callable[[], Path]]

LAST = 7  # number of the last stage


def run_stages(run: Experiment, numbers: range, recordings: str = "", store: str = "") -> None:
    """Runs stages of a study: 0 split, 1 spectrograms, 2 frozen embeddings, 3 autoencoder, 4 local outlier factor,
    5 fine-tuning, 6 table, 7 figures (study.html).

    Args:
        numbers: of the stages.
        recordings: manifest or table that stage 0 reads; empty for the experiment's own manifest.
        store: folder of spectrograms and embeddings; empty for EXP/store.
    """
    if not run.config.study.scopes:
        raise WheeltapperError(f"{run.folder / 'config.yaml'}: study.scopes: expected at least one, found none")
    stages = (_split, _spectrograms, _embed, _autoencoder, _lof, _supervised, _table, _figures)
    for number in numbers:
        stages[number](run, recordings, store)


def _split(run: Experiment, recordings: str, store: str) -> None:
    from system import manifest
    from system.study import data

    study = run.config.study
    clips = data.read_recordings(recordings or run.manifest)
    chosen = data.choose(clips, study.scopes)
    wanted = {clip.key for own in chosen.values() for clip in own}
    clips = [clip for clip in clips if clip.key in wanted]
    settings = {
        "scopes": {name: asdict(scope) for name, scope in study.scopes.items()},
        "shares": [study.test, study.validation, study.grouped, run.config.seed],
        "clips": manifest.fingerprint(clips),
        "paths": [clip.path for clip in clips],
    }

    def work() -> Iterable[Path]:
        _check_models(run)
        parts = data.split(clips, run.config.seed, study.test, study.validation, study.grouped)
        splits = {name: data.split_rows(own, parts) for name, own in chosen.items()}
        for name, rows in splits.items():
            data.check_split(rows, name)
        manifest.write(run.manifest, clips)
        for name, rows in splits.items():
            data.write_split(_split_file(run, name), rows)
        return [run.manifest, *(_split_file(run, name) for name in splits)]

    _run(run, 0, "split", settings, [], list(study.scopes), work)


def _check_models(run: Experiment) -> None:
    """Says before the long stages what would end them: a device or weights that are not there, a family that cannot be
    fine-tuned."""
    from system.encoders import Encoder, family_class

    choose_device(run.config.device)
    for name, model in run.config.study.models.items():
        checkpoint_file(model.encoder, run.config.data.folder)
        kind = family_class(model.encoder.family)
        if model.supervised and model.trained_layers and kind.layers is Encoder.layers:
            raise WheeltapperError(
                f"study.models.{name}: expected a family that can be trained layer by layer (ast, cnn, mn), found "
                f"{model.encoder.family}; trained_layers: 0 trains the head alone, supervised: false nothing"
            )


def _split_file(run: Experiment, scope: str) -> Path:
    return run.folder / scope / "split.csv"


def _run(
    run: Experiment,
    number: int,
    name: str,
    settings: dict,
    reads: list[Path],
    owns: list[str],
    work: Callable[[], Iterable[Path]],
    given: "Given | None" = None,
) -> None:
    execute(Stage(number, name, run.folder, settings, reads, owns=owns, given=given or {}), work)


class _Inputs:
    """What stages 1 to 5 share: the clips and their spectrograms and embeddings in the store."""

    def __init__(self, run: Experiment, store: str):
        from system import manifest

        self.run, self.study = run, run.config.study
        self.store = Path(store or run.folder / "store")
        self.clips: list[Clip] = manifest.read(run.manifest)
        self.content = manifest.fingerprint(self.clips)
        self.rows = {"/".join(clip.key): row for row, clip in enumerate(self.clips)}

    def encoder(self, model: str) -> "Encoder":
        return resources.configured_encoder(self.run, self.study.models[model].encoder).requires_grad_(False)

    def given(self, model: str) -> "Given":
        return resources.given_weights(self.run, {f"study.models.{model}.encoder": self.study.models[model].encoder})

    def settings(self, model: str) -> dict:
        """What a model's spectrograms and embeddings depend on beside the checkpoint."""
        encoder = self.study.models[model].encoder
        random = {} if encoder.checkpoint else {"seed": self.run.config.seed}
        own = {"encoder": asdict(encoder), "mode": self.study.models[model].mode, **random}
        return {**own, "channel": self.study.channel, "clips": self.content}

    def front_end(self, model: str, encoder: "Encoder") -> "FrontEnd":
        from system.study import features

        return features.encoder_front_end(model, encoder, self.study.models[model].mode, self.study.channel)

    def spectrograms(self, front_end: "FrontEnd") -> "EmbeddingStore":
        from system.study import features

        return features.spectrogram_store(self.store, front_end, self.clips)

    def embeddings(self, front_end: "FrontEnd", encoder: "Encoder") -> "EmbeddingStore":
        from system.study import features

        return features.embedding_store(self.store, front_end, encoder, self.clips)

    def scope(self, name: str) -> tuple[list["SplitRow"], list[int]]:
        """The rows of a scope's split, and where their clips stand in ``clips``."""
        from system.study import data

        rows = data.read_split(_split_file(self.run, name))
        return rows, [self.rows[row.name] for row in rows]


def _spectrograms(run: Experiment, recordings: str, store: str) -> None:
    inputs = _Inputs(run, store)

    def work(model: str) -> Iterable[Path]:
        from system.study import features

        if model:
            front_end = inputs.front_end(model, inputs.encoder(model))
        else:
            front_end = features.log_mel_front_end(inputs.study.channel)
        store = inputs.spectrograms(front_end)
        workers = one_thread_each(run.config.threads)
        with progress_bar(store.missing(), f"spectrograms for {front_end.name}") as bar:
            features.fill_spectrograms(store, front_end, workers, bar.update)
        return [store.about, store.array]

    own = {"channel": inputs.study.channel, "clips": inputs.content}
    _run(run, 1, "spectrograms_autoencoder", own, [], [], lambda: work(""))
    for model in inputs.study.models:
        _run(run, 1, f"spectrograms_{model}", inputs.settings(model), [], [], partial(work, model))


def _embed(run: Experiment, recordings: str, store: str) -> None:
    inputs = _Inputs(run, store)
    for model in inputs.study.models:
        settings = inputs.settings(model)
        _run(run, 2, f"embed_{model}", settings, [], [], partial(_work_embed, inputs, model), inputs.given(model))


def _work_embed(inputs: _Inputs, model: str) -> Iterable[Path]:
    from system.study import features

    device = resources.prepare_torch(inputs.run)
    encoder = inputs.encoder(model)
    front_end = inputs.front_end(model, encoder)
    store = inputs.embeddings(front_end, encoder)
    spectrograms = features.read_spectrograms(inputs.spectrograms(front_end), front_end.bands)
    workers = one_thread_each(inputs.run.config.threads)
    mode = inputs.study.models[model].mode
    with progress_bar(store.missing(), f"embedding with {model}") as bar:
        features.fill_embeddings(store, encoder, mode, spectrograms, device, workers, bar.update)
    return [store.about, store.array]


def _autoencoder(run: Experiment, recordings: str, store: str) -> None:
    inputs = _Inputs(run, store)
    for scope in inputs.study.scopes:
        settings = {
            "autoencoder": asdict(inputs.study.autoencoder),
            "seed": run.config.seed,
            "channel": inputs.study.channel,
            "clips": inputs.content,
        }
        reads, owns = [_split_file(run, scope)], [f"{scope}/autoencoder"]
        _run(run, 3, f"autoencoder_{scope}", settings, reads, owns, partial(_work_autoencoder, inputs, scope))


def _work_autoencoder(inputs: _Inputs, scope: str) -> Iterable[Path]:
    from system.study import features, results, unsupervised

    device = resources.prepare_torch(inputs.run)
    front_end = features.log_mel_front_end(inputs.study.channel)
    spectrograms = features.read_spectrograms(inputs.spectrograms(front_end), front_end.bands)
    rows, places = inputs.scope(scope)
    own = [spectrograms[place] for place in places]
    config = inputs.study.autoencoder
    with progress_bar(config.epochs, f"autoencoder of {scope}") as bar:
        scores = unsupervised.autoencoder_scores(
            rows, own, config, inputs.run.config.seed, device, lambda *_: bar.update(1)
        )
    path = inputs.run.folder / scope / "autoencoder" / "scores.csv"
    results.write_scores(path, rows, scores)
    return [path]


def _each(inputs: _Inputs) -> Iterator[tuple[str, str, list[Path]]]:
    """Scope, model, and the files of earlier stages that both determine."""
    for scope in inputs.study.scopes:
        for model in inputs.study.models:
            yield scope, model, [_split_file(inputs.run, scope)]


def _lof(run: Experiment, recordings: str, store: str) -> None:
    inputs = _Inputs(run, store)
    for scope, model, reads in _each(inputs):
        settings = inputs.settings(model) | {"lof": asdict(inputs.study.lof)}
        owns = [f"{scope}/{model}/lof.csv"]
        work = partial(_work_lof, inputs, scope, model)
        _run(run, 4, f"lof_{scope}_{model}", settings, reads, owns, work, inputs.given(model))


def _frozen(inputs: _Inputs, front_end: "FrontEnd", encoder: "Encoder") -> "np.ndarray":
    store = inputs.embeddings(front_end, encoder)
    found = store.read()
    if found is None:
        raise WheeltapperError(f"{store.folder}: expected embeddings of {len(store.clips)} clips, run stage 2 again")
    return found


def _work_lof(inputs: _Inputs, scope: str, model: str) -> Iterable[Path]:
    from system.study import results, unsupervised

    encoder = inputs.encoder(model)
    rows, places = inputs.scope(scope)
    embeddings = _frozen(inputs, inputs.front_end(model, encoder), encoder)[places]
    path = inputs.run.folder / scope / model / "lof.csv"
    results.write_scores(path, rows, unsupervised.lof_scores(rows, embeddings, inputs.study.lof))
    return [path]


def _supervised(run: Experiment, recordings: str, store: str) -> None:
    inputs = _Inputs(run, store)
    names = ("classifier.safetensors", "supervised.csv", "embeddings.npz", "state.pt", "curve.csv", "tensorboard")
    for scope, model, reads in _each(inputs):
        own = {name: value for name, value in asdict(inputs.study.models[model]).items() if name != "save_every"}
        settings = inputs.settings(model) | {"model": own, "seed": run.config.seed}
        owns = [f"{scope}/{model}/{name}" for name in names]
        work = partial(_work_supervised, inputs, scope, model)
        _run(run, 5, f"supervised_{scope}_{model}", settings, reads, owns, work, inputs.given(model))


def _work_supervised(inputs: _Inputs, scope: str, model: str) -> Iterable[Path]:
    from system.batching import choose_batch_size
    from system.study import data, features, results, supervised

    run, config = inputs.run, inputs.study.models[model]
    device = resources.prepare_torch(run)
    encoder = inputs.encoder(model)
    front_end = inputs.front_end(model, encoder)
    rows, places = inputs.scope(scope)
    columns = {"frozen": _frozen(inputs, front_end, encoder)[places]}
    folder = run.folder / scope / model
    written = [folder / "embeddings.npz"]
    if config.supervised:
        spectrograms = features.read_spectrograms(inputs.spectrograms(front_end), front_end.bands)
        own = [spectrograms[place] for place in places]
        with progress_bar(0, f"fine-tuning {model} on {scope}") as bar:
            classifier = supervised.fine_tune(
                encoder,
                own,
                [row.part == data.TRAIN for row in rows],
                [row.label == "anomaly" for row in rows],
                config,
                folder,
                run.config.seed,
                inputs.clips[0].rate,
                device,
                lambda step, figures: bar.update(1),
            )
        with progress_bar(len(rows), f"applying {model} to {scope}") as bar:
            batch = choose_batch_size(run.config.embed.batch_size, device)
            columns["finetuned"], logits = supervised.apply(classifier, own, device, batch, bar.update)
        results.write_scores(folder / "supervised.csv", rows, {"supervised": logits[data.evaluated(rows)]})
        classifier.save(folder / "classifier.safetensors")
        (folder / "state.pt").unlink(missing_ok=True)
        written += [folder / name for name in ("supervised.csv", "classifier.safetensors", "curve.csv")]
    names, labels, parts = zip(*((row.name, row.label, row.part) for row in rows), strict=True)
    supervised.write_embeddings(written[0], names, labels, parts, **columns)
    return written


def _table(run: Experiment, recordings: str, store: str) -> None:
    from system.files import write_json
    from system.study import data, results

    study = run.config.study
    reads: list[Path] = []
    for scope in study.scopes:
        kept = [(results.AUTOENCODER, "scores.csv"), *((model, "lof.csv") for model in study.models)]
        kept += [(model, "supervised.csv") for model, config in study.models.items() if config.supervised]
        reads += [_split_file(run, scope), *(run.folder / scope / model / file for model, file in kept)]

    def work() -> Iterable[Path]:
        found = {}
        for scope in study.scopes:
            folder = run.folder / scope
            found[scope] = results.scope_results(folder, list(study.models), data.read_split(_split_file(run, scope)))
            write_json(folder / "results.json", found[scope])
        path = run.folder / "results.json"
        write_json(path, {"format": results.FORMAT, "seed": run.config.seed, "scopes": found})
        written = results.write_table(run.folder, results.read_results([path]))
        print(written[1].read_text(encoding="utf-8"), end="")
        return [path, *written, *(run.folder / scope / "results.json" for scope in study.scopes)]

    settings = {"seed": run.config.seed, "scopes": list(study.scopes), "models": list(study.models)}
    _run(run, 6, "table", settings, reads, [], work)


def _figures(run: Experiment, recordings: str, store: str) -> None:
    study = run.config.study
    reads = [run.manifest, run.folder / "results.json"]
    for scope in study.scopes:
        reads.append(_split_file(run, scope))
        for model, config in study.models.items():
            own = ("embeddings.npz", *(("classifier.safetensors", "supervised.csv") if config.supervised else ()))
            reads += [run.folder / scope / model / file for file in own]

    def work() -> Iterable[Path]:
        from system.study.page import write_study_page

        return [write_study_page(run.folder, device=resources.prepare_torch(run))]

    _run(run, 7, "figures", {"seed": run.config.seed, "channel": study.channel}, reads, ["study.html"], work)
