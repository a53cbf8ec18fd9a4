"""The html report of a synthetic experiment folder."""

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_runs import DEVELOPMENT, EVALUATION, ODD, Page, build
from scipy import stats

from system import manifest, stage
from system.corpora import copies
from system.errors import WheeltapperError
from system.evaluation import challenge_csv
from system.manifest import Clip
from system.report import leaderboard as report_tables
from system.report import page, results, summary, write_report
from system.report.findings import collect_findings
from system.report.load_run import RunData, SectionResults, read_run

SECTIONS = ("headline", "machines", "systems", "published", "scores", "decisions", "recordings", "evaluation")
SECTIONS += ("training", "gate", "maps", "benchmark", "stages", "configuration")


def test_page_has_every_section_and_needs_nothing_else(html, finished):
    parsed = Page(html)
    assert set(SECTIONS) <= set(parsed.sections)
    assert 'class="absent"' not in html
    assert all(text.startswith(("data:", "#")) for text in parsed.references)
    assert not {"link", "iframe", "object"} & parsed.tags
    assert not re.search(r"https?:|@import|url\(", html)
    assert len(html) < 5e6
    assert html.count("<audio") == 2 * 2 * len((*DEVELOPMENT, *EVALUATION))  # two clips, two microphones
    assert not list(finished.glob(".report*"))


def test_pictures_are_well_formed_and_described(html):
    pictures = re.findall(r"<svg viewBox.*?</svg>", html, re.S)
    described = [ElementTree.fromstring(picture) for picture in pictures if 'role="img"' in picture]
    assert len(described) > 20
    assert all(picture.find("title").text == picture.get("aria-label") for picture in described)
    assert not re.search(r'[dxy]="[^"]*(nan|inf)', html)


def test_numbers_equal_the_metrics(html, finished):
    found = json.loads((finished / "metrics.json").read_text())["systems"]
    best = max(found, key=lambda label: found[label]["official_score"])
    tables = Page(html).tables
    machines = {row[0]: row[1:] for row in tables["Metrics per machine"][1:]}
    assert set(machines) == set(DEVELOPMENT)
    for machine, cells in machines.items():
        values = found[best]["per_machine"][machine]
        names = ("AUC (source)", "AUC (target)", "pAUC", "hmean")
        assert [cell.removesuffix(" ▾") for cell in cells[:4]] == [f"{100 * values[name]:.2f}" for name in names]
        assert [cell.endswith("▾") for cell in cells[:4]] == [values[name] < 0.5 for name in names]
    for row in tables["Systems"][1:]:
        values = found[row[0]]
        low, high = values["ci95"]
        assert row[1:3] == [f"{100 * values['official_score']:.2f}", f"{100 * low:.2f} – {100 * high:.2f}"]
        assert row[3:6] == [f"{100 * values['harmonic_mean'][n]:.2f}" for n in ("AUC (source)", "AUC (target)", "pAUC")]
    headline = " ".join(Page(html).sections["headline"].split())
    assert f"{100 * found[best]['official_score']:.2f} %" in headline
    assert best in headline


def test_alarms_are_counted_from_the_decision_files(html, finished):
    run = read_run(finished)
    rows = {row[0]: row for row in Page(html).tables["Metrics per machine"][1:]}
    for unit in run.development:
        name = challenge_csv.decision_name(unit.machine, "00")
        decided = dict(challenge_csv.read(finished / "systems" / run.best / name, challenge_csv.DECISION))
        labels = {clip.file: clip.label for clip in run.clips if (clip.machine, clip.split) == (unit.machine, "test")}
        for column, label in ((-2, "anomaly"), (-1, "normal")):
            hits = sum(decided[file] == 1 for file, known in labels.items() if known == label)
            assert rows[unit.machine][column] == f"{int(hits)} of 6"


def test_the_false_alarms_to_expect_stand_beside_the_threshold(html, finished):
    run = read_run(finished)
    rows = {row[0]: row for row in Page(html).tables["Decisions"][1:]}
    for unit in run.units:
        for cell, domain in zip(rows[unit.name][2:4], ("source", "target"), strict=True):
            scores = unit.references[unit.reference_domains == domain]
            above = int((scores > unit.threshold).sum())
            exact = stats.binomtest(above, len(scores)).proportion_ci(0.9, "exact") if len(scores) else None
            assert cell == (f"{100 * exact.low:.0f} to {100 * exact.high:.0f} %" if exact else "–")
    found = collect_findings(run)
    assert any("8 source and 2 target references: a rate below 22 % cannot be promised" in text for text in found)


