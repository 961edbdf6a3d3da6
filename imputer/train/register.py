"""Rigid alignment of one contrast to another of the same patient (mutual information, SimpleITK).

Patients move between contrasts: up to some millimetres and a degree. Unpaired training does not mind; paired training
and every score do.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from imputer.volume import Volume

LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0])  # ITK's world axes against ours

SAMPLING_SEED = 20260101  # of the metric's random voxels: the same alignment every time


def align_rigidly(moving: Volume, fixed: Volume, *, search: bool = True) -> Volume:
    """Resample `moving` onto the grid of `fixed`; with `search` after a rigid alignment (Mattes mutual information).

    Both arrays are (I, J, K) float32; the result has the affine of `fixed` and the modality of `moving`.
    """
    fixed_image, moving_image = to_image(fixed), to_image(moving)
    transform: sitk.Transform = sitk.Transform(3, sitk.sitkIdentity)
    if search:
        transform = _rigid_transform(fixed_image, moving_image)
    resampled = sitk.Resample(moving_image, fixed_image, transform, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    return fixed.with_array(sitk.GetArrayFromImage(resampled).T, modality=moving.modality)


def to_image(volume: Volume) -> sitk.Image:
    """Return the volume as an ITK image in LPS millimetres; the axes of its affine must be orthogonal."""
    image = sitk.GetImageFromArray(volume.array.T)
    spacing = np.array(volume.spacing)
    direction = LPS_OF_RAS @ (volume.affine[:3, :3] / spacing)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin((LPS_OF_RAS @ volume.affine[:3, 3]).tolist())
    image.SetDirection(direction.ravel().tolist())
    return image


def _rigid_transform(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
    start = sitk.Euler3DTransform()
    centre = fixed.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in fixed.GetSize()])
    start.SetCenter(centre)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=48)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.08, SAMPLING_SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(learningRate=1.0, minStep=1e-4, numberOfIterations=150)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 1.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=True)
    method.SetNumberOfThreads(1)  # the sum over threads is not deterministic
    method.Execute(sitk.Cast(fixed, sitk.sitkFloat32), sitk.Cast(moving, sitk.sitkFloat32))
    return start
