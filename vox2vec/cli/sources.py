"""Former names of what arguments.py holds."""

from vox2vec.cli.arguments import add_cache as add_cache_arguments
from vox2vec.cli.arguments import add_sources as add_source_arguments
from vox2vec.cli.arguments import cache_of, names_data, sources_of

__all__ = ["add_cache_arguments", "add_source_arguments", "cache_of", "names_data", "sources_of"]
