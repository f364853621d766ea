"""`vox2vec search SCAN --point X Y Z --cache_dir DIR -o OUT`: the most similar places in a cache of many CTs."""

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
from torch.nn import functional as F
from tqdm import tqdm

from vox2vec.cli.prepared import add_weights_arguments, backbone_of
from vox2vec.data.cache import Cache
from vox2vec.figures.retrieval import retrieval_figure
from vox2vec.geometry import Box
from vox2vec.inference.embed import Embedder
from vox2vec.inference.embedding import Embedding
from vox2vec.matching.retrieval import PlaceIndex
from vox2vec.nn.pretrained import fingerprint
from vox2vec.reading.load import load_volume
from vox2vec.volume import Volume


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec search`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "search",
        help="the most similar places in many CTs",
        description="Look for places like one of a scan in all CTs of a cache (`vox2vec warmup-cache`). The first "
        "search embeds the cached CTs and keeps their vectors in an index beside the cache; later ones read it.",
    )
    parser.add_argument("scan", metavar="SCAN", help="the scan that is asked about: .nii.gz, DICOM, ...")
    parser.add_argument(
        "--point", metavar=("X", "Y", "Z"), nargs=3, type=float, required=True, help="the place, RAS+ millimetres"
    )
    parser.add_argument(
        "--radius", metavar="MM", type=float, default=0.0, help="half the box around it that is asked (default: 0)"
    )
    parser.add_argument("--cache_dir", metavar="DIR", type=Path, required=True, help="of the CTs to search")
    parser.add_argument("--no_table", action="store_true", help="the cache was warmed with --no_table")
    parser.add_argument("--index_dir", metavar="DIR", type=Path, help="(default: CACHE_DIR/index)")
    parser.add_argument("--every", metavar="MM", type=float, default=8.0, help="lattice of the index (default: 8)")
    parser.add_argument("--count", metavar="N", type=int, default=10, help="of places (default: 10)")
    parser.add_argument("-o", "--output", required=True, metavar="CSV", type=Path)
    parser.add_argument("--figure", metavar="PNG", type=Path, help="draw the places")
    add_weights_arguments(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Complete the index, search it, write the places, and draw them if asked."""
    for path in (arguments.output, arguments.figure):
        if path is not None and not path.resolve().parent.is_dir():
            raise FileNotFoundError(f"the folder of the output must exist, {path.resolve().parent} does not")
    backbone = backbone_of(arguments.weights)
    cache = Cache(arguments.cache_dir, backbone.recipe, table=not arguments.no_table)
    entries = {entry.key: entry for entry in cache.entries() if cache.holds(entry)}
    if not entries:
        raise ValueError(
            f"{arguments.cache_dir} holds no CT prepared as these weights need it; run vox2vec warmup-cache with "
            f"--spacing {' '.join(f'{s:g}' for s in backbone.recipe.spacing_mm)}"
        )
    volume = load_volume(arguments.scan)
    embedder = Embedder(backbone, device=arguments.device, precision=arguments.precision)
    vector = _vector(embedder(volume), arguments)
    index = PlaceIndex(
        arguments.index_dir or arguments.cache_dir / "index", fingerprint(backbone), every_mm=arguments.every
    )
    missing = [key for key in entries if key not in index]
    for key in tqdm(missing, desc="indexing", unit="CT", disable=None if missing else True):
        try:
            index.add(key, embedder(cache.open(entries[key])))
        except (ValueError, OSError) as error:
            print(f"left out: {entries[key].id}: {error}", file=sys.stderr)
    found = index.search(vector, count=arguments.count, among=set(entries))
    with arguments.output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "id", "x", "y", "z", "score", "path"])
        for place in found:
            entry = entries[place.key]
            numbers = [f"{value:.2f}" for value in place.point_mm]
            writer.writerow([entry.source, entry.id, *numbers, f"{place.score:.4f}", entry.path])
    print(f"{arguments.output}: {len(found)} places in {len({place.key for place in found})} of {len(entries)} CTs")
    if arguments.figure is not None:
        drawn = [(volume, arguments.point, "asked")]
        for place in found[:7]:
            entry = entries[place.key]
            image = cache.open(entry).image_hu(Box((0, 0, 0), entry.shape))
            drawn.append((Volume(image, np.array(entry.affine)), place.point_mm, f"{entry.id}: {place.score:.2f}"))
        retrieval_figure(drawn, title="The most similar places").savefig(arguments.figure)
        print(arguments.figure)


def _vector(embedding: Embedding, arguments: argparse.Namespace) -> Any:
    """Of the point, or the mean direction of the box around it."""
    if arguments.radius == 0:
        return embedding.at([arguments.point], outside="raise")[0]
    spacing = embedding.grid.spacing_mm
    steps = [np.arange(-arguments.radius, arguments.radius + 1e-6, s) for s in spacing]
    around = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3) + np.array(arguments.point)
    vectors = embedding.at(around)
    known = vectors.isfinite().all(dim=1)
    if not bool(known.any()):
        raise ValueError(f"the box around {arguments.point} must hold body, none of its voxels has a vector")
    return F.normalize(vectors[known], dim=1).mean(dim=0)
