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
COMMANDS = {
    "demo": "vox2vec.cli.demo",
    "embed": "vox2vec.cli.embed",
    "warmup-cache": "vox2vec.cli.warmup_cache",
    "cache": "vox2vec.cli.cache",
    "pretrain": "vox2vec.cli.pretrain",
    "eval": "vox2vec.cli.eval",
    "compare": "vox2vec.cli.compare",
    "segment": "vox2vec.cli.segment",
    "match": "vox2vec.cli.match",
    "search": "vox2vec.cli.search",
    "position": "vox2vec.cli.position",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code is 0, the command's own, or 2 for bad input, told in one line on stderr."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        arguments = _parser(words[0] if words else "").parse_args(words)
    except (ValueError, OSError) as error:  # of the file of --config
        return _refused(error)
    logging.basicConfig(level=logging.INFO if arguments.debug else logging.WARNING, format="%(levelname)s: %(message)s")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return int(arguments.run(arguments) or 0)
        except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (ValueError, OSError) as error:
            if arguments.debug:
                traceback.print_exc()
            return _refused(error)
        except KeyboardInterrupt:
            print("vox2vec: stopped", file=sys.stderr)
            return 130


def _parser(wanted: str) -> argparse.ArgumentParser:
    """Of the wanted command alone, or of all where it is none: a command loads only what it needs."""
    parser = argparse.ArgumentParser(prog="vox2vec", description="A vector for every voxel of a CT.")
    parser.add_argument("--version", action="version", version=f"vox2vec {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in [wanted] if wanted in COMMANDS else COMMANDS:
        command = importlib.import_module(COMMANDS[name])
        subparser = command.add_parser(commands)
        subparser.add_argument("--debug", action="store_true", help="show log messages, and where an error came from")
        subparser.set_defaults(run=command.run)
    return parser


def _refused(error: Exception) -> int:
    print(f"vox2vec: error: {' '.join(str(error).split())}", file=sys.stderr)
    return BAD_INPUT


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"vox2vec: warning: {message}", file=sys.stderr)
