"""What pre-training is worth on labelled CTs that it has not seen, against the same network untrained.

python -m benchmarks.lift --labelled ../shared/data/openkbp/labelled run0/backbone.safetensors run1/backbone.safetensors

Each backbone, and untrained ones of the same architecture (seeds 0, 1, 2), embeds the same patients. Probes are trained
on voxels sampled from the first 1, 4 and 16 patients of a fixed order and judged on all body voxels of the last ones:
mean Dice over patients and structures. Matching finds points in a bent copy of each test patient.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.accuracy import untrained
from vox2vec.data.sources.own import own_data
from vox2vec.evaluation.table import markdown_head, markdown_row
from vox2vec.inference.embed import embed
from vox2vec.matching.deformation import bent_pair
from vox2vec.matching.recovery import matching_errors, recall
from vox2vec.metrics.overlap import dice
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.pretrained import load_backbone
from vox2vec.preprocessing.prepare import prepare_hu

TRAIN_SIZES = (1, 4, 16)
NUM_TEST = 8
NUM_MATCHED = 4  # of the test patients
PER_CLASS, OF_BODY = 1_000, 10_000  # voxels sampled of a patient
STEPS = 300
OVERLAP = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="+", type=Path)
    parser.add_argument("--labelled", type=Path, required=True, help="scans with labels, as --data_dir")
    parser.add_argument("--untrained", type=int, default=3, help="how many seeds of the untrained network")
    arguments = parser.parse_args()
    networks = {str(path): load_backbone(path) for path in arguments.backbones}
    like = next(iter(networks.values()))
    fresh = {f"untrained, seed {seed}": untrained(like, seed) for seed in range(arguments.untrained)}
    data = own_data(arguments.labelled).with_labels_only()
    ids = [data.ids[i] for i in np.random.default_rng(0).permutation(len(data.ids))]
    print(f"train: {ids[: TRAIN_SIZES[-1]]}\ntest: {ids[-NUM_TEST:]}\n")
    heads = [f"{kind}, {size}" for kind in ("linear", "non-linear") for size in TRAIN_SIZES]
    print(markdown_head(["backbone", *heads, "median error", "found within 5 mm"]))
    pairs = [bent_pair(prepare_hu(data.load(id), like.recipe), i) for i, id in enumerate(ids[-NUM_MATCHED:])]
    for name, backbone in (fresh | networks).items():
        backbone.to(memory_format=torch.channels_last_3d)  # faster on a CPU
        cells = [f"{dice:.3f}" for dice in probed(data, ids, backbone)]
        errors = np.stack([matching_errors(pair, backbone, seed=i, overlap=OVERLAP)[0] for i, pair in enumerate(pairs)])
        cells += [f"{np.median(errors):.1f} mm", f"{recall(errors):.1%}"]
        print(markdown_row([name, *cells]), flush=True)


def probed(data, ids: list[str], backbone: FPN3d) -> list[float]:
    """Mean Dice on the test patients, by head and number of training patients."""
    numbers = sorted(data.label_names or _numbers(data, ids))
    sampled = [_sampled(*_read(data, id, backbone), numbers, seed=i) for i, id in enumerate(ids[: TRAIN_SIZES[-1]])]
    trained = []
    for layers in (1, 2):
        for size in TRAIN_SIZES:
            vectors, classes = (torch.cat(parts) for parts in zip(*sampled[:size], strict=True))
            trained.append(_head(vectors, classes, len(numbers) + 1, layers))
    tables: list[list[float]] = [[] for _ in trained]
    for id in ids[-NUM_TEST:]:
        vectors, labels = _read(data, id, backbone)
        for table, head in zip(tables, trained, strict=True):
            with torch.no_grad():
                found = torch.cat([head(chunk).argmax(dim=1) for chunk in vectors.float().split(100_000)]).numpy()
            table += [
                dice((found == i + 1)[:, None, None], (labels == number)[:, None, None])
                for i, number in enumerate(numbers)
            ]
    return [float(np.nanmean(table)) for table in tables]


def _read(data, id: str, backbone: FPN3d) -> tuple[Tensor, np.ndarray]:
    """Vectors (half precision) and labels of all body voxels."""
    embedding = embed(data.load(id), backbone, overlap=OVERLAP, progress=False, compiled=False)
    labels = data.labels(id).onto(embedding.grid, order=0).image
    body = np.argwhere(embedding.body)
    vectors = embedding.at(embedding.grid.to_mm(body))
    known = vectors.isfinite().all(dim=1)
    return vectors[known].half(), labels[tuple(body[known.numpy()].T)]


def _sampled(vectors: Tensor, labels: np.ndarray, numbers: list[int], *, seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(len(labels))[:OF_BODY]]
    rows += [rng.permutation(np.flatnonzero(labels == number))[:PER_CLASS] for number in numbers]
    drawn = np.concatenate(rows)
    classes = np.searchsorted([0, *numbers], labels[drawn]) * np.isin(labels[drawn], numbers)
    return vectors[drawn].float(), torch.from_numpy(classes.astype(np.int64))


def _head(vectors: Tensor, classes: Tensor, num_classes: int, layers: int) -> nn.Module:
    """Standardised vectors, one or two layers, cross-entropy; the same start and order for every backbone."""
    torch.manual_seed(0)
    width = vectors.shape[1]
    mean, scale = vectors.mean(dim=0), vectors.std(dim=0).clamp(min=1e-6)
    hidden = [nn.Linear(width, width), nn.ReLU()] if layers == 2 else []
    network = nn.Sequential(*hidden, nn.Linear(width, num_classes))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    standard = (vectors - mean) / scale
    for _ in range(STEPS):
        rows = torch.randint(len(classes), (8_192,))
        optimizer.zero_grad()
        F.cross_entropy(network(standard[rows]), classes[rows]).backward()
        optimizer.step()
        schedule.step()
    first = network[0]
    with torch.no_grad():  # the standardisation becomes part of the first layer
        first.bias -= first.weight @ (mean / scale)
        first.weight /= scale
    return network


def _numbers(data, ids: list[str]) -> list[int]:
    return sorted({int(n) for id in ids for n in np.unique(data.labels(id).image)} - {0})


if __name__ == "__main__":
    main()
