"""The page of a study: spectrograms, maps of the embeddings, attention and Grad-CAM (MIMII paper, section VI)."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from markupsafe import Markup

from system import __version__
from system.encoders.convolutional import ConvolutionalEncoder
from system.explain.attention import attend
from system.explain.gradcam import grad_cam
from system.explain.tsne import FEWEST, PERPLEXITY, tsne
from system.files import open_atomic
from system.report import attention, heatmap, sound
from system.report.explained import EncoderInput, attention_panels, encoder_input, evidence_panel, spectrogram_panel
from system.report.results import PageSection
from system.report.svg import thin
from system.report.template import template
from system.study.data import PARTS, TEST, SplitRow
from system.study.features import mono
from system.study.page_data import KINDS, Study, read_embeddings, read_scores, read_study, results_table, typical
from system.study.supervised import Classifier, load_classifier

MOST_POINTS = 1000  # maximum number of points of a map
MOST_SOUNDS = 16  # maximum number of machines or sections with recordings
DISTANCE_CLIPS = 8  # number of clips over which attention distances are averaged
COLOURS = ("unit0", "unit1", "unit2", "unit3", "unit4", "unit5", "unit6")


class Point(NamedTuple):
    """A test clip on a map."""

    row: SplitRow
    vector: np.ndarray


Points = dict[str, dict[str, dict[str, Point]]]  # by model, kind of embedding and name


def write_study_page(
    folder: str | os.PathLike, scope: str = "", out: str | os.PathLike = "", device: str = "cpu"
) -> Path:
    """Writes study.html of a study's folder, or ``out``, atomically; the same files give the same page.

    Missing parts of a study are mentioned on the page.

    Args:
        folder: of the study.
        scope: one scope; if empty, all scopes with a split.
        out: html file, default study.html in the folder.
        device: on which the networks run.

    Raises:
        WheeltapperError: the folder is not a study, or one of its files or recordings is damaged.
    """
    study = read_study(folder, scope)
    page = render(study, device)
    path = Path(out or study.folder / "study.html")
    with open_atomic(path) as file:
        file.write(page)
    return path


def render(study: Study, device: str = "cpu") -> str:
    """The page as HTML."""
    areas = results_table(study)
    points: Points = {}
    scopes = []
    for name, rows in study.scopes.items():
        scopes.append(
            {
                "name": name,
                "counts": _counts(rows),
                "maps": _maps(study, name, rows, points),
                **_inside(study, name, rows, device),
            }
        )
    return template("study.html.j2").render(
        folder="/".join(study.folder.resolve().parts[-2:]),
        table=areas,
        sounds=_sounds(study),
        together=_together(study, points),
        scopes=scopes,
        scale=heatmap.scale(),
        perplexity=PERPLEXITY,
        most_points=MOST_POINTS,
        seed=study.config.seed,
        version=__version__,
    )


def _counts(rows: Sequence[SplitRow]) -> str:
    found = []
    for part in PARTS:
        labels = [row.label for row in rows if row.part == part]
        found.append(f"{part}: {labels.count('normal')} normal and {labels.count('anomaly')} anomalous clips")
    return "; ".join(found)


def _unit(row: SplitRow, machines: int) -> str:
    """Name of the unit that a clip belongs to: its machine or, if there is only one machine, its section."""
    return row.machine if machines > 1 else f"{row.machine} {row.section}"


# Recordings.


def _sounds(study: Study) -> PageSection:
    """A normal and an anomalous test clip of each machine and section: the middle one by name."""
    units: dict[tuple[str, str], dict[str, list[SplitRow]]] = {}
    for rows in study.scopes.values():
        for row in rows:
            if row.part == TEST:
                units.setdefault((row.machine, row.section), {}).setdefault(row.label, []).append(row)
    shown = []
    for (machine, section), labels in sorted(units.items())[:MOST_SOUNDS]:
        chosen = []
        for label in ("normal", "anomaly"):
            names = sorted({row.name for row in labels.get(label, [])})
            chosen += [(label, study.clips[names[(len(names) - 1) // 2]])] if names else []
        encoded = []
        for _, clip in chosen:
            wave, rate = mono(clip.path, study.config.study.channel)
            under = heatmap.ground(wave.numpy()[0], rate)
            encoded.append((under, sound.ChannelSound(clip, wave.numpy()[0], rate, under.levels)))
        grounds = heatmap.alike([under for under, _ in encoded])
        players = sound.excerpts([listened for _, listened in encoded])
        clips = [
            {
                "label": label,
                "file": clip.file,
                "chart": heatmap.spectrogram_figure(under, f"{machine} {section}: spectrogram of a {label} clip"),
                "player": player,
            }
            for (label, clip), under, player in zip(chosen, grounds, players, strict=True)
        ]
        shown.append({"name": f"{machine} {section}", "clips": clips})
    return {"units": shown, "left_out": max(0, len(units) - MOST_SOUNDS)} if shown else "There are no test clips."


# Maps.


def _maps(study: Study, scope: str, rows: Sequence[SplitRow], points: Points) -> PageSection:
    """t-SNE of the test clips' embeddings of each model, frozen and fine-tuned; stores the points for ``_together``."""
    tested = [index for index, row in enumerate(rows) if row.part == TEST]
    shown = [tested[index] for index in thin(len(tested), MOST_POINTS)]
    machines = len({row.machine for row in rows})
    units = sorted({_unit(row, machines) for row in rows})
    lines: dict[str, list[dict[str, Any]]] = {}  # one row of models for each kind of embedding
    by_unit: dict[str, list[dict[str, Any]]] = {}
    for model in study.config.study.models:
        path = study.model_folder(scope, model) / "embeddings.npz"
        if not path.is_file() or len(tested) < FEWEST:
            continue
        for kind, vectors in read_embeddings(path, rows).items():
            own = points.setdefault(model, {}).setdefault(kind, {})
            own.update({rows[index].name: Point(rows[index], vectors[index]) for index in tested})
            places = tsne(vectors[shown], study.config.seed)
            title, kept = f"{model.upper()}, {KINDS[kind]}", [rows[index] for index in shown]
            chart = _by_label(f"{scope}, {title}", places, kept)
            lines.setdefault(kind, []).append({"title": title, "chart": chart})
            if len(units) > 1:
                chart = _by_unit(f"{scope}, {title}", places, [_unit(row, machines) for row in kept], units)
                by_unit.setdefault(kind, []).append({"title": title, "chart": chart})
    if not lines:
        return f"There are no embeddings of {FEWEST} or more test clips."
    order = [kind for kind in KINDS if kind in lines]
    return {
        "lines": [lines[kind] for kind in order],
        "columns": max(len(line) for line in lines.values()),
        "by_unit": [by_unit[kind] for kind in order] if by_unit else [],
        "key": _unit_key(units),
        "clips": len(tested),
    }


