"""Pre-train vox2vec: `python pretrain.py --help`."""

import sys

from vox2vec.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
