"""SimpleITK's ways, with the settings of its notebooks and examples: affine by mutual information, then a B-spline.

Affine (notebook 60, "Registration Introduction"): centred on the scans' boxes, Mattes mutual information of 50 bins,
three levels (shrunk by 4, 2, 1; smoothed by 2, 1, 0 mm) on which 50, 10 and 2 % of the voxels are looked at (1 %
there), scales from the physical shift. Gradient descent by regular steps from 1 down to 1e-4, at most 200 on each
level: by the notebook's plain descent a turned phantom ended 9 to 78 mm off, by this within 1 mm.
B-spline (notebook 65, "FFD"): control points 50, 25 and 12.5 mm apart on those levels, L-BFGS of at most 30 iterations
each (100 there), until 5 of them change the measure by less than a thousandth; by the notebook's accuracy, 0.01 of the
gradient, it stops where it starts. The same mutual information, or the correlation of both scans.
"""

import numpy as np
import SimpleITK as sitk

from benchmarks.registration.answer import Answer, Displacement, on_cubes
from vox2vec.volume import Volume

LPS = np.array([-1.0, -1.0, 1.0])
_SHRINK, _SMOOTH_MM, _REFINE = [4, 2, 1], [2, 1, 0], [1, 2, 4]
_CONTROL_MM = 50.0
_SHARES, _SEED = [0.5, 0.1, 0.02], 1  # of the voxels that are looked at


def affine(fixed: Volume, moving: Volume, spacing_mm: float) -> Answer:
    grid, other = on_cubes(fixed, spacing_mm), on_cubes(moving, spacing_mm)
    return displacement_of(affine_transform(image_of(grid), image_of(other)), grid).answer


def bspline_mutual_information(fixed: Volume, moving: Volume, spacing_mm: float) -> Answer:
    return _bspline(fixed, moving, spacing_mm, correlation=False)


def bspline_correlation(fixed: Volume, moving: Volume, spacing_mm: float) -> Answer:
    return _bspline(fixed, moving, spacing_mm, correlation=True)


def image_of(volume: Volume) -> sitk.Image:
    """In ITK's world, LPS+."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.image.transpose(2, 1, 0)))
    image.SetOrigin((LPS * volume.affine[:3, 3]).tolist())
    image.SetSpacing(volume.spacing_mm)
    image.SetDirection((LPS[:, None] * volume.affine[:3, :3] / volume.spacing_mm).ravel().tolist())
    return image


def affine_transform(fixed: sitk.Image, moving: sitk.Image) -> sitk.AffineTransform:
    """From points of the fixed image to points of the moving one, LPS+."""
    centred = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    transform = sitk.AffineTransform(centred)
    method = _method()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=50)
    method.SetOptimizerAsRegularStepGradientDescent(learningRate=1.0, minStep=1e-4, numberOfIterations=200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)
    return transform


def displacement_of(transform: sitk.Transform, grid: Volume) -> Displacement:
    image = image_of(grid)
    field = sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        image.GetSize(),
        image.GetOrigin(),
        image.GetSpacing(),
        image.GetDirection(),
    )
    return Displacement(grid, sitk.GetArrayFromImage(field).transpose(2, 1, 0, 3) * LPS)


def _bspline(fixed: Volume, moving: Volume, spacing_mm: float, *, correlation: bool) -> Answer:
    grid, other = on_cubes(fixed, spacing_mm), on_cubes(moving, spacing_mm)
    here, there = image_of(grid), image_of(other)
    first = affine_transform(here, there)
    extent_mm = np.array(grid.shape) * spacing_mm
    bspline = sitk.BSplineTransformInitializer(here, np.ceil(extent_mm / _CONTROL_MM).astype(int).tolist(), order=3)
    method = _method()
    if correlation:
        method.SetMetricAsCorrelation()
    else:
        method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=50)
    method.SetOptimizerAsLBFGS2(
        solutionAccuracy=1e-7, numberOfIterations=30, deltaConvergenceDistance=5, deltaConvergenceTolerance=1e-3
    )
    method.SetMovingInitialTransform(first)
    method.SetInitialTransformAsBSpline(bspline, inPlace=True, scaleFactors=_REFINE)
    method.Execute(here, there)
    return displacement_of(sitk.CompositeTransform([first, bspline]), grid).answer  # the last is applied first


def _method() -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel(_SHARES, _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(_SHRINK)
    method.SetSmoothingSigmasPerLevel(_SMOOTH_MM)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method
