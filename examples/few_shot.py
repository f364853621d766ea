"""Organs of a scan from one labelled scan, without training.

python examples/few_shot.py SCAN LABELLED LABELS [--weights WEIGHTS]
"""

import argparse

import numpy as np

import vox2vec

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("scan")
parser.add_argument("labelled")
parser.add_argument("labels")
parser.add_argument("--weights", default="small")  # ships with the package; "contrastive": the paper's
arguments = parser.parse_args()

backbone = vox2vec.load_backbone(arguments.weights)
labels = vox2vec.segment_by_examples(arguments.scan, [(arguments.labelled, arguments.labels)], backbone)
labels.save("labels.nii.gz")
for number, voxels in zip(*np.unique(labels.image, return_counts=True), strict=True):
    if number:
        print(f"label {number}: {voxels} voxels")
