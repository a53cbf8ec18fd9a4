"""The documentation agrees with the code."""

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


def test_the_reference_holds_keys_types_defaults_and_descriptions():
    text = (DOCS / "configuration.md").read_text()
    sections = dict(re.findall(r"##+ (.+)\n\n((?:(?!\n##)[\s\S])*)", text))
    top = sections["At the top"]
    assert re.findall(r"^\| `(\w+)`", top, re.MULTILINE) == list(Config.__dataclass_fields__)
    assert "| `false_positive_rate` | float, between 0 and 1 | `0.1` | Share of normal clips above " in top
    branch = sections["`branches.NAME`, kind `encoder`"]
    assert "| `inputs` | list of `near`, `far`, `residual` | `[near, far]` | One or two channels; " in branch
    assert "| `encoder` | settings or null | `null` | " in branch
    assert "crop_seconds" not in sections["`branches.NAME`, kind `spectrum`"]
    assert "| `autoencoder` | settings | `{hidden: [64, 64], batch_norm: false," in sections["`study`"]
    assert "| `surname` | text | `Wheeltapper` | Last name of the corresponding author" in sections["`package`"]
    assert "The same in `branches.NAME.loop`." in sections["`pretrain.loop`"]
    assert "| `k` | int, at least 1 | `3` | Number of nearest references" in sections["`knn`"]
    assert "| `standardize` | true, false or mean | `false` | " in sections["`knn`"]
    assert "No settings." in sections["`precomputed`"]


def test_every_key_has_a_description():
    text = (DOCS / "configuration.md").read_text()
    rows = re.findall(r"^\| `\w+` \|.*\| ?(.*) \|$", text, re.MULTILINE)
    assert len(rows) > 219
    assert min(map(len, rows)) >= len("Name")


def test_every_stage_is_listed_and_every_command_exists():
    stages = (DOCS / "stages.md").read_text()
    assert re.findall(r"^\| \d (\w+) \|", stages, re.MULTILINE) == list(STAGES)
    for page in DOCS.glob("*.md"):
        commands = set(re.findall(r"wheeltapper\s+([a-z][a-z-]+)", page.read_text()))
        assert commands - {"process"} <= COMMANDS.keys()


def test_the_table_of_commands_is_complete():
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", (DOCS / "commands.md").read_text(), re.MULTILINE)
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
