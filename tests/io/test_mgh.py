"""FreeSurfer volumes: the same as nibabel reads."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from imputer.errors import InputError
from imputer.io.dispatch import load, peek
from imputer.modality import Modality

Maker = Callable[..., NDArray[Any]]
AFFINE = np.array([[-0.9, 0, 0.1, 40], [0, -0.2, 1.1, -30], [0.1, -1.2, -0.2, 50], [0, 0, 0, 1]])


@pytest.mark.parametrize("suffix", ["mgz", "mgh"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_voxels_and_places(suffix: str, dtype: Any, tmp_path: Path, make_cube: Maker) -> None:
    array = make_cube((7, 6, 5), np.int32) % 200
    path = tmp_path / f"t1.{suffix}"
    image = nib.MGHImage(array.astype(dtype), AFFINE)
    nib.save(image, path)
    volume, header = load(path), peek(path)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_array_equal(volume.affine, image.header.get_affine())
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-4)
    assert volume.modality is Modality.T1
    assert volume.origin is not None
    assert (volume.origin.format, volume.origin.header) == (suffix, None)
    assert (header.shape, header.format, header.dtype) == ((7, 6, 5), suffix, np.dtype(dtype).name)


def test_what_is_no_volume(tmp_path: Path, make_cube: Maker) -> None:
    path = tmp_path / "t1.mgz"
    nib.save(nib.MGHImage(make_cube((4, 4, 4, 3)), AFFINE), path)
    with pytest.raises(InputError, match="holds 3 volumes"):
        load(path)


def test_truncated_and_boasting(tmp_path: Path, make_cube: Maker) -> None:
    nib.save(nib.MGHImage(make_cube((30, 30, 30)), AFFINE), tmp_path / "t1.mgz")
    whole = (tmp_path / "t1.mgz").read_bytes()
    (tmp_path / "cut.mgz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.mgz is truncated"):
        load(tmp_path / "cut.mgz")
    plain = bytearray(gzip.decompress(whole))
    for claimed in ([10000] * 3, [1000] * 3, [0, 3, 3], [-1, 3, 3]):
        plain[4:16] = np.array(claimed, ">i4").tobytes()
        for name, data in (("much.mgz", gzip.compress(plain)), ("much.mgh", bytes(plain))):
            (tmp_path / name).write_bytes(data)
            with pytest.raises(InputError, match="claims"):
                load(tmp_path / name)
