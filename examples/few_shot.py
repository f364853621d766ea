"""Organs of a scan from one labelled scan, without training.

python examples/few_shot.py SCAN LABELLED LABELS [--weights WEIGHTS]
"""

import argparse
from pathlib import Path

import numpy as np

import vox2vec
from vox2vec.matching.neighbours import LabelledVoxels, labels_by_neighbours
from vox2vec.reading.labels import read_labels

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("scan")
parser.add_argument("labelled")
parser.add_argument("labels", type=Path)
parser.add_argument("--weights", default="small")  # ships with the package; "contrastive": the paper's
arguments = parser.parse_args()

backbone = vox2vec.load_backbone(arguments.weights)
scan, labelled = (vox2vec.load_volume(path) for path in (arguments.scan, arguments.labelled))
embeddings = [vox2vec.embed(volume, backbone) for volume in (scan, labelled)]

truth = read_labels(arguments.labels).onto(embeddings[1].grid, order=0, fill=0).image
names = {int(number): f"label {number}" for number in np.unique(truth) if number}
examples = LabelledVoxels.joined([LabelledVoxels.of(embeddings[1], truth, names)])
found = labels_by_neighbours(vox2vec.Index.of(embeddings[0]), examples)
labels = vox2vec.Volume(found, embeddings[0].affine).onto(scan, order=0, fill=0)
labels.save("labels.nii.gz")
for number, name in names.items():
    print(f"{name}: {np.count_nonzero(labels.image == number)} voxels")
