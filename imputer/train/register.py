"""Rigid alignment of one contrast to another of the same patient (mutual information, SimpleITK).

Patients move between contrasts: up to some millimetres and a degree. Unpaired training does not mind; paired training
and every score do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import SimpleITK as sitk

from imputer.errors import InputError
from imputer.preprocess.regrid import regrid, to_image
from imputer.volume import Volume

SAMPLING_SEED = 20260101  # of the metric's random voxels: the same alignment every time


def align_rigidly(moving: Volume, fixed: Volume, *, search: bool = True, smooth: bool = False) -> Volume:
    """Resample `moving` onto the grid of `fixed`; with `search` after a rigid alignment (Mattes mutual information).

    `smooth` widens voxels of `moving` that are smaller than those of `fixed`, as is done with further sources of a
    model that takes several.

    Both arrays are (I, J, K) float32; the result has the affine of `fixed` and the modality of `moving`. Raises
    InputError where the search fails: fewer than four slices, or volumes that do not overlap.
    """
    return regrid(moving, fixed, alignment(moving, fixed, search=search), smooth=smooth)


def alignment(moving: Volume, fixed: Volume, *, search: bool = True) -> sitk.Transform:
    """Return the rigid transform from places of `fixed` to those of `moving`, LPS mm; the identity without `search`.

    Errors as those of `align_rigidly`.
    """
    unmoved: sitk.Transform = sitk.Transform(3, sitk.sitkIdentity)
    if not search:
        return unmoved
    fixed_image, moving_image = to_image(fixed), to_image(moving)
    found = _rigid_transform(fixed_image, moving_image)
    # With thick slices the search may end worse than where it began.
    is_better = _likeness(fixed_image, moving_image, found) > _likeness(fixed_image, moving_image, unmoved)
    return found if is_better else unmoved


def _rigid_transform(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
    start = sitk.Euler3DTransform()
    centre = fixed.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in fixed.GetSize()])
    start.SetCenter(centre)
    method = _mutual_information()
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel([0.5, 0.2, 0.08], SAMPLING_SEED)
    method.SetOptimizerAsRegularStepGradientDescent(learningRate=1.0, minStep=1e-4, numberOfIterations=150)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 1.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=True)
    try:
        with _one_thread():
            method.Execute(fixed, moving)
    except RuntimeError as error:  # fewer than four slices, or no overlap
        raise InputError(
            "Two volumes of a pair cannot be aligned: they have too few slices or do not overlap.",
            remedy="Train without --register, or leave the case out with --exclude.",
        ) from error
    return start


def _mutual_information() -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=48)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _likeness(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    """Return the mutual information of all voxels under a transform."""
    method = _mutual_information()
    method.SetInitialTransform(transform)
    with _one_thread():
        return -float(method.MetricEvaluate(fixed, moving))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let ITK compute in one thread: the metric's sum over several differs in its last bits from call to call.

    The registration's own SetNumberOfThreads does not reach the metric.
    """
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
