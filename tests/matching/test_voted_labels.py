"""Labels between voxels against each label's own linear interpolation."""

import numpy as np
from scipy.ndimage import map_coordinates

from vox2vec.matching.voted_labels import voted_labels


def test_each_place_has_the_label_whose_mask_is_highest_there():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (6, 5, 7)).astype(np.uint8)
    places = rng.uniform(-0.5, 6.5, (500, 3))
    masks = [map_coordinates((labels == n).astype(float), places.T, order=1, mode="nearest") for n in range(4)]
    ranked = np.sort(masks, axis=0)
    clear = ranked[-1] - ranked[-2] > 1e-9
    assert clear.sum() > 400
    found = voted_labels(labels, places)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[clear], np.argmax(masks, axis=0)[clear])
