"""elastix by `itk-elastix`: its default parameter maps, and those of the model zoo for lungs, Par0011.

Default: "translation", "affine" and "bspline" one after the other, as `GetDefaultParameterMap` gives them: mutual
information (the last with bending energy), 4 resolutions of 256 iterations, 2,048 samples, control points 10 mm apart.
Par0011 (Staring et al., "Pulmonary image registration with elastix using a standard intensity-based algorithm",
EMPIRE10, 2010): normalised correlation, 5 resolutions; affine and a B-spline of 10 mm of 1,000 iterations each, then
one of 5 mm of 2,000; 2,000 samples; bending energy weighs 0.05. Without its lung masks and their preprocessing.
"""

from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory

import itk
import numpy as np
from itk import elastix_registration_method, transformix_deformation_field

from benchmarks.registration.answer import Answer, Displacement, on_cubes
from vox2vec.volume import Volume

LPS = np.array([-1.0, -1.0, 1.0])
_COMMON = {
    "FixedImagePyramid": ["FixedRecursiveImagePyramid"],
    "MovingImagePyramid": ["MovingRecursiveImagePyramid"],
    "NumberOfResolutions": ["5"],
    "Interpolator": ["LinearInterpolator"],
    "ResampleInterpolator": ["FinalBSplineInterpolator"],
    "Resampler": ["DefaultResampler"],
    "Optimizer": ["AdaptiveStochasticGradientDescent"],
    "AutomaticParameterEstimation": ["true"],
    "ImageSampler": ["RandomCoordinate"],
    "NumberOfSpatialSamples": ["2000"],
    "NewSamplesEveryIteration": ["true"],
    "MaximumNumberOfSamplingAttempts": ["50"],
    "HowToCombineTransforms": ["Compose"],
}
_BENDING = {
    "Registration": ["MultiMetricMultiResolutionRegistration"],
    "Metric": ["AdvancedNormalizedCorrelation", "TransformBendingEnergyPenalty"],
    "Transform": ["BSplineTransform"],
    "UseRelativeWeights": ["true"],
    "Metric0RelativeWeight": ["1.0"],
    "Metric1RelativeWeight": ["0.05"],
}
PAR0011 = (
    {
        **_COMMON,
        "Registration": ["MultiResolutionRegistration"],
        "Metric": ["AdvancedNormalizedCorrelation"],
        "Transform": ["AffineTransform"],
        "AutomaticScalesEstimation": ["true"],
        "AutomaticTransformInitialization": ["true"],
        "ImagePyramidSchedule": [str(n) for n in (16, 8, 4, 2, 1) for _ in range(3)],
        "MaximumNumberOfIterations": ["1000"],
    },
    {
        **_COMMON,
        **_BENDING,
        "ImagePyramidSchedule": [str(n) for n in (16, 8, 4, 2, 1) for _ in range(3)],
        "FinalGridSpacingInPhysicalUnits": ["10.0"],
        "GridSpacingSchedule": ["8.0", "8.0", "4.0", "2.0", "1.0"],
        "MaximumNumberOfIterations": ["1000"],
    },
    {
        **_COMMON,
        **_BENDING,
        "ImagePyramidSchedule": [str(n) for n in (4, 3, 2, 1, 1) for _ in range(3)],
        "FinalGridSpacingInPhysicalUnits": ["5.0"],
        "GridSpacingSchedule": ["16.0", "8.0", "4.0", "2.0", "1.0"],
        "MaximumNumberOfIterations": ["2000"],
    },
)


def default(fixed: Volume, moving: Volume, spacing_mm: float) -> Answer:
    maps = [itk.ParameterObject.New().GetDefaultParameterMap(name) for name in ("translation", "affine", "bspline")]
    return _registered(fixed, moving, spacing_mm, maps)


def par0011(fixed: Volume, moving: Volume, spacing_mm: float) -> Answer:
    return _registered(fixed, moving, spacing_mm, PAR0011)


def _registered(
    fixed: Volume, moving: Volume, spacing_mm: float, maps: Sequence[Mapping[str, Sequence[str]]]
) -> Answer:
    grid, other = on_cubes(fixed, spacing_mm), on_cubes(moving, spacing_mm)
    parameters = itk.ParameterObject.New()
    for one in maps:
        parameters.AddParameterMap({**one, "WriteResultImage": ["false"]})
    there = _image_of(other)
    _, found = elastix_registration_method(_image_of(grid), there, parameter_object=parameters, log_to_console=False)
    with TemporaryDirectory() as folder:  # transformix writes a file
        field = itk.array_from_image(transformix_deformation_field(there, found, output_directory=folder))
    return Displacement(grid, field.transpose(2, 1, 0, 3) * LPS).answer


def _image_of(volume: Volume) -> itk.Image:
    """In ITK's world, LPS+."""
    image = itk.image_from_array(np.ascontiguousarray(volume.image.transpose(2, 1, 0)))
    image.SetOrigin((LPS * volume.affine[:3, 3]).tolist())
    image.SetSpacing(list(volume.spacing_mm))
    image.SetDirection(itk.matrix_from_array(LPS[:, None] * volume.affine[:3, :3] / volume.spacing_mm))
    return image
