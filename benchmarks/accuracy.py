"""How near a point is found again, without any label: in copies of CTs that were changed in known ways.

python -m benchmarks.accuracy BACKBONE ... --scans ../shared/data/labelled/*[!s].nii.gz [--checkpoints last.ckpt]

Each scan, prepared by the backbones' recipe, is turned, bent, cropped, or given other HU; points of the copy's body are
looked for by every backbone, by untrained ones of the same architecture, and by normalised cross-correlation of
intensity patches of several sizes. With `--pair SOURCE TARGET --landmarks CSV` the same on true landmarks, with
`--phantoms SEEDS` on those of synthetic patients, each looked for in each other one, as in `vox2vec demo`.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vox2vec.data.phantom import phantom
from vox2vec.evaluation.finders import Finder, by_correlation, by_features, by_field
from vox2vec.evaluation.landmarks import landmark_errors, landmark_table
from vox2vec.evaluation.table import markdown_head, markdown_row
from vox2vec.geometry import Box
from vox2vec.inference.embed import embed
from vox2vec.matching.deformation import Deformation, draw_deformation, other_scanner
from vox2vec.matching.level_weights import learn_level_weights
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.fresh import fresh_backbone
from vox2vec.nn.heads import ProjectionHead
from vox2vec.nn.pretrained import load_backbone
from vox2vec.preprocessing.body import body_mask
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.reading.load import load_volume
from vox2vec.recipe import Recipe
from vox2vec.volume import Volume

POINTS = 100  # of each copy
RADII_MM = (12.0, 24.0, 36.0)  # of the correlated patches
TISSUES = {
    "lung and gas": (-2000, -400),
    "fat": (-400, -30),
    "soft tissue": (-30, 150),
    "bone and contrast": (150, 4000),
}
CHANGES = ("affine", "elastic", "crop", "noise", "window", "all")
COLUMNS = ("median, mm", "95 %, mm", "within 5 mm", "within 10 mm", "points")


def changed(scan: Volume, change: str, seed: int) -> tuple[Volume, Deformation]:
    """A copy, and the map from its points to the scan's."""
    still = {"rotation_deg": 0.0, "scale": (1.0, 1.0), "elastic_mm": 0.0}
    asked = {"affine": {"elastic_mm": 0.0}, "elastic": {"rotation_deg": 0.0, "scale": (1.0, 1.0)}, "all": {}}
    deformation = draw_deformation(scan, seed, **asked.get(change, still))
    copy = deformation.bent(scan) if change in asked else scan
    rng = np.random.default_rng([seed, 496])
    if change in ("noise", "all"):
        copy = Volume(copy.image + rng.normal(0, 60, copy.shape).astype(np.float32), copy.affine)
    if change in ("window", "all"):
        copy = other_scanner(copy, seed, noise_hu=0)
    if change in ("crop", "all"):
        size = [int(0.6 * n) if axis == 2 else int(0.8 * n) for axis, n in enumerate(copy.shape)]
        x, y, z = (int(rng.integers(0, n - k + 1)) for n, k in zip(copy.shape, size, strict=True))
        copy = copy.crop(Box((x, y, z), (x + size[0], y + size[1], z + size[2])))
    return copy, deformation


def by_projector(backbone: FPN3d, projector: nn.Module) -> Finder:
    """The vectors that the loss compares, of every voxel."""

    @torch.inference_mode()
    def find(scan: Volume, points: np.ndarray, copy: Volume) -> np.ndarray:
        source, target = (embed(volume, backbone, progress=False) for volume in (scan, copy))
        places = target.grid.to_mm(np.argwhere(target.body))
        known = source.at(points)
        queries = F.normalize(projector(known.nan_to_num()), dim=1)
        best = torch.full((len(points),), -torch.inf)
        row = torch.zeros(len(points), dtype=torch.long)
        for start in range(0, len(places), 2**15):
            similar = F.normalize(projector(target.at(places[start : start + 2**15])), dim=1) @ queries.T
            value, at = similar.max(dim=0)
            row = torch.where(value > best, at + start, row)
            best = torch.maximum(best, value)
        return np.where(known.isfinite().all(dim=1)[:, None], places[row], np.nan)

    return find


def projector_of(path: Path) -> nn.Module:
    """In eval mode."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    mine = {name.removeprefix("proj_head."): v for name, v in state.items() if name.startswith("proj_head.")}
    width, dimension = mine["0.weight"].shape[1], [v for v in mine.values() if v.ndim == 2][-1].shape[0]
    projector = ProjectionHead(width, dimension)
    projector.load_state_dict(mine)
    return projector.eval()


def points_of(
    copy: Volume, scan: Volume, deformation: Deformation, recipe: Recipe, seed: int, most: int = POINTS
) -> np.ndarray:
    """At most `most` body voxels of the copy that come from the scan's body."""
    grid = prepare_hu(copy, recipe)
    places = np.random.default_rng([seed, 28]).permutation(np.argwhere(body_mask(grid.image, body_hu=recipe.body_hu)))
    truth = grid.to_mm(places[: 4 * most])
    voxels = np.floor(scan.to_voxels(deformation.source_mm(truth)) + 0.5).astype(int)
    inside = ((voxels >= 0) & (voxels < scan.shape)).all(axis=1)
    body = body_mask(scan.image, body_hu=recipe.body_hu)
    inside[inside] = body[tuple(voxels[inside].T)]
    return truth[inside][:most]


