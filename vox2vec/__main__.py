"""`python -m vox2vec`, the same as the command `vox2vec`."""

import sys

from vox2vec.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
