"""Real CTs through the cache (skipped where ../shared is absent)."""

import numpy as np

from vox2vec.data.cache import Cache, problems_in
from vox2vec.data.datasets import PairBatches
from vox2vec.data.sources.own import own_data
from vox2vec.data.warm_up import warm_up
from vox2vec.geometry import Box
from vox2vec.preprocessing.prepare import prepare_hu
from vox2vec.recipe import Recipe

COARSE = Recipe(spacing_mm=(4, 4, 4), patch_size=(32, 32, 16))


def test_real_scans_of_every_format_are_stored_as_prepared(shared, tmp_path):
    """A zipped DICOM series, MetaImage pairs and labelled NIfTI; labels of the spleen land on the spleen."""
    data = shared / "data"
    sources = [own_data(data / name) for name in ("dicom", "pairs", "labelled")]
    cache = Cache(tmp_path, COARSE)
    report = warm_up(cache, sources, num_workers=2, progress=False)
    assert (report.stored, report.failed) == (sum(len(source.ids) for source in sources), [])
    assert report.stored >= 5
    assert problems_in(tmp_path) == []
    entries = {entry.id: entry for entry in cache.entries()}
    for source in sources:
        for id in source.ids:
            scan = cache.open(entries[id])
            prepared = prepare_hu(source.load(id), COARSE)
            np.testing.assert_array_equal(scan.image_hu(Box((0, 0, 0), scan.shape)), prepared.image.round())
            assert 0.1 < entries[id].body_fraction < 0.95
    batch = PairBatches(cache, list(entries.values()), seed=0, batch_size=len(entries), patches_per_volume=1)[0]
    assert set(batch.ids) == set(entries)


def test_labels_of_a_real_scan_lie_on_their_organs(shared, tmp_path):
    source = own_data(shared / "data" / "labelled")
    cache = Cache(tmp_path, COARSE)
    scan = cache.open(cache.store(source, "LIDC-IDRI-0001", labels=True))
    whole = Box((0, 0, 0), scan.shape)
    labels, hu = scan.labels(whole), scan.image_hu(whole)
    original, scores = source.labels("LIDC-IDRI-0001"), []
    cell_mm3, voxel_mm3 = 64, abs(np.linalg.det(original.affine[:3, :3]))
    for number in np.unique(original.image)[1:]:
        volume = (original.image == number).sum() * voxel_mm3
        if volume > 50_000:
            scores.append((labels == number).sum() * cell_mm3 / volume)
    assert len(scores) >= 10
    np.testing.assert_allclose(scores, 1, atol=0.1)
    assert scan.body(whole)[labels > 0].mean() > 0.995
    assert (hu[labels > 0] > -1024).mean() > 0.99
