"""Pre-train a small network on your own scans, and load what it learned.

python examples/own_pretraining.py FOLDER_OF_SCANS [--max_steps N]

The same as `vox2vec warmup-cache --data_dir FOLDER ...` and `vox2vec pretrain ...`; every option of theirs may follow.
"""

import argparse

import vox2vec
from vox2vec.cli.main import main


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans")
    parser.add_argument("--max_steps", default="1500")
    arguments = parser.parse_args()

    prepared = ["--cache_dir", "cache", "--spacing", "4", "4", "4", "--patch_size", "32", "32", "32"]
    network = ["--base_channels", "8", "--num_scales", "4", "--batch_size", "8", "--patches_per_volume", "1"]
    learning = ["--optimizer", "adamw", "--lr", "1e-3", "--warmup_steps", "50", "--monitor_every", "0"]
    main(["warmup-cache", "--data_dir", arguments.scans, *prepared])
    main(["pretrain", *prepared, *network, *learning, "--log_dir", "run", "--max_steps", arguments.max_steps])
    backbone = vox2vec.load_backbone("run/backbone.safetensors")
    print(f"{sum(p.numel() for p in backbone.parameters()):,} parameters, for scans of {backbone.recipe.spacing_mm} mm")


if __name__ == "__main__":  # worker processes import this file
    run()
