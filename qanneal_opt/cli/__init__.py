"""The command ``qanneal-opt``: demo, train, quantize, prune, doctor."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import qanneal_opt.cli.demo as demo
import qanneal_opt.cli.doctor as doctor
import qanneal_opt.cli.prune as prune
import qanneal_opt.cli.quantize as quantize
import qanneal_opt.cli.train as train
from qanneal_opt.cli.console import Parser, UsageError

COMMANDS = (demo, train, quantize, prune, doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 and one clear line on standard error where the input is of no use.

    >>> main(["train", "--data", "nothing.csv"])
    2
    """
    parser = Parser(prog="qanneal-opt", description="Gradient and annealing steps in turn.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="demo | train | quantize | prune | doctor")
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        summary = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        module.add_arguments(command)
        command.add_argument("--json", action="store_true", help="print one JSON object instead of text")
        command.set_defaults(run=module.run)
    try:
        options = parser.parse_args(argv)
    except SystemExit as stop:  # argparse's own way out: 0 after --help, 2 on bad usage
        return int(stop.code or 0)
    try:
        options.run(options)
    except BrokenPipeError:  # the reader of our output went away
        return 0
    except (UsageError, ValueError, ImportError, OSError) as error:
        print(f"qanneal-opt {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0
