"""The cache: a patch against a whole gzip, pairs a second against sampling from all coordinates, and its cost."""

import gzip
import io
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np

from benchmarks.prepare import slow
from benchmarks.timing import seconds_of
from vox2vec.data.cache import Cache, drop
from vox2vec.data.cached_scan import CachedScan
from vox2vec.data.datasets import PairBatches
from vox2vec.data.entry import Entry
from vox2vec.data.sources.own import own_data
from vox2vec.data.sources.phantoms import Phantoms
from vox2vec.data.sources.source import ListedSource
from vox2vec.data.views import MAX_PAIRS, box_around, draw_pair
from vox2vec.geometry import Box
from vox2vec.recipe import PAPER

PHANTOMS = Phantoms(2, spacing_mm=(1.0, 1.0, 2.0))


def rows() -> Iterator[tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        cache, scans = Cache(Path(folder) / "cache"), Path(folder) / "scans"
        scans.mkdir()
        for id in PHANTOMS.ids:
            PHANTOMS.load(id).save(scans / f"{id}.nii.gz")
        source = own_data(scans)
        entries = [cache.store(source, id) for id in source.ids]
        yield from _reading(cache, entries[0])
        yield from _pairs(cache, entries)
        yield _cost(cache, source)
    yield _memory()


def _reading(cache: Cache, entry: Entry) -> Iterator[tuple[str, ...]]:
    image = _whole(cache.open(entry))
    buffer = io.BytesIO()
    np.save(buffer, image)
    zipped = gzip.compress(buffer.getvalue())
    rng = np.random.default_rng(0)

    def patch() -> None:
        scan = cache.open(entry)
        scan.image_hu(_random_box(scan.shape, rng))

    def whole() -> None:
        np.load(io.BytesIO(gzip.decompress(zipped)))

    patches = 20
    patch_s, whole_s = seconds_of(lambda: [patch() for _ in range(patches)], whole)
    size = "x".join(map(str, entry.shape))
    yield (
        f"open and read one 128x128x32 patch of {size}",
        f"{patch_s / patches * 1e3:.2f} ms",
        f"the whole from .npy.gz {whole_s * 1e3:.0f} ms",
        f"{whole_s * patches / patch_s:.0f}x faster",
    )
    sizes = entry.files["image"][0], entry.files["body"][0]
    yield (
        "bytes of a CT, and of its body mask",
        f"{sizes[0] / 1e6:.1f} MB + {sizes[1] / 1e6:.2f} MB",
        f".npy.gz {len(zipped) / 1e6:.1f} MB; int64 coordinates {24 * entry.body_voxels / 1e6:.0f} MB",
        f"{sum(sizes) / len(zipped):.2f} of the gzip",
    )


def _pairs(cache: Cache, entries: list[Entry]) -> Iterator[tuple[str, ...]]:
    scan = cache.open(entries[0])
    image, body = _whole(scan), scan.body(Box((0, 0, 0), scan.shape))
    coordinates = np.argwhere(body)
    rng, number = np.random.default_rng(0), 10

    def ours() -> None:
        for _ in range(number):
            draw_pair(scan, rng)

    def theirs() -> None:
        for _ in range(2):
            pair_from_coordinates(image, coordinates, rng)

    our_s, their_s = seconds_of(ours, theirs)
    our_s, their_s = our_s / number, their_s / 2
    yield (
        "pairs of patches a second, one process",
        f"{1 / our_s:.0f}",
        f"testing all coordinates, image in memory {1 / their_s:.1f}",
        f"{their_s / our_s:.0f}x faster",
    )
    for per_volume in (10, 1):
        batches = PairBatches(cache, entries, seed=0, patches_per_volume=per_volume)
        (batch_s,) = seconds_of(lambda batches=batches: batches[0])
        yield f"the same in batches, {per_volume} of a CT, its opening included", f"{10 / batch_s:.0f}", "", ""


def pair_from_coordinates(image: np.ndarray, coordinates: np.ndarray, rng: np.random.Generator) -> None:
    """As the original: all body voxels' coordinates, tested against both boxes."""
    anchor = coordinates[rng.integers(len(coordinates))]
    shape = image.shape
    boxes = [box_around(anchor, (shape[0], shape[1], shape[2]), PAPER.patch_size, rng) for _ in range(2)]
    patches = [image[box.slices].copy() for box in boxes]
    shifted = [coordinates - box.start for box in boxes]
    inside = np.logical_and.reduce([((s >= 0) & (s < PAPER.patch_size)).all(axis=1) for s in shifted])
    shared = [s[inside] for s in shifted]
    chosen = rng.permutation(len(shared[0]))[:MAX_PAIRS]
    _ = patches, [s[chosen] for s in shared]


def _cost(cache: Cache, source: ListedSource) -> tuple[str, ...]:
    """A CT from its .nii.gz to the cache, against scipy, skimage and .npy.gz files of image and coordinates."""
    id, again = source.ids[0], Cache(cache.folder.with_name("again"))
    stages: dict[str, float] = {}

    def ours() -> None:
        stages.update(again.store(source, id).seconds)
        drop(again.folder, again.key(source, id))

    def theirs() -> None:
        image, body = slow(source.load(id))
        for array in (image, np.argwhere(body)):
            with gzip.open(cache.folder / "slow.npy.gz", "wb", compresslevel=1) as file:
                np.save(file, array)

    our_s, their_s = seconds_of(ours, theirs, rounds=1)
    told = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in stages.items())
    return (
        "warm-up of a CT from its .nii.gz",
        f"{our_s:.2f} s: {told}",
        f"the slow way {their_s:.1f} s",
        (f"{their_s / our_s:.0f}x faster"),
    )


def _memory() -> tuple[str, ...]:
    """Of a fresh process that stores a CT of 512x512x600 read from a .nii.gz, over what it holds before."""
    code = (
        "import sys, tempfile; from pathlib import Path; import torch; from benchmarks.memory import peak_gib\n"
        "from vox2vec.data.cache import Cache; from vox2vec.data.sources.own import own_data\n"
        "torch.set_num_threads(1); folder = Path(tempfile.mkdtemp())\n"
        "before = peak_gib(); source = own_data(Path(sys.argv[1])); Cache(folder).store(source, source.ids[0])\n"
        "print(before, peak_gib())"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii.gz"
        _save_large(path)
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    return (
        "warm-up of 512x512x600, 0.7x0.7x1.25 mm",
        "",
        "",
        f"peak {after:.2f} GiB, the interpreter's {before:.2f} in it",
    )


def _save_large(path: Path) -> None:
    """In a process of its own memory: the phantom repeated upwards to 600 slices."""

    volume = PHANTOMS.load("phantom_0000")
    image = np.resize(volume.image.transpose(2, 0, 1), (600, *volume.shape[:2])).transpose(1, 2, 0)
    image = np.pad(
        image, [(0, 512 - n) if n < 512 else (0, 0) for n in image.shape[:2]] + [(0, 0)], constant_values=-1000
    )
    affine = np.diag([0.7, 0.7, 1.25, 1.0])
    nibabel.save(nibabel.Nifti1Image(image[:512, :512].astype(np.int16), affine), path)


def _whole(scan: CachedScan) -> np.ndarray:
    return scan.image_hu(Box((0, 0, 0), scan.shape))


def _random_box(shape: tuple[int, int, int], rng: np.random.Generator) -> Box:
    x, y, z = (int(rng.integers(0, n - size + 1)) for n, size in zip(shape, PAPER.patch_size, strict=True))
    return Box((x, y, z), (x + PAPER.patch_size[0], y + PAPER.patch_size[1], z + PAPER.patch_size[2]))
