"""Wrong usage and packages that do not work: a line each, with the nearest name or the remedy."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from system import plugins
from system.bin import main, score
from system.dependencies import advice
from system.files import write_json


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scor"], "wheeltapper: unknown command 'scor'; did you mean score? (wheeltapper --help)"),
        (["Evalute", "--exp", "x"], "wheeltapper: unknown command 'Evalute'; did you mean evaluate?"),
        (["download_checkpoint"], "wheeltapper: unknown command 'download_checkpoint'; did you mean download-checkpo"),
        (["xyzzy"], "wheeltapper: unknown command 'xyzzy' (wheeltapper --help)"),
        (["benchmark", "rmsi"], "wheeltapper benchmark: unknown benchmark 'rmsi'; did you mean rmis?"),
        (["--exp", "x", "score"], "wheeltapper: expected a command first, found --exp"),
        (
            ["run", "--exp", "x", "--stgae", "3"],
            "wheeltapper run: unrecognized arguments: --stgae 3; did you mean --st",
        ),
        (["score", "--exp", "x", "--cvs=y", "a.wav"], "unrecognized arguments: --cvs=y; did you mean --csv?"),
        (["adapt", "--exp", "x", "--qqqqqq"], "unrecognized arguments: --qqqqqq (wheeltapper adapt --help)"),
        (["adapt", "--exp", "x", "y"], "unrecognized arguments: y (wheeltapper adapt --help)"),
        (["score", "--exp", "x", "--csv", "y"], "score: --csv: expected new recordings with it, found none"),
        (["score", "--exp", "x", "--machine", "y"], "score: --machine: expected new recordings with it, found none"),
        (["embed", "--exp", "x", "--out", "y"], "embed: --out: expected --audio PATH with it, found none"),
        (["evaluate", "--exp", "x", "--bootstrap", "9"], "--bootstrap: expected --scores DIR with it, found none"),
        (["explain", "--exp", "x", "--encoder", "cnn", "--out", "y"], "--encoder: expected --audio FILE with it"),
        (["study", "--exp", "x", "--out", "y"], "study: --out: expected --combine DIR ... with it, found none"),
        (["tune", "--exp", "x", "--out", "y", "--trials", "0"], "--trials: expected a number from 1 on, found '0'"),
        (["run", "--epx", "x"], "the following arguments are required: --exp; found --epx; did you mean --exp?"),
        (["benchmark", "siren", "--data", "d", "--stroe", "s"], "--stroe s; did you mean --store?"),
        (["run", "--exp", "x", "--data", ""], "--data: expected a text, found an empty one: a variable of the shell"),
        (["run", "--exp=", "--data", "y"], "--exp: expected a text, found an empty one"),
        (["score", "--exp", "x", "a.wav", ""], "wheeltapper: expected a text, found an empty one"),
    ],
)
def test_wrong_usage_is_one_line(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
    assert said in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--exp", "x", "--stage", "3", "--stop-stage", "1"], "--stop-stage: expected at least 3 (--stage), fo"),
        (["study", "--exp", "x", "--stage", "3", "--stop-stage", "1"], "--stop-stage: expected at least 3 (--stage)"),
        (["run", "--exp", "exp", "--stage", "3", "--data", "y"], "--data y: expected stage 0 with it, which reads re"),
        (["evaluate", "--exp", "x", "--scores", "y", "--truth", "z"], "--scores: expected no --exp, --conf and --set"),
        (["embed", "--audio", "x", "--out", "y", "--set", "a=b"], "--conf, --set: expected none with --audio"),
        (["prepare", "x", "--exp", "y"], "prepare: expected SOURCE or --exp, found both, x and y"),
        (["prepare", "x", "--out", "y", "--data", "z"], "--data: expected --exp DIR with it, found none"),
        (["score", "--exp", "x", "y", "--csv", "file/a/b.csv"], "--csv file/a/b.csv: expected a place in a folder"),
        (["score", "--exp", "x", "y", "--json", "sealed/a/b"], "sealed: Permission denied"),
        (["probe", "--data", "a=b", "--json", "link/b"], "--json link/b: expected a place in a folder, found the file"),
    ],
)
def test_useless_combinations_are_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "exp" / "stages" / "0_data.json", {"settings": {"data": "synthetic"}})
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "sealed").mkdir()
    usual = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "sealed" and usual(path, mode))
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_command_help_is_printed(capsys):
    assert main([]) == 2
    out = capsys.readouterr().out
    assert "score" in out
    assert "COMMAND" in out
    assert "VERB" not in out


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Packages of one file in a folder of installed packages: name and code."""
    place = tmp_path / "site-packages"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))

    def make(name: str, code: str) -> str:
        (place / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return make


BROKEN = [
    ("import no_such_thing_at_all", "No module named 'no_such_thing_at_all'"),
    ("raise OSError('sndfile library not found')", "sndfile library not found"),
    ("raise ImportError('libx.so: cannot open\\nshared object')", "libx.so: cannot open"),
    ("def half(", "SyntaxError"),
]


@pytest.mark.parametrize(("code", "reason"), BROKEN)
@pytest.mark.parametrize("where", ["module", "options", "command", "thread", "command with a cause"])
def test_a_package_that_does_not_work_is_one_line(broken, monkeypatch, capsys, where, code, reason):
    name = broken("fragile", code)

    def fail(*_):
        if where == "thread":
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(__import__, name).result()
        if where == "command with a cause":
            try:
                __import__(name)
            except Exception as error:
                raise RuntimeError("no idea") from error
        return __import__(name)

    class Lazy:
        """A command's module whose top fails."""

        def __getattr__(self, _):
            return fail()

    if where == "module":
        monkeypatch.setitem(sys.modules, "system.bin.score", Lazy())
    else:
        monkeypatch.setattr(score, "add_arguments" if where == "options" else "main", fail)
    assert main(["score", *([] if where == "options" else ["--exp", "x"])]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("wheeltapper score: fragile does not work here (")
    assert reason in err
    assert advice("fragile") in err


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(score, "main", lambda args: {}["nothing"])
    with pytest.raises(KeyError):
        main(["score", "--exp", "x"])


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import no_such_thing_at_all",
            "expected a module on PYTHONPATH, found No module named 'no_such_thing_at_all'",
        ),
        ("a = 1\nb = a.nothing", "expected a module that can be imported, found AttributeError: 'int' object has no"),
        ("a = 1\ndef half(", "found SyntaxError: '(' was never closed ("),
        (
            "from system.errors import WheeltapperError\nraise WheeltapperError('the name is taken')",
            "the name is taken",
        ),
    ],
)
def test_a_plug_in_that_fails_is_named_with_its_place(tmp_path, monkeypatch, capsys, code, said):
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(plugins.PLUGINS, "mine no_such_plug_in")
    assert main(["prepare", str(tmp_path), "--out", str(tmp_path / "x.csv")]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"wheeltapper prepare: {plugins.PLUGINS}: mine: ")
    assert said in first
    assert "no_such_plug_in: expected a module on PYTHONPATH" in second
    if "found AttributeError" in first or "SyntaxError" in first:
        assert f"({tmp_path / 'mine.py'}, line 2)" in first
    assert not Path(tmp_path / "x.csv").exists()


def test_a_stage_command_of_a_mistyped_folder_leaves_nothing(tmp_path, capsys):
    assert main(["adapt", "--exp", str(tmp_path / "mistyped")]) == 1
    assert "config.yaml: expected a configuration, found nothing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
