"""Output of wheeltapper doctor, with damaged packages too, and secrets that it must not print."""

import json
import sys
from pathlib import Path

import pytest

from system import doctor, plugins
from system.bin import main
from system.dependencies import DEPENDENCIES, Dependency, Failure


@pytest.mark.parametrize(
    ("key", "text", "shown"),
    [
        ("global.index-url", "https://index.example/simple", "https://index.example/simple"),
        ("global.index-url", "https://ann:s3cret@pypi.example/simple", "https://***@pypi.example/simple"),
        ("global.index-url", "https://s3cret@pypi.example/simple", "https://***@pypi.example/simple"),
        ("global.index-url", "https://ann:a/b@c@pypi.example/simple", "https://***@pypi.example/simple"),
        ("global.index-url", "https://pypi.example/simple?token=s3cret&x=1", "https://pypi.example/simple?***"),
        ("global.index-url", "https://pypi.example/simple#s3cret", "https://pypi.example/simple?***"),
        ("global.index-url", "https://dl.example/4fJk29sLq8Xy73bTz/org/simple/", "https://dl.example/***/org/simple/"),
        (
            "global.extra-index-url",
            "https://a:s3cret@one.example/simple https://two.example/simple https://b:s3cret@three.example",
            "https://***@one.example/simple https://two.example/simple https://***@three.example",
        ),
        ("global.proxy", "ann:s3cret@proxy.example:8080", "***@proxy.example:8080"),
        ("global.proxy", "http://proxy.example:8080", "http://proxy.example:8080"),
        ("global.find-links", "/srv/wheels", "/srv/wheels"),
        ("WHEELTAPPER_TOKEN", "s3cret", "***"),
        ("WHEELTAPPER_DB_PASSWORD", "s3cret", "***"),
        ("wheeltapper_api_key", "s3cret", "***"),
        ("WHEELTAPPER_CLIENT_SECRET", "s3cret", "***"),
        ("WHEELTAPPER_VENV", "/home/ann/venv", "/home/ann/venv"),
    ],
)
def test_secrets_are_hidden(key, text, shown):
    assert doctor.hide(key, text) == shown


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """pip's settings and variables with secrets in them, from another folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://ann:s3cret@pypi.example/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_PROXY", "http://ann:s3cret@proxy.example:8080")
    monkeypatch.setenv("HTTPS_PROXY", "http://ann:s3cret@proxy.example:8080")
    monkeypatch.setenv("WHEELTAPPER_TOKEN", "s3cret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv(plugins.PLUGINS, "")


def test_what_a_report_of_a_bug_needs(settings, capsys):
    assert main(["doctor", "--quick", "--json"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out)
    assert "s3cret" not in out
    assert found["pip"]["global.index-url"] == "https://***@pypi.example/simple"
    assert found["pip"][":env:.proxy"] == "http://***@proxy.example:8080"
    assert found["variables"]["WHEELTAPPER_TOKEN"] == "***"
    assert found["processor"]["threads"] == 3
    assert found["packages"].keys() == {known.name for known in DEPENDENCIES if not known.developer}
    assert found["packages"]["torch"]["version"].startswith("2.")
    assert found["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert found["disk"].keys() == {"this folder", "experiments", "temporary files"}
    assert found["problems"] == []
    assert main(["doctor", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "s3cret" not in out
    assert "\n  cores for this process: " in out
    assert out.endswith("\nno problem found\n")


def test_json_is_printed_or_written(settings, tmp_path, capsys):
    assert main(["doctor", "--quick", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert main(["doctor", "--quick", "--json", str(tmp_path / "found.json")]) == 0
    assert not capsys.readouterr().out.startswith("{")
    assert json.loads((tmp_path / "found.json").read_text()).keys() == printed.keys()


def test_packages_that_do_not_work_are_named(settings, monkeypatch, capsys):
    failures = [Failure("scipy", "no library", "scipy"), Failure("h5py", "it ends the process by SIGSEGV", "h5py")]
    monkeypatch.setattr(doctor, "failed_probes", lambda python, names: failures)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert any(line.startswith("  numpy ") and line.endswith(" works") for line in lines)
    assert any(line.startswith("  scipy ") and line.endswith(" DOES NOT WORK") for line in lines)
    assert "2 problems:" in lines
    assert "scipy does not work here (no library); run tools/setup.sh" in out
    assert "h5py does not work here (it ends the process by SIGSEGV); run tools/setup.sh" in out


def test_a_missing_package_and_a_plug_in_that_fails(settings, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "DEPENDENCIES", (Dependency("no-such-package", lambda: None),))
    monkeypatch.setenv(plugins.PLUGINS, "no_such_plug_in")
    assert main(["doctor", "--quick", "--json"]) == 1
    first, second = json.loads(capsys.readouterr().out)["problems"]
    assert first == "no-such-package is not installed; run tools/setup.sh, which reinstalls damaged packages"
    assert second.startswith(f"{plugins.PLUGINS}: no_such_plug_in: expected a module on PYTHONPATH")


def test_nothing_but_the_standard_library_is_needed(settings):
    code = (
        "import sys\n"
        "class Damaged:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        known = {*sys.stdlib_module_names, 'system'}\n"
        "        if name.partition('.')[0] not in known: raise ImportError(f'{name} is damaged')\n"
        "sys.meta_path.insert(0, Damaged())\n"
        "from system.bin import main\n"
        "sys.exit(main(['doctor', '--quick']))\n"
    )
    done = doctor._python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no problem found" in done.stdout
    assert Path.cwd().name in done.stdout
