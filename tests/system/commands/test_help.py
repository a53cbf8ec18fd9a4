"""The help of every command: groups, an example that parses, and one meaning for options of one name."""

import argparse
import contextlib
import io
import re
import shlex
from collections.abc import Iterator

import pytest

from system import bin as commands
from system.bin.parsing import Parser

# (command, option) whose meaning differs from that in the other commands, and why.
EXCEPTIONS = {
    ("reference", "--system"): "a reference system has a name, the systems of a run have numbers",
    ("leaderboard", "--seeds"): "results of runs that differ in their seed, under one name",
    ("launch", "--machines"): "the number of computers, as torchrun has it",
    ("launch", "--processes"): "they are counted on each computer",
}


def parsers_of(command: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The parser of a command, and those of its subcommands."""
    made = {}
    init = Parser.__init__

    def keep(self, *args, **settings):
        init(self, *args, **settings)
        made[self.prog] = self

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(Parser, "__init__", keep)
        with pytest.raises(SystemExit):
            commands.main([command, "--help"])
    name = f"wheeltapper {command}"
    return ((prog, parser) for prog, parser in made.items() if prog == name or prog.startswith(f"{name} "))


ALL = {prog: (command, parser) for command in commands.COMMANDS for prog, parser in parsers_of(command)}


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """All that the help shows, except --help itself and the list of subcommands."""
    return [
        action
        for action in parser._actions
        if action.help is not argparse.SUPPRESS
        and not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    ]


@pytest.mark.parametrize("prog", ALL)
def test_options_stand_in_named_groups(prog):
    _, parser = ALL[prog]
    unnamed = [*parser._optionals._group_actions, *parser._positionals._group_actions]
    assert [action.dest for action in options_of(parser) if action in unnamed] == []
    titles = [group.title for group in parser._action_groups[2:]]
    assert titles
    assert all(titles)


@pytest.mark.parametrize("prog", ALL)
def test_the_example_parses(prog):
    _, parser = ALL[prog]
    example = (parser.epilog or "").partition("Example:\n")[2]
    lines = [shlex.split(line) for line in example.splitlines()]
    assert lines, "no example"
    assert all(line[0] == "wheeltapper" for line in lines)
    assert f"{prog} " in f"{' '.join(lines[-1])} "
    for line in lines:
        _, other = ALL[" ".join(line[:2])]
        found = other.parse_args(line[2:])
        given = [word for word in line[2:] if word.startswith("--") and word != "--"]
        known = {name for _, each in ALL.values() for name in each._option_string_actions}
        assert set(given) <= known  # written out, not abbreviated
        assert found is not None


@pytest.mark.parametrize("prog", ALL)
def test_every_option_has_a_value_name_a_text_and_a_default(prog):
    command, parser = ALL[prog]
    assert parser.description
    for action in options_of(parser):
        assert action.help, action.dest
        if not action.option_strings or action.nargs == 0:
            continue
        assert action.metavar or action.choices, action.option_strings
        if not action.required and action.default not in (None, "", [], ()):
            shown = parser._get_formatter()._expand_help(action)
            assert "default" in shown, f"{command} {action.option_strings}: {shown}"


def meaning(action: argparse.Action) -> str:
    """What stands before the detail or the default."""
    return re.split(r": | \(|; ", action.help)[0]


def test_options_of_one_name_have_one_meaning():
    found: dict[str, dict[str, list[str]]] = {}
    for prog, (command, parser) in ALL.items():
        for action in options_of(parser):
            for name in action.option_strings:
                if (command, name) not in EXCEPTIONS:
                    found.setdefault(name, {}).setdefault(meaning(action), []).append(prog)
    assert {name: meanings for name, meanings in found.items() if len(meanings) > 1} == {}
    assert len(found["--exp"]["experiment folder"]) > 15
    assert len(found["--json"]["json file for the results"]) > 10


def test_exceptions_are_needed():
    for command, name in EXCEPTIONS:
        assert name in ALL[f"wheeltapper {command}"][1]._option_string_actions


@pytest.mark.parametrize(
    ("line", "folders"),
    [
        ("comply exp/a --recompute 2", ["exp/a"]),
        ("comply --recompute 2 exp/a", ["exp/a"]),
        ("comply --exp exp/a", ["exp/a"]),
        ("select exp/a exp/b --out x.yaml", ["exp/a", "exp/b"]),
        ("select --out x.yaml exp/a exp/b", ["exp/a", "exp/b"]),
        ("tune --exp exp/a exp/b --out exp/c", ["exp/a", "exp/b"]),
        ("tune --out exp/c exp/a", ["exp/a"]),
    ],
)
def test_experiment_folders_may_be_given_without_exp(line, folders):
    from system.bin import options

    command, *words = line.split()
    found = options.experiments(ALL[f"wheeltapper {command}"][1].parse_args(words))
    assert list(map(str, found)) == folders


@pytest.mark.parametrize("command", ["comply", "select", "tune"])
def test_a_missing_or_doubled_folder_is_wrong_usage(command, capsys):
    _, parser = ALL[f"wheeltapper {command}"]
    rest = [] if command == "comply" else ["--out", "x.yaml"]
    for words, said in ((rest, "one of the arguments --exp is required"), (["--exp", "a", *rest, "b"], "not allowed")):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(words)
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_a_folder_for_results_is_refused_at_once(tmp_path, capsys, option):
    assert (
        commands.main(["evaluate", "--scores", str(tmp_path / "none"), "--truth", "none.csv", option, str(tmp_path)])
        == 1
    )
    assert f"{option}: expected a file to write, found the folder" in capsys.readouterr().err


def test_two_results_in_one_file_are_refused(tmp_path, capsys):
    same = str(tmp_path / "x")
    assert commands.main(["evaluate", "--scores", "none", "--truth", "none.csv", "--json", same, "--csv", same]) == 1
    assert "expected two files" in capsys.readouterr().err
