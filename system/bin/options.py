"""Command-line options that several commands share: one name means the same thing everywhere."""

import argparse

CONF_HELP = "configuration: a yaml file, or a name such as default.yaml; default: the one saved in the experiment"
SET_HELP = "replace a setting of the configuration; may be given several times"


def add_experiment_arguments(parser: argparse._ActionsContainer, required: bool = True) -> None:
    """Adds --exp, --conf and --set, as run.sh passes them to every stage."""
    group = parser.add_argument_group("experiment")
    group.add_argument("--exp", required=required, metavar="DIR", help="experiment folder, which holds a run")
    add_configuration_arguments(group)


def add_configuration_arguments(parser: argparse._ActionsContainer) -> None:
    """Adds --conf and --set."""
    parser.add_argument("--conf", metavar="YAML", help=CONF_HELP)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=SET_HELP)
