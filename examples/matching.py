"""Follow a place from one scan to another, and see whether the match can be trusted.

python examples/matching.py BASELINE FOLLOWUP X Y Z [--weights WEIGHTS]        (X Y Z: RAS+ millimetres in BASELINE)
"""

import argparse

import vox2vec
from vox2vec.figures.matching import match_figure

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("baseline")
parser.add_argument("followup")
parser.add_argument("point", nargs=3, type=float)
parser.add_argument("--weights", default="small")  # ships with the package; "contrastive": the paper's
arguments = parser.parse_args()

backbone = vox2vec.load_backbone(arguments.weights)
volumes = [vox2vec.load_volume(path) for path in (arguments.baseline, arguments.followup)]
source, target = (vox2vec.embed(volume, backbone) for volume in volumes)
found = vox2vec.match(source, [arguments.point], target)
print(f"{found.status[0]}: {found.points_mm[0].round(1).tolist()} mm, similarity {found.score[0]:.2f}")
print(
    f"looked for back, it ends {found.back_mm[0]:.1f} mm from the point: {'mutual' if found.mutual[0] else 'doubtful'}"
)
(vector,) = source.at([arguments.point], outside="raise")
match_figure(
    volumes[0], arguments.point, volumes[1], found.points_mm[0], target.similarity(vector), title="The same place"
).savefig("match.png")
