"""Prepare CTs for training: `python warmup_cache.py --help`."""

import sys

from vox2vec.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["warmup-cache", *sys.argv[1:]]))
