"""Axes turned to RAS+ without touching a voxel's value."""

from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from vox2vec.volume import Volume


def canonical(volume: Volume) -> Volume:
    """The same voxels with axes flipped and permuted so that they point closest to right, anterior, superior.

    An oblique volume stays oblique: its axes point closest to, not along, the patient's. The image is a view.
    """
    orientation = io_orientation(volume.affine)
    image = apply_orientation(volume.image, orientation)
    return Volume(image, volume.affine @ inv_ornt_aff(orientation, volume.shape))
