"""How backbones compare without labels, on CTs that none of them has learned from: to choose how to pre-train by.

python -m benchmarks.choose RUN/backbone.safetensors ... --scans DIR

What pre-training itself watches (`vox2vec.matching.recovery`), of several scans and seeds: points are found
again in a bent, noisy copy of each scan.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.accuracy import untrained
from vox2vec import load_backbone
from vox2vec.data.sources.own import own_data
from vox2vec.evaluation.table import markdown_head, markdown_row
from vox2vec.matching.deformation import bent_pair
from vox2vec.matching.recovery import matching_errors, recall
from vox2vec.preprocessing.prepare import prepare_hu

OVERLAP = 0.25  # of the windows, as while it trains


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="+", type=Path)
    parser.add_argument("--scans", type=Path, required=True, help="a folder, as --data_dir")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    arguments = parser.parse_args()
    networks = {path.parent.name: load_backbone(path) for path in arguments.backbones}
    like = next(iter(networks.values()))
    networks = {"untrained": untrained(like, 0)} | networks
    scans = own_data(arguments.scans)
    pairs = {
        id: [bent_pair(prepare_hu(scans.load(id), like.recipe), seed) for seed in arguments.seeds] for id in scans.ids
    }
    columns = ("backbone", *pairs, "mean of the medians, mm", "found within 5 mm")
    print(markdown_head(columns))
    for name, network in networks.items():
        errors = {
            id: np.concatenate(
                [matching_errors(pair, network, seed=s, overlap=OVERLAP)[0] for s, pair in enumerate(bent)]
            )
            for id, bent in pairs.items()
        }
        medians = {id: float(np.median(e)) for id, e in errors.items()}
        shares = [recall(e) for e in errors.values()]
        cells = [f"{mm:.1f}" for mm in (*medians.values(), np.mean(list(medians.values())))]
        print(markdown_row([name, *cells, f"{np.mean(shares):.1%}"]), flush=True)


if __name__ == "__main__":
    main()
