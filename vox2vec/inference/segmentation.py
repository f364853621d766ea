"""Class probabilities of a whole scan from overlapping windows, slab by slab, and labels on the scan's own grid."""

import copy
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Bool, Float32, Integer, Shaped
from torch import nn
from tqdm import tqdm

from vox2vec.inference.blending import Blender
from vox2vec.inference.runner import Precision, Runner, backbone_runner
from vox2vec.inference.windows import Windows, batches, patches_at
from vox2vec.nn.device import pick_device
from vox2vec.nn.fpn import FPN3d
from vox2vec.nn.head_file import SegmentationHead, check_backbone
from vox2vec.preprocessing.body import body_mask
from vox2vec.preprocessing.intensity import scale_hu
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.volume import Volume

THRESHOLD = 0.5
_BATCH = 2  # windows a forward pass; alone in one thread, torch takes a convolution five times slower


def probability_slabs(
    image_hu: Shaped[np.ndarray, "x y z"],
    body: Bool[np.ndarray, "x y z"],
    backbone: FPN3d,
    heads: Sequence[nn.Module],
    *,
    overlap: float = 0.5,
    run: Runner | None = None,
    progress: bool = False,
) -> Iterator[tuple[slice, list[Float32[np.ndarray, "_ x y _"]]]]:
    """Each head's sigmoid probabilities, averaged by a smooth weight over the windows of a voxel; 0 off the body.

    Slabs of slices come in order, as soon as no window touches them any more; slabs without body are left out. The
    backbone runs once for all heads, on their device, in the modes the networks are in. Memory: the classes on as
    many slices as a window has.

    Args:
        image_hu: a scan on the grid of `backbone.recipe`, such as a cached one.
        heads: each takes a pyramid (n, c, x, y, z) and gives logits (n, classes, x, y, z).
        run: the backbone as it runs, such as `backbone_runner` gives it.

    Raises:
        ValueError: there is no body.
    """
    if not body.any():
        raise ValueError("a scan must hold a body to be segmented, its mask is empty")
    windows = Windows.over(body.shape, backbone.recipe.patch_size, overlap=overlap)
    padded = torch.from_numpy(windows.padded(scale_hu(image_hu, backbone.recipe.window_hu)))
    device = next(heads[0].parameters()).device
    starts = windows.holding(body)
    ones = [1] * len(heads)
    blender = Blender(windows, starts, native=ones, strides=[(1, 1, 1) for _ in heads], channels_last=False)

    def finished(z: int) -> Iterator[tuple[slice, list[np.ndarray]]]:
        maps = [(place, values.numpy() * body[:, :, place]) for _, place, values in blender.before(z)]
        if maps:
            yield maps[0][0], [values for _, values in maps]

    bar = tqdm(total=len(starts), desc="segmenting", unit="window", disable=not progress)
    for first, group in groupby(starts, key=lambda start: start[2]):
        yield from finished(first)
        for batch in batches(list(group), _BATCH):
            with torch.inference_mode():
                pyramid = [level.float() for level in (run or backbone)(patches_at(padded, batch, windows).to(device))]
                found = [head(pyramid).sigmoid() for head in heads]
            for i, start in enumerate(batch):
                blender.add(start, [classes[i] for classes in found])
            bar.update(len(batch))
    bar.close()
    yield from finished(body.shape[2])


def labels_of(probabilities: Float32[np.ndarray, "c x y z"], numbers: Sequence[int]) -> Integer[np.ndarray, "x y z"]:
    """The number of the likeliest class where its probability is at least 0.5, else 0."""
    likeliest = probabilities.argmax(axis=0)
    certain = np.take_along_axis(probabilities, likeliest[None], axis=0)[0] >= THRESHOLD
    return np.where(certain, np.array(numbers, label_dtype(numbers))[likeliest], 0)


def label_dtype(numbers: Sequence[int]) -> type[np.generic]:
    """uint8 where it holds all numbers, else int16."""
    return np.uint8 if max(numbers) < 256 else np.int16


def segment(
    volume: Volume,
    backbone: FPN3d,
    head: SegmentationHead,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    overlap: float = 0.5,
    progress: bool = True,
) -> Volume:
    """The structures of a scan as labels on its own grid, with its affine.

    Memory stays bounded by slabs: 117 classes of a 512x512x600 CT take less than 8 GB.

    Args:
        volume: a scan in HU, any orientation.
        head: as trained on this backbone's features; its `label_names` say what the numbers mean.
        device, precision, overlap: as of `embed`.

    Returns:
        uint8, or int16 where numbers exceed 255; 0 is none of the structures.

    Raises:
        ValueError: the head belongs to another backbone, or the scan holds NaN or no body.
    """
    check_backbone(head, backbone)
    recipe, numbers = backbone.recipe, list(head.label_names)
    scan = prepare_hu(volume, recipe)
    body = body_mask(scan.image, body_hu=recipe.body_hu)
    where = pick_device(device)
    size = tuple(min(n, m) for n, m in zip(scan.shape, recipe.patch_size, strict=True))
    corner = [(n - m) // 2 for n, m in zip(scan.shape, size, strict=True)]
    middle = scan.image[tuple(slice(c, c + m) for c, m in zip(corner, size, strict=True))]
    sample = torch.from_numpy(scale_hu(middle, recipe.window_hu))[None, None]
    run = backbone_runner(backbone, sample, device=where, precision=precision)
    network = copy.deepcopy(head.network).to(where).eval()
    labels = np.zeros(scan.shape, label_dtype(numbers))
    slabs = probability_slabs(scan.image, body, backbone, [network], overlap=overlap, run=run, progress=progress)
    for place, (classes,) in slabs:
        labels[..., place] = labels_of(classes, numbers)
    return Volume(labels, scan.affine).onto(volume, order=0, fill=0)
