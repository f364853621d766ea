"""`--config FILE.yaml`: the arguments of a command in a file, under the same names; the command line wins."""

import argparse
import difflib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """`--config`, and a parser that reads the file's arguments before those of the command line.

    They are read as if they were typed: by the parser's own types and choices, and whatever must be given may be given
    by the file.
    """
    parser.add_argument(
        "--config",
        metavar="FILE.yaml",
        type=Path,
        help="arguments by name, such as `batch_size: 8`; those of the command line win. Kept as config.yaml",
    )
    parse = parser.parse_known_args

    @functools.wraps(parse)
    def parse_both(args: Any = None, namespace: Any = None, **more: Any) -> Any:
        return parse(with_config(parser, args), namespace, **more)

    parser.parse_known_args = parse_both  # type: ignore[method-assign]


def with_config(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """The words of the file that `--config` names, if any, and then the words themselves.

    Raises:
        ValueError: the file is no mapping of names, or holds a name or a value that the command does not take.
    """
    only = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    only.add_argument("--config", type=Path)
    path = only.parse_known_args(words)[0].config
    if path is None:
        return list(words)
    return [*_words_of(parser, path, words), *words]


def _words_of(parser: argparse.ArgumentParser, path: Path, typed: Sequence[str]) -> list[str]:
    actions = _actions(parser)
    words: list[str] = []
    for name, value in _settings(path).items():
        action = actions.get(str(name))
        if action is None:
            near = difflib.get_close_matches(str(name), actions, n=3)
            told = f"; near are {', '.join(near)}" if near else f"; vox2vec {parser.prog.split()[-1]} --help lists them"
            raise ValueError(f"{path} holds {name}, which is no argument of {parser.prog}{told}")
        repeats = isinstance(action, argparse._AppendAction)
        if not repeats or not any(word.partition("=")[0] in action.option_strings for word in typed):
            words += _typed(str(name), value, action, path)
    return words


def _actions(parser: argparse.ArgumentParser) -> Mapping[str, argparse.Action]:
    """By the name of the flag; `--no-x` is said by `x: false`, and a file names no other."""
    unnamed = ("help", "config")
    return {
        option[2:]: action
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--") and not option.startswith("--no-") and option[2:] not in unnamed
    }


def _settings(path: Path) -> Mapping[Any, Any]:
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be YAML, such as `batch_size: 8`; {' '.join(str(error).split())}") from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must give names and values, such as `batch_size: 8`, got a {type(settings).__name__}")
    return settings


def _typed(name: str, value: Any, action: argparse.Action, path: Path) -> list[str]:
    """One setting as it would be typed; null is left out."""
    if value is None:
        return []
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        if not isinstance(value, bool):
            raise ValueError(f"{path}: {name} must be true or false, got {value!r}")
        off = [f"--no-{name}"] if f"--no-{name}" in action.option_strings else []
        return [f"--{name}"] if value else off
    values = value if isinstance(value, list) else [value]
    if any(isinstance(part, (dict, list, bool)) for part in values):
        raise ValueError(f"{path}: {name} must be a number, a word, or a list of them, got {value!r}")
    if action.nargs is not None:
        return [f"--{name}", *map(str, values)]
    if len(values) != 1 and not isinstance(action, argparse._AppendAction):
        raise ValueError(f"{path}: {name} takes one value, got {value!r}")
    return [f"--{name}={part}" for part in values]
