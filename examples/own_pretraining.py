"""Pre-train a small network on your own scans, and load what it learned.

python examples/own_pretraining.py FOLDER_OF_SCANS [--max_steps N]

The same as `vox2vec warmup-cache --data_dir FOLDER ...` and `vox2vec pretrain ...`.
"""

import argparse
from pathlib import Path

import vox2vec
from vox2vec.data.cache import Cache
from vox2vec.data.sources.own import own_data
from vox2vec.training import pretrain
from vox2vec.training.settings import Method, Network, Schedule, Watch


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", type=Path)
    parser.add_argument("--max_steps", type=int, default=1500)
    arguments = parser.parse_args()

    weights = pretrain(
        Cache(Path("cache"), vox2vec.Recipe(spacing_mm=(4.0, 4.0, 4.0), patch_size=(32, 32, 32))),
        Path("run"),
        sources=[own_data(arguments.scans)],
        network=Network(base_channels=8, num_scales=4),
        method=Method(batch_size=8, patches_per_volume=1),
        schedule=Schedule(lr=1e-3, optimizer="adamw", warmup_steps=50, max_steps=arguments.max_steps),
        watch=Watch(monitor_every=0),
        say=print,
    )
    backbone = vox2vec.load_backbone(weights)
    print(f"{sum(p.numel() for p in backbone.parameters()):,} parameters, for scans of {backbone.recipe.spacing_mm} mm")


if __name__ == "__main__":  # worker processes import this file
    run()
