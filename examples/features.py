"""The features of a scan, and the voxels most like one of them.

python examples/features.py SCAN X Y Z [--weights WEIGHTS]        (X Y Z: RAS+ millimetres)
"""

import argparse

import vox2vec

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("scan")
parser.add_argument("point", nargs=3, type=float)
parser.add_argument("--weights", default="small")  # ships with the package; "contrastive": the paper's
arguments = parser.parse_args()

backbone = vox2vec.load_backbone(arguments.weights)
embedding = vox2vec.embed(arguments.scan, backbone)
embedding.save("features.safetensors")
(vector,) = embedding.at([arguments.point], outside="raise")
print(f"the vector at {arguments.point} mm has {len(vector)} numbers, of {len(embedding.pyramid)} levels")
embedding.similarity(vector).save("similarity.nii.gz")  # open it over the scan, in 3D Slicer or ITK-SNAP
