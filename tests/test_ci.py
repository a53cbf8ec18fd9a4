"""Continuous integration runs the README's test command, on every Python that the project is for."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "./tools/test.sh"


def jobs() -> dict:
    # The key "on" is true to YAML 1.1.
    return yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())


def test_the_command_is_the_readmes():
    assert re.search(rf"^{re.escape(COMMAND)}\s", (ROOT / "README.md").read_text(), re.M)
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == f"exec {COMMAND}"
    assert jobs()["jobs"]["tests"]["steps"][-1] == {"run": COMMAND}


def test_every_python_of_the_project_is_tried():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    first, end = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", wanted).groups())
    matrix = jobs()["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == [f"3.{minor}" for minor in range(first, end)]
    assert [re.sub(r"-[\d.]+", "", name) for name in matrix["os"]] == ["ubuntu", "ubuntu-arm", "macos"]


def test_the_workflow_may_only_read():
    workflow = jobs()
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow["jobs"].values())
    actions = [step["uses"] for step in workflow["jobs"]["tests"]["steps"] if "uses" in step]
    assert actions
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in actions)