def _together(study: Study, points: Points) -> PageSection:
    """t-SNE of the frozen embeddings of all machines' test clips."""
    frozen = {model: [point for _, point in sorted(kinds.get("frozen", {}).items())] for model, kinds in points.items()}
    machines = sorted({point.row.machine for known in frozen.values() for point in known})
    panels = []
    for model, known in frozen.items():
        if len({point.row.machine for point in known}) < 2 or len(known) < FEWEST:
            continue
        known = [known[index] for index in thin(len(known), MOST_POINTS)]
        places = tsne(np.stack([point.vector for point in known]), study.config.seed)
        title = f"{model.upper()}, frozen"
        chart = _by_unit(f"all machines, {title}", places, [point.row.machine for point in known], machines)
        panels.append({"title": title, "chart": chart})
    if not panels:
        return "There are embeddings of one machine at most."
    return {"panels": panels, "key": _unit_key(machines)}


def _by_label(name: str, places: np.ndarray, rows: Sequence[SplitRow]) -> Markup:
    labels = np.array([row.label for row in rows])
    groups = [(labels == "normal", "normal", "circle"), (labels == "anomaly", "anomaly", "triangle")]
    return attention.tsne_chart(f"{name}, normal and anomalous", places, groups)


def _by_unit(name: str, places: np.ndarray, units: Sequence[str], known: Sequence[str]) -> Markup:
    """Points by unit; the order of the names ``known`` determines the colours."""
    found = np.array(units)
    groups = [(found == unit, css, shape) for css, shape, unit in _unit_key(known)]
    return attention.tsne_chart(f"{name}, by machine", places, groups)


