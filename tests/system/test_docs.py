"""The documentation says what the code says."""

import re
import subprocess
import sys
from pathlib import Path

from system.bin import COMMANDS
from system.config import Config
from system.experiment import STAGES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def test_the_configuration_reference_is_up_to_date(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import config_reference

    expected = config_reference.page()
    advice = "python tools/config_reference.py --write docs/configuration.md"
    assert (DOCS / "configuration.md").read_text() == expected, advice


def test_the_reference_holds_names_types_defaults_and_comments():
    text = (DOCS / "configuration.md").read_text()
    sections = dict(re.findall(r"## (.+)\n\n((?:(?!\n## )[\s\S])*)", text))
    top = sections["At the top"]
    assert re.findall(r"^\| `(\w+)`", top, re.MULTILINE) == list(Config.__dataclass_fields__)
    assert "| `false_positive_rate` | float | `0.1` | that the decisions aim at |" in top
    branch = sections["`branches.NAME`"]
    assert "| `inputs` | list of text | `[near, far]` | One or two channels that are heard, each near \\|" in branch
    assert (
        "| `autoencoder` | settings or none | `null` | if set, of what follows the scorer alone counts: see" in branch
    )
    assert "pooled so, bands kept apart. projection \\| mean" in branch  # the comment above, then the one beside
    assert "| `autoencoder` | settings | `{hidden: [64, 64], batch_norm: false," in sections["`study`"]
    assert "| `surname` | text | `Wheeltapper` | last name of the corresponding author," in sections["`package`"]
    assert "The same in `branches.NAME.loop`." in sections["`pretrain.loop`"]


def test_every_stage_and_no_verb_that_is_none():
    stages = (DOCS / "stages.md").read_text()
    assert re.findall(r"^\| \d (\w+) \|", stages, re.MULTILINE) == list(STAGES)
    for page in DOCS.glob("*.md"):
        verbs = set(re.findall(r"wheeltapper\s+([a-z][a-z-]+)", page.read_text()))
        assert verbs - {"process"} <= COMMANDS.keys()


def test_the_table_of_verbs_is_complete():
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", (DOCS / "verbs.md").read_text(), re.MULTILINE)
    assert dict(rows) == COMMANDS


def test_the_read_me_is_two_screens_and_leads_to_every_page():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 90
    assert {f"docs/{page.name}" for page in DOCS.glob("*.md")} <= set(re.findall(r"\]\(([^)#]+)", text))


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *DOCS.glob("*.md")]:
        targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
        for target in targets:
            if target.startswith("https://"):
                continue
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_tool_writes_the_page(tmp_path):
    tool = [sys.executable, str(ROOT / "tools" / "config_reference.py"), "--write", str(tmp_path / "c.md")]
    subprocess.run(tool, check=True, env={"PYTHONPATH": str(ROOT)})
    assert (tmp_path / "c.md").read_text() == (DOCS / "configuration.md").read_text()