def test_copies_are_findings(finished):
    run = read_run(finished)
    train = [clip for clip in run.clips if (clip.machine, clip.split) == ("Pump", "train")]
    run.copies = [copies.Copy(train[1].key, train[0].file, True)]
    assert any(
        text.startswith("Pump: 1 of 10 training recordings are copies of training recordings (1 equal; ")
        for text in collect_findings(run)
    )


def test_names_cannot_break_the_page(html):
    assert "<b>&" not in html
    assert "Fan &amp; &#39;Söhne&#39;" in html
    assert "Single &lt;b&gt;&amp; simple" in html
    assert ODD in Page(html).sections["machines"]


def test_report_is_deterministic(finished, html):
    assert write_report(finished).read_text(encoding="utf-8") == html


@pytest.mark.parametrize(
    ("removed", "section", "sentence"),
    [
        ("metrics.json", "headline", "There is no official score"),
        ("metrics.json", "systems", "no labelled test clips"),
        ("manifest.csv", "scores", "no labelled test clips"),
        ("manifest.csv", "recordings", "no scored test clips"),
        ("systems", "decisions", "no decision thresholds"),
        ("systems", "evaluation", "no machines with anonymous test clips"),
        ("data", "recordings", "not where the manifest says"),
        ("pretrain", "training", "Pre-training was skipped"),
        ("embeddings", "gate", "no weights of the gate"),
        ("embeddings", "maps", "no embeddings"),
        ("embeddings/main/gate.npy", "gate", "near microphone on average: aux"),
        ("benchmark.json", "benchmark", "no benchmark"),
        ("stages", "stages", "No stage of this run has finished"),
        ("config.yaml", "configuration", "has no configuration file"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(folder, removed, section, sentence):
    path = folder / removed
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    parsed = Page(write_report(folder).read_text(encoding="utf-8"))
    assert sentence in " ".join(parsed.sections[section].split())
    assert set(SECTIONS) <= set(parsed.sections)


@pytest.mark.parametrize(
    ("damaged", "content"),
    [
        ("metrics.json", b'{"systems": '),
        ("config.yaml", b"seed: [1"),
        ("manifest.csv", b"machine,file\n"),
        ("pretrain/curve.csv", b"step,loss\n1,many\n"),
        ("embeddings/main/gate.npy", b"not an array"),
        ("embeddings/main/index.csv", b"machine,section,split,file\n"),
        ("systems/Wheeltapper_Demo_task2_2/references.csv", b"machine,section\nPump,00\n"),
        ("stages/3_embed.json", b"[]"),
        ("benchmark.json", b""),
    ],
)
def test_damage_is_noted_and_the_rest_shown(folder, damaged, content):
    (folder / damaged).write_bytes(content)
    parsed = Page(write_report(folder).read_text(encoding="utf-8"))
    name = damaged.replace("index.csv", "gate.npy")
    assert name in parsed.sections["notes"]
    assert set(SECTIONS) <= set(parsed.sections)


def test_a_run_without_labels_or_far_channel(tmp_path):
    folder = build(tmp_path, channels=1, development=(), evaluation=("One", "Two"))
    parsed = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "no labelled test clips" in parsed.sections["headline"]
    assert "one channel" in parsed.sections["gate"]
    assert parsed.sections["evaluation"].count("of 12") == 2
    assert [row[0] for row in parsed.tables["Decisions"][1:]] == ["One", "Two"]


def test_an_empty_folder_gives_a_page_and_no_folder_an_error(tmp_path):
    assert 'class="absent"' in write_report(tmp_path).read_text(encoding="utf-8")
    with pytest.raises(WheeltapperError, match="expected an experiment folder, found nothing"):
        write_report(tmp_path / "nowhere")


def test_truth_that_came_with_the_recordings_is_shown_apart(folder):
    found = json.loads((folder / "metrics.json").read_text())
    label = max(found["systems"], key=lambda name: found["systems"][name]["official_score"])
    values = {"AUC (source)": 0.7, "AUC (target)": 0.6, "pAUC": 0.55, "hmean": 0.61}
    found["evaluation"] = {label: {"official_score": 0.6123, "ci95": [0.5, 0.7], "per_machine": {"Secret": values}}}
    found["left_out"] = {"Pump section 07": "no anomalous test clip"}
    stage.write_json(folder / "metrics.json", found)
    parsed = Page(write_report(folder).read_text(encoding="utf-8"))
    row = parsed.tables["Metrics of the evaluation machines"][1]
    assert row == ["Secret", "70.00", "60.00", "55.00", "61.00"]
    assert "61.23 %" in parsed.sections["evaluation"]
    assert "Pump section 07" in parsed.sections["notes"]


def official_run(count: int) -> RunData:
    """The official machines of 2026 with ``count`` test clips each, every value 0.6."""
    from system.corpora.challenge import load_year

    names = list(load_year(2026).dev)
    clip = Clip("dcase", "", "00", "test", "a.wav", "a.wav", "normal", "source")
    none = np.array([])
    units = [
        SectionResults(
            name, "00", name, True, [replace(clip, machine=name)] * count, np.zeros(count), None, none, none, None
        )
        for name in names
    ]
    values = dict.fromkeys(("AUC (source)", "AUC (target)", "pAUC", "hmean"), 0.6)
    system = {"official_score": 0.6, "ci95": [0.58, 0.62], "per_machine": dict.fromkeys(names, values)}
    return RunData(
        Path("run"), clips=[clip], metrics={"year": 2026, "systems": {"a_1": system}}, best="a_1", units=units
    )


def test_official_baselines_stand_beside_official_machines_only():
    shown = results.headline(official_run(200))
    assert shown["marks"] == {"official autoencoder": "56.66", "official Mahalanobis": "57.66"}
    assert "official development machines" in shown["comparison"]
    run = official_run(200)
    rows = results.machines(run, summary.judge(run))["rows"]
    assert {row["machine"]: row["published"] for row in rows}["ToyCar"] == ["51.60", "61.33"]
    cut = results.headline(official_run(199))
    assert cut["marks"] == {}
    assert "do not compare" in cut["comparison"]


def test_the_published_table_stands_beside_official_machines_only():
    shown = report_tables.published(official_run(200))
    (block,) = shown["tables"]
    assert shown["orientation"] == ""
    assert [column["name"] for column in block["columns"] if column["own"]] == ["ours"]
    assert [column["name"] for column in block["columns"]][:3] == ["Baseline MSE", "Baseline MAHALA", "task2_1"]
    row = block["groups"][0]["rows"][0]
    assert [cell["text"] for cell in row["cells"]] == ["62.34", "65.92", "56.36", "57.32", "56.76", "56.88", "60.00"]
    assert [cell["best"] for cell in row["cells"]].index(True) == 1
    foot = block["groups"][-1]["rows"][-1]
    assert foot["score"]
    assert [cell["text"] for cell in foot["cells"]] == ["56.66", "57.66", "61.43", "61.28", "61.27", "61.04", "60.00"]
    cut = report_tables.published(official_run(199))
    assert cut["tables"] == []
    for figure in ("56.66 %", "57.66 %", "59.80 %", "54.76 %", "other recordings"):
        assert figure in cut["orientation"]
    assert (
        "no published figures"
        in report_tables.published(
            replace(official_run(200), metrics={**official_run(200).metrics, "year": 2022})
        ).lower()
    )


def test_page_shows_the_published_table(finished):
    run = replace(official_run(200), clips=[])
    parsed = Page(page.render(run))
    lines = parsed.tables["Development machines of 2026"]
    assert lines[0][:4] == ["Machine", "Measure", "Baseline MSE", "Baseline MAHALA"]
    assert lines[0][-1].startswith("ours")
    assert lines[1][-2:] == ["56.88", "60.00"]
    assert len(lines) == 1 + 21 + 4
    foreign = Page(page.render(read_run(finished)))
    assert "Development machines of 2026" not in foreign.tables
    assert "56.66 %" in foreign.sections["published"]
    assert "other recordings" in foreign.sections["published"]


def test_simulated_recordings_are_called_so(folder):
    clips = [replace(clip, corpus="synthetic") for clip in manifest.read(folder / "manifest.csv")]
    manifest.write(folder / "manifest.csv", clips)
    assert "simulated" in Page(page.render(read_run(folder))).sections["headline"]


def test_systems_that_coincide_are_a_finding(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "exp")
    assert not [text for text in collect_findings(read_run(run)) if "coincide" in text]
    shutil.rmtree(run / "systems/Wheeltapper_Demo_task2_2")
    shutil.copytree(run / "systems/Wheeltapper_Demo_task2_1", run / "systems/Wheeltapper_Demo_task2_2")
    told = "Wheeltapper_Demo_task2_1 and Wheeltapper_Demo_task2_2 coincide: they give every clip the same score."
    assert told in collect_findings(read_run(run))


def test_a_system_is_described_by_its_remark(html):
    assert "Single &lt;b&gt;&amp; simple: bad at &lt;hum&gt;" in html