def _unit_key(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Colour, shape and name of each: two shapes of every colour."""
    count = len(COLOURS)
    return [(COLOURS[i % count], "circle" if i // count % 2 == 0 else "cross", name) for i, name in enumerate(names)]


# Inside the networks.


def _inside(study: Study, scope: str, rows: list[SplitRow], device: str) -> dict[str, PageSection]:
    """Attention distances, and attention or Grad-CAM of each fine-tuned network for a typical clip of each label."""
    networks: dict[str, Classifier] = {}
    for model in study.config.study.models:
        path = study.model_folder(scope, model) / "classifier.safetensors"
        if path.is_file():
            networks[model] = load_classifier(path).requires_grad_(False).to(device)
    if not networks:
        text = "No network was fine-tuned here."
        return {"distances": text, "looks": text}
    scores = {model: read_scores(study.model_folder(scope, model) / "supervised.csv") for model in networks}
    chosen = typical(rows, scores)
    return {
        "distances": _distances(study, rows, networks),
        "looks": {"clips": [_look(study, label, row, networks) for label, row in chosen.items()]},
    }


def _encode_clip(study: Study, row: SplitRow, network: Classifier) -> EncoderInput:
    wave, rate = mono(study.clips[row.name].path, study.config.study.channel)
    with torch.no_grad():
        return encoder_input(network.encoder, wave, rate, network.mode)


def _distances(study: Study, rows: Sequence[SplitRow], networks: dict[str, Classifier]) -> PageSection:
    tested = sorted((row for row in rows if row.part == TEST), key=lambda row: row.name)
    tested = [tested[index] for index in thin(len(tested), DISTANCE_CLIPS)]
    found = {}
    for model, network in networks.items():
        if isinstance(network.encoder, ConvolutionalEncoder):
            continue
        looked = [
            attend(network.encoder, _encode_clip(study, row, network).spectrogram, network.mode) for row in tested
        ]
        found[model] = (np.mean([one.distance for one in looked], 0), float(np.mean([one.even for one in looked])))
    if not found:
        return "None of these networks has attention."
    high = max(max(float(distance.max()), even) for distance, even in found.values())
    panels = []
    for model, (distance, even) in found.items():
        chart = attention.distance_chart(model.upper(), distance, even, high)
        panels.append({"title": f"{model.upper()}, fine-tuned", "chart": chart})
    return {"panels": panels, "clips": len(tested)}


def _look(study: Study, label: str, row: SplitRow, networks: dict[str, Classifier]) -> dict[str, Any]:
    """The spectrogram of a clip, and the attention of each network or its Grad-CAM for the label."""
    panels: list[dict[str, Any]] = []
    logits = []
    for model, network in networks.items():
        encoder = network.encoder
        encoded = _encode_clip(study, row, network)
        if not panels:
            panels.append({"title": "Spectrogram", "words": "", "chart": spectrogram_panel(row.file, encoded)})
        with torch.no_grad():
            logits.append(f"{model.upper()} {network(encoded.spectrogram).item():+.2f}")
        if isinstance(encoder, ConvolutionalEncoder):
            sign = 1.0 if label == "anomaly" else -1.0
            stages = (encoder.shown[0], encoder.depth)
            maps = grad_cam(encoder, _signed(network, sign), encoded.spectrogram, stages)
            own = [
                evidence_panel(row.file, encoded, found, stage, encoder.depth)
                for stage, found in zip(stages, maps, strict=True)
            ]
            own = [{**panel, "words": panel["words"] or f"speaks for: {label}"} for panel in own]
        else:
            own = attention_panels(row.file, encoded, attend(encoder, encoded.spectrogram, network.mode))
        panels += [{**panel, "title": f"{model.upper()}: {panel['title']}"} for panel in own]
    return {
        "label": label,
        "file": row.file,
        "unit": f"{row.machine} {row.section}",
        "panels": panels,
        "logits": logits,
    }


def _signed(network: Classifier, sign: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda part: sign * network(part)
