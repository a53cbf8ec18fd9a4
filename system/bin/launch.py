"""Start a command in several processes: torchrun, with one clear message where a process dies."""

import argparse
import logging
import os
import signal
from pathlib import Path

from system import machine
from system.bin import options, read_options
from system.errors import WheeltapperError
from system.pipeline import session

MODULE = "system.bin"  # what each process runs
COMMANDS = ["pretrain", "adapt", "embed", "run", "benchmark"]  # that share their work between processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    computing = parser.add_argument_group("computing")
    computing.add_argument(
        "--processes",
        type=int,
        required=True,
        metavar="N",
        help="number of processes on each machine, one for each GPU",
    )
    computing.add_argument(
        "--machines", type=int, default=1, metavar="N", help="machines on which this command is started (default: 1)"
    )
    computing.add_argument(
        "--meet", metavar="HOST:PORT", help="with several machines: address of the first one, and any free port"
    )
    computing.add_argument(
        "--run-id",
        default="wheeltapper",
        metavar="TEXT",
        help="name that all machines of this run share (default: %(default)s)",
    )
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        metavar="COMMAND ...",
        help="pretrain, adapt, embed, run or benchmark, and its options",
    )
    options.add_example(
        parser,
        "wheeltapper launch --processes 2 -- pretrain --exp exp/pretrained --conf fisher.yaml",
        "wheeltapper launch --processes 4 -- run --exp exp/mine --conf default.yaml --data recordings",
    )


def main(args: argparse.Namespace) -> int:
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command or args.processes < 1 or args.machines < 1:
        raise WheeltapperError("expected --processes N and a command, both numbers at least 1")
    if command[0] not in COMMANDS:
        raise WheeltapperError(
            f"expected one of {', '.join(COMMANDS)}, which run in several processes, found {command[0]}"
        )
    if args.machines > 1 and not args.meet:
        raise WheeltapperError("--meet: expected HOST:PORT of the first machine where there are several, found nothing")
    read_options(command, command[0])  # wrong ones are said here, once
    level = os.environ.setdefault("LOGLEVEL", "CRITICAL")  # what torchrun has to say about a failure is said below
    os.environ[session.LAUNCHED] = "1"
    if not machine.omp_threads():  # torchrun would give each process a single thread
        os.environ["OMP_NUM_THREADS"] = str(max(1, machine.cores() // args.processes))
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    logging.getLogger("torch.distributed").setLevel(level)
    shape = [f"--nnodes={args.machines}", f"--nproc-per-node={args.processes}"]
    meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint={args.meet}", f"--rdzv-id={args.run_id}"]
    given = [*shape, *(meeting if args.meet else ["--standalone"]), "-m", MODULE, *command]
    try:
        torchrun.run(torchrun.parse_args(given))
    except ChildFailedError as error:
        return _explain(error.failures, args.processes * args.machines, command)
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from error
        raise WheeltapperError(f"{command[0]} was stopped by {error.sigval.name}; {_left(command)}") from error
    except RendezvousError as error:
        raise WheeltapperError(f"--meet {args.meet}: {args.machines} machines did not meet there ({error})") from error
    return 0


def _explain(failures: dict, count: int, command: list[str]) -> int:
    """Says which process died; the exit status where a process has said itself what was wrong."""
    codes = {rank: failure.exitcode for rank, failure in failures.items()}
    killed = [rank for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM]
    ended = [rank for rank, code in codes.items() if code == -signal.SIGTERM]  # as torchrun does with the others
    spoke = [code for code in codes.values() if code > 0 and code != session.LOST]
    if killed or (ended and not spoke):
        rank = (killed or ended)[0]
        pid, name = failures[rank].pid, signal.Signals(-codes[rank]).name
        raise WheeltapperError(
            f"{command[0]}: process {rank} of {count} (pid {pid}) was killed by {name}; {_left(command)}"
        )
    if not spoke:
        found = next(iter(failures.values())).message  # of a process on another machine, or of the network
        message = found["message"] if isinstance(found, dict) else found
        raise WheeltapperError(f"{command[0]}: {message.removeprefix('LostPeer: ')}")
    return max(spoke)


def _left(command: list[str]) -> str:
    """What a command leaves that stops halfway: the state of a training, or what is finished."""
    from system.training.state import STATE, left

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--exp", default="")
    exp = Path(parser.parse_known_args(command)[0].exp)
    states = [exp / "pretrain" / STATE, *exp.glob(f"adapt/*/{STATE}")]
    there = sorted((path for path in states if path.is_file()), key=lambda path: path.stat().st_mtime)
    if there or command[0] == "pretrain":
        return left([*states[:1], *there][-1])
    return "what was finished is kept, the same command goes on"