def row(name: str, errors: np.ndarray) -> str:
    """A point that is not found at all counts as farthest."""
    errors = np.nan_to_num(errors, nan=np.inf)
    recall = [f"{(errors <= mm).mean():.0%}" for mm in (5, 10)]
    with np.errstate(invalid="ignore"):
        worst = np.nan_to_num(np.percentile(errors, 95), nan=np.inf)  # NaN between two that were not found
    return markdown_row([name, f"{np.median(errors):.1f}", f"{worst:.1f}", *recall, str(len(errors))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="+", type=Path)
    parser.add_argument("--scans", nargs="*", type=Path, default=[])
    parser.add_argument("--pair", nargs=2, type=Path)
    parser.add_argument(
        "--landmarks", type=Path, help="of the pair, LPS millimetres: x, y, z in the source, x, y, z in the target"
    )
    parser.add_argument("--checkpoints", nargs="*", type=Path, default=[], help="last.ckpt: the projector is tried too")
    parser.add_argument("--learn_from", nargs="*", type=Path, default=[], help="CTs to learn level weights on")
    parser.add_argument("--phantoms", nargs="*", type=int, default=[], help="seeds of patients")
    parser.add_argument("--points", type=int, default=POINTS, help=f"of each copy (default: {POINTS})")
    parser.add_argument("--changes", nargs="*", choices=CHANGES, default=CHANGES, help="of the copies (default: all)")
    parser.add_argument(
        "--radii_mm", nargs="*", type=float, default=RADII_MM, help="of the correlated patches; none: no correlation"
    )
    parser.add_argument("--untrained", type=int, default=1, help="how many seeds of the untrained network")
    arguments = parser.parse_args()
    networks = {path.parent.name or str(path): load_backbone(path) for path in arguments.backbones}
    like = next(iter(networks.values()))
    finders: dict[str, Callable[[], Finder]] = {}
    for seed in range(arguments.untrained):
        finders[f"untrained, seed {seed}"] = lambda seed=seed: by_features(untrained(like, seed))
    finders |= {name: (lambda b=backbone: by_features(b)) for name, backbone in networks.items()}
    for name, backbone in networks.items():
        finders[f"{name}, by the field"] = lambda b=backbone: by_field(b, settle=False)
        finders[f"{name}, by the field, settled by correlation"] = lambda b=backbone: by_field(b)
    finders |= {f"correlation, {r:.0f} mm": (lambda r=r: by_correlation(like.recipe, r)) for r in arguments.radii_mm}
    if arguments.learn_from:
        for name, backbone in networks.items():
            weights = learn_level_weights(backbone, arguments.learn_from)
            print(f"{name}, learned level weights: {np.round(weights, 2).tolist()}", flush=True)
            finders[f"{name}, learned weights"] = lambda b=backbone, w=weights: by_features(b, w)
    for path in arguments.checkpoints:
        backbone, projector = load_backbone(path), projector_of(path)
        finders[f"{path.parent.name}, projector"] = lambda b=backbone, p=projector: by_projector(b, p)
    scans = [prepare_hu(load_volume(path), like.recipe) for path in arguments.scans]
    if scans:
        _without_labels(finders, scans, like.recipe, arguments.points, arguments.changes)
    if arguments.phantoms:
        patients = [phantom(seed, spacing_mm=like.recipe.spacing_mm) for seed in arguments.phantoms]
        fresh = {f"untrained, seed {seed}": untrained(like, seed) for seed in range(arguments.untrained)}
        for line in landmark_table(landmark_errors(patients, fresh | networks, like.recipe), within_mm=10)[1]:
            print(markdown_row(line), flush=True)
    if arguments.pair:
        source, target = (load_volume(path) for path in arguments.pair)
        points, truth = landmarks_of(arguments.landmarks)
        print("\n" + markdown_head(["landmarks", *COLUMNS]))
        for name, make in finders.items():
            print(row(name, np.linalg.norm(make()(source, points, target) - truth, axis=1)), flush=True)


def _without_labels(
    finders: Mapping[str, Callable[[], Finder]], scans: list[Volume], recipe: Recipe, most: int, changes: list[str]
) -> None:
    errors: dict[str, dict[str, list[np.ndarray]]] = {name: {} for name in finders}
    copies = {c: [changed(scan, c, seed) for seed, scan in enumerate(scans)] for c in changes}
    for name, make in finders.items():
        find = make()
        for change in changes:
            for seed, (scan, (copy, deformation)) in enumerate(zip(scans, copies[change], strict=True)):
                truth = points_of(copy, scan, deformation, recipe, seed, most)
                points = deformation.source_mm(truth)
                off = np.linalg.norm(find(scan, points, copy) - truth, axis=1)
                errors[name].setdefault(change, []).append(off)
                if change == "all":
                    hu = scan.image[tuple(np.floor(scan.to_voxels(points) + 0.5).astype(int).T)]
                    for tissue, (low, high) in TISSUES.items():
                        errors[name].setdefault(tissue, []).append(off[(hu >= low) & (hu < high)])
    for part in (*changes, *(TISSUES if "all" in changes else ())):
        print("\n" + markdown_head([part, *COLUMNS]))
        for name in finders:
            print(row(name, np.concatenate(errors[name][part])), flush=True)


def landmarks_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    values = np.loadtxt(path, delimiter=",", skiprows=1, usecols=range(6))
    return values[:, :3] * (-1, -1, 1), values[:, 3:] * (-1, -1, 1)


def untrained(like: FPN3d, seed: int) -> FPN3d:
    """The same architecture and recipe before any training."""
    return fresh_backbone(seed, base_channels=like.base_channels, num_scales=like.num_scales, recipe=like.recipe)


if __name__ == "__main__":
    main()
