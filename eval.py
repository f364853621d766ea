"""Probe, fine-tune or train from scratch on labelled CTs: `python eval.py --help`."""

import sys

from vox2vec.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
