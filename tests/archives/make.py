"""Write the archived files: `PYTHONPATH=CHECKOUT python tests/archives/make.py`, CHECKOUT being at commit d89a263.

The files beside this script are of vox2vec 0.1.0 at that commit: the last one before an embedding kept its body
(format 2). They stay as they are; a later format gets a folder of its own, and a script like this one.
"""

import json
from pathlib import Path

import numpy as np
import torch
from vox2vec.training.results import Results

from vox2vec.data.cache import Cache
from vox2vec.data.sources.phantoms import Phantoms
from vox2vec.inference.embed import embed
from vox2vec.matching.retrieval import PlaceIndex
from vox2vec.nn.checkpoint import save_backbone
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.head_file import SegmentationHead, save_head
from vox2vec.nn.heads import LinearHead, NonLinearHead
from vox2vec.nn.pretrained import fingerprint
from vox2vec.preprocessing.body import body_mask
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume

FOLDER = Path(__file__).parent
RECIPE = Recipe(spacing_mm=(12, 12, 16), patch_size=(8, 8, 8))
EVERY_MM = 48.0
POINTS_MM = [[0.0, 0.0, 0.0], [60.0, 30.0, 40.0], [75.0, -20.0, -100.0]]
AIR_MM = [-130.0, 100.0, 0.0]
HEADS = {"linear": LinearHead, "nonlinear": NonLinearHead}


def main() -> None:
    torch.manual_seed(0)
    backbone = FPN3d(1, base_channels=2, num_scales=3)
    backbone.recipe = RECIPE
    backbone(torch.rand(4, 1, 16, 16, 8))  # so that its statistics are no longer 0 and 1
    backbone.eval()
    weights = fingerprint(backbone)
    save_backbone(backbone, FOLDER / "backbone.safetensors")
    with torch.inference_mode():
        pyramid = backbone(example())
    heads = {}
    for kind, made in HEADS.items():
        head = SegmentationHead(made(2, 3, 2).eval(), {1: "liver", 6: "spleen"}, weights)
        save_head(head, FOLDER / f"head_{kind}.safetensors", base_channels=2, num_scales=3)
        with torch.inference_mode():
            heads[kind] = head.network(pyramid)[0, :, 5, 6, 3].tolist()

    source = Phantoms(count=1, spacing_mm=(16, 16, 16))
    scan = source.load("phantom_0000")
    image = scan.image.copy()
    image[: image.shape[0] // 2, image.shape[1] // 2 :] = -1000  # a quarter of air, so that no window sees a part of it
    scan = Volume(image, scan.affine)
    embedding = embed(scan, backbone, device="cpu", precision="32", compiled=False, progress=False)
    embedding.save(FOLDER / "embedding.safetensors")
    vectors = embedding.at(POINTS_MM)
    index = PlaceIndex(FOLDER / "index", weights, every_mm=EVERY_MM)
    index.add("phantom_0000", embedding, body_mask(prepare_hu(scan, RECIPE).image))
    places = index.search(vectors[1], count=3)

    cache = Cache(FOLDER / "cache", RECIPE)
    scan = source.load("phantom_0000")
    entry = cache.store(source, "phantom_0000", labels=True)
    (FOLDER / "cache" / "writing").rmdir()
    prepared = prepare_hu(scan, RECIPE)
    stored_hu = np.rint(prepared.image).astype(np.int16)
    labels = source.labels("phantom_0000").onto(prepared, order=0, fill=0).image

    results().write(FOLDER / "results.json")
    expected = {
        "fingerprint": weights,
        "recipe": RECIPE.as_dict(),
        "backbone": [level[0, :, 1, 2, 1].tolist() for level in pyramid],
        "heads": heads,
        "embedding": {
            "shape": embedding.shape,
            "affine": embedding.affine.tolist(),
            "points_mm": POINTS_MM,
            "air_mm": AIR_MM,
            "vectors": vectors.tolist(),
            "voxels_with_vector": int(embedding.has_vector().sum()),
        },
        "index": {
            "every_mm": EVERY_MM,
            "vector": vectors[1].tolist(),
            "places": [[place.key, place.point_mm, place.score] for place in places],
        },
        "cache": {
            "key": entry.key,
            "affine": prepared.affine.tolist(),
            "sum_hu": int(stored_hu.sum(dtype=np.int64)),
            "hu_of_middle_row": stored_hu[:, prepared.shape[1] // 2, prepared.shape[2] // 2].tolist(),
            "body_voxels": int(body_mask(stored_hu).sum()),
            "voxels_of_label": {str(n): int((labels == n).sum()) for n in np.unique(labels)},
        },
        "results": {"dice": results().table("linear", "dice")[:2].tolist()},
    }
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def example() -> torch.Tensor:
    """One patch (1, 1, 16, 16, 8) that needs no random numbers."""
    return (torch.arange(16 * 16 * 8, dtype=torch.float32) * 0.37).sin().add(1).div(2).reshape(1, 1, 16, 16, 8)


def results() -> Results:
    """Three patients in two folds; the last one is without a spleen."""

    def scores(dice: float) -> dict[str, float | int]:
        return {
            "dice": dice,
            "dice_original": dice - 0.125,
            "surface_dice_2mm": dice / 2,
            "hausdorff95_mm": 10 - dice,
            "voxels_true": 50,
            "voxels_found": 40,
        }

    absent = dict.fromkeys(scores(0)) | {"voxels_true": 0, "voxels_found": 0}
    folds = {
        "0": {"a": {"liver": scores(0.5), "spleen": scores(0.25)}, "b": {"liver": scores(0.75), "spleen": scores(1)}},
        "1": {"c": {"liver": scores(0.625), "spleen": absent}},
    }
    return Results(
        {"setup": "probing", "train_size": None},
        {"1": "liver", "2": "spleen"},
        {
            fold: {"split": {"train": [], "val": [], "test": list(tested)}, "scores": {"linear": tested}}
            for fold, tested in folds.items()
        },
    )


if __name__ == "__main__":
    main()
