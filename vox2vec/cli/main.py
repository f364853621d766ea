"""The command `vox2vec`: picks the command, and turns errors into one line."""

import argparse
import importlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from vox2vec import __version__

BAD_INPUT = 2
COMMANDS = {  # each in the file of its name, with its line in `vox2vec --help`, which loads none of them
    "demo": "pre-train and probe on synthetic CTs, offline",
    "embed": "features of a whole scan",
    "warmup-cache": "prepare CTs for training",
    "cache": "list, verify or prune a cache",
    "pretrain": "learn voxel vectors from CTs",
    "eval": "segment labelled CTs with a backbone, in folds",
    "compare": "evaluations side by side",
    "segment": "structures of a whole scan",
    "match": "find points of one scan in another",
    "register": "lay one scan onto another",
    "search": "the most similar places in many CTs",
    "position": "where in another scan each slice lies",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code is 0, the command's own, or 2 for bad input, told in one line on stderr."""
    words = sys.argv[1:] if argv is None else list(argv)
    debug = "--debug" in words
    logging.basicConfig(level=logging.INFO if debug else logging.WARNING, format="%(levelname)s: %(message)s")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            arguments = _parser(next((word for word in words if word != "--"), "")).parse_args(words)
            return int(arguments.run(arguments) or 0)
        except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (ValueError, OSError) as error:
            if debug:
                traceback.print_exc()
            print(f"vox2vec: error: {' '.join(str(error).split())}", file=sys.stderr)
            return BAD_INPUT
        except KeyboardInterrupt:
            print("vox2vec: stopped", file=sys.stderr)
            return 130


def _parser(wanted: str) -> argparse.ArgumentParser:
    """All commands by name, the wanted one with its arguments: it alone is loaded."""
    parser = argparse.ArgumentParser(prog="vox2vec", description="A vector for every voxel of a CT.")
    parser.add_argument("--version", action="version", version=f"vox2vec {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, line in COMMANDS.items():
        if name != wanted:
            commands.add_parser(name, help=line)
            continue
        command = importlib.import_module(f"vox2vec.cli.{name.replace('-', '_')}")
        subparser = command.add_parser(commands)
        subparser.add_argument("--debug", action="store_true", help="show log messages, and where an error came from")
        subparser.set_defaults(run=command.run)
    return parser


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"vox2vec: warning: {message}", file=sys.stderr)
