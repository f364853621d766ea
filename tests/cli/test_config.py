"""`--config FILE.yaml`: the same as the words it stands for, and the command line wins."""

import argparse
from pathlib import Path

import pytest

from vox2vec.cli.config import add_config_argument
from vox2vec.cli.main import main


def _parser():
    """As a command makes it: of its own, below another."""
    parser = argparse.ArgumentParser(prog="vox2vec")
    command = parser.add_subparsers().add_parser("train")
    add_config_argument(command)
    command.add_argument("--log_dir", type=Path, required=True)
    command.add_argument("--lr", type=float, default=1e-4)
    command.add_argument("--objective", choices=("contrastive", "vicreg"), default="contrastive")
    command.add_argument("--scale", nargs=2, type=float, default=(1.0, 1.0))
    command.add_argument("--balance", action="store_true")
    command.add_argument("--channels_last", action=argparse.BooleanOptionalAction, default=True)
    command.add_argument("--data_dir", type=Path, action="append", default=[])
    return parser


def _parsed(tmp_path, text, *words):
    (tmp_path / "run.yaml").write_text(text)
    return _parser().parse_args(["train", "--config", str(tmp_path / "run.yaml"), *words])


FULL = """
log_dir: logs
lr: 3e-3
objective: vicreg
scale: [0.9, 1.1]
balance: true
channels_last: false
data_dir: [a, b]
"""


def test_a_file_is_read_as_if_its_words_were_typed(tmp_path):
    words = [
        "--log_dir",
        "logs",
        "--lr",
        "3e-3",
        "--objective",
        "vicreg",
        "--scale",
        "0.9",
        "1.1",
        "--balance",
        "--no-channels_last",
    ]
    typed = _parser().parse_args(["train", *words, "--no-channels_last", "--data_dir", "a", "--data_dir", "b"])
    read = _parsed(tmp_path, FULL)
    assert vars(read) == {**vars(typed), "config": tmp_path / "run.yaml"}
    assert read.lr == 3e-3


def test_the_command_line_wins_wherever_it_stands(tmp_path):
    read = _parsed(tmp_path, FULL, "--lr", "5", "--scale", "1", "2", "--channels_last", "--data_dir=c")
    assert (read.lr, read.scale, read.channels_last, read.data_dir) == (5.0, [1.0, 2.0], True, [Path("c")])
    assert read.objective == "vicreg"
    first = _parser().parse_args(["train", "--lr", "5", "--config", str(tmp_path / "run.yaml")])
    assert first.lr == 5.0


def test_null_false_and_an_empty_file_change_nothing(tmp_path):
    for text in ("lr: null\nbalance: false\n", "", "# nothing\n"):
        read = _parsed(tmp_path, text, "--log_dir", "x")
        assert (read.lr, read.balance, read.channels_last) == (1e-4, False, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning: 1\nlr: 2", "holds learning, which is no argument of vox2vec train; "),
        ("log_dri: x", "holds log_dri, which is no argument of vox2vec train; near are log_dir"),
        ("no-channels_last: true", "holds no-channels_last, which is no argument"),
        ("config: other.yaml", "holds config, which is no argument"),
        ("balance: 3", "balance must be true or false, got 3"),
        ("lr: true", "lr must be a number, a word, or a list of them, got True"),
        ("lr: [1, 2]", "lr takes one value"),
        ("lr: {a: 1}", "lr must be a number, a word"),
        ("- lr", "must give names and values, such as `batch_size: 8`, got a list"),
        ("lr: [", "must be YAML"),
        ("!!python/object/apply:os.getcwd []", "must be YAML"),
    ],
)
def test_what_the_command_does_not_take_is_refused_by_name(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        _parsed(tmp_path, text)


@pytest.mark.parametrize("text", ["lr: fast", "objective: simclr", "scale: [1]"])
def test_values_go_through_the_parsers_types_and_choices(text, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        _parsed(tmp_path, text, "--log_dir", "x")
    assert left.value.code == 2
    assert f"argument --{text.partition(':')[0]}" in capsys.readouterr().err


def test_what_must_be_given_may_be_given_by_the_file_but_must_be_given(tmp_path, capsys):
    with pytest.raises(SystemExit):
        _parsed(tmp_path, "lr: 1")
    assert "required: --log_dir" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["pretrain", "eval"])
def test_a_command_tells_a_wrong_file_in_one_line(command, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("batchsize: 8")
    words = [command, "--cache_dir", str(tmp_path), "--log_dir", str(tmp_path), "--config"]
    assert main([*words, str(tmp_path / "run.yaml")]) == 2
    assert f"holds batchsize, which is no argument of vox2vec {command}; near are batch_size" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "none.yaml")]) == 2
    assert "No such file" in capsys.readouterr().err
