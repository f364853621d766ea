"""`vox2vec search SCAN --point X Y Z --cache_dir DIR -o OUT`: the most similar places in a cache of many CTs."""

import argparse
import sys
from pathlib import Path
from typing import Any

from vox2vec.cli.arguments import (
    PICTURES,
    add_device,
    add_output,
    add_scan,
    add_weights,
    backbone_of,
    checked_output,
)
from vox2vec.data.cache import Cache
from vox2vec.data.entry import Entry
from vox2vec.figures.retrieval import retrieval_figure
from vox2vec.inference.embed import Embedder
from vox2vec.matching.retrieval import Place, PlaceIndex, write_places
from vox2vec.reading.load import load_volume
from vox2vec.volume import Volume


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The arguments of `vox2vec search`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "search",
        description="Look for places like one of a scan in all CTs of a cache (`vox2vec warmup-cache`). The first "
        "search embeds the cached CTs and keeps their vectors in an index beside the cache; later ones read it.",
    )
    add_scan(parser, help="the scan that is asked about")
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
    add_output(parser, metavar="CSV")
    parser.add_argument("--figure", metavar="PNG", type=Path, help="draw the places")
    add_weights(parser)
    add_device(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Complete the index, search it, write the places, and draw them if asked."""
    _check(arguments)
    backbone = backbone_of(arguments.weights)
    cache = Cache(arguments.cache_dir, backbone.recipe, table=not arguments.no_table)
    entries = _entries(cache)
    embedder = Embedder(backbone, device=arguments.device, precision=arguments.precision)
    volume = load_volume(arguments.scan, series=arguments.series)
    vector = embedder(volume).around(arguments.point, arguments.radius)
    index = PlaceIndex(arguments.index_dir or cache.folder / "index", embedder.fingerprint, every_mm=arguments.every)
    for key, reason in index.fill(entries, lambda key: cache.open(entries[key]), embedder).items():
        print(f"left out: {entries[key].id}: {reason}", file=sys.stderr)
    places = index.search(vector, count=arguments.count, among=set(entries))
    write_places(places, arguments.output, entries)
    print(f"{arguments.output}: {len(places)} places in {len({p.key for p in places})} of {len(entries)} CTs")
    if arguments.figure is not None:
        drawn = [(volume, arguments.point, "asked"), *(_drawn(cache, entries[p.key], p) for p in places[:7])]
        retrieval_figure(drawn, title="The most similar places").savefig(arguments.figure)
        print(arguments.figure)


def _check(arguments: argparse.Namespace) -> None:
    read = [arguments.scan, arguments.cache_dir / "scans", arguments.weights]
    checked_output(arguments.output, suffixes=[".csv"], inputs=read)
    if arguments.figure is not None:
        checked_output(arguments.figure, suffixes=PICTURES, inputs=read)


def _entries(cache: Cache) -> dict[str, Entry]:
    entries = {entry.key: entry for entry in cache.entries()}
    if not entries:
        raise ValueError(
            f"{cache.folder} holds no CT prepared as these weights need it; run vox2vec warmup-cache with "
            f"--spacing {' '.join(f'{s:g}' for s in cache.recipe.spacing_mm)}"
        )
    return entries


def _drawn(cache: Cache, entry: Entry, place: Place) -> tuple[Volume, tuple[float, float, float], str]:
    volume, _ = cache.open(entry).prepared()
    return volume, place.point_mm, f"{entry.id}: {place.score:.2f}"
