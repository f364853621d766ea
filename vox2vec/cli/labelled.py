"""Former names of what arguments.py holds."""

from vox2vec.cli.arguments import add_labelled as add_labelled_arguments
from vox2vec.cli.arguments import labelled_sets
from vox2vec.data.sources.labelled import read_names

__all__ = ["add_labelled_arguments", "labelled_sets", "read_names"]
