"""Mosaics: readable PNG files, true proportions, right side on the left."""

import numpy as np
import pytest
from PIL import Image

from imputer.errors import OutputError, UsageError
from imputer.modality import Modality
from imputer.phantom import make_head
from imputer.report.figures import middle_cut, mosaic
from imputer.volume import Volume


def box(axes_signs=(1, 1, 1), shape=(20, 24, 10), spacing=(2.0, 2.0, 4.0), fill=0.0):
    affine = np.diag([*(sign * step for sign, step in zip(axes_signs, spacing, strict=True)), 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Volume(np.full(shape, fill, np.float32), affine)


def read(path):
    """Pixels (H, W) and the texts of a PNG file."""
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        return np.asarray(picture), picture.text


def bright_at(volume, ras):
    """The volume with the octant on that side of the centre set to 1."""
    index = np.indices(volume.shape).reshape(3, -1)
    world = (volume.affine[:3, :3] @ index).T + volume.affine[:3, 3]
    array = np.all(world * np.array(ras) >= 0, axis=1).reshape(volume.shape)
    return volume.with_array(array.astype(np.float32))


def quarter(cut):
    """Where a cut is bright: (top or bottom, left or right)."""
    rows, columns = np.nonzero(cut > 0.5)
    return (
        "top" if rows.mean() < (cut.shape[0] - 1) / 2 else "bottom",
        "left" if columns.mean() < (cut.shape[1] - 1) / 2 else "right",
    )


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_cuts_are_in_radiological_convention_whatever_the_axes(signs, order):
    volume = bright_at(box(signs), (1, 1, 1))  # right, anterior, superior
    affine = volume.affine.copy()
    affine[:3, :3] = affine[:3, list(order)]
    volume = Volume(volume.array.transpose(order), affine)
    for plane, size in (("axial", (48, 40)), ("coronal", (40, 40)), ("sagittal", (40, 48))):
        cut, extent = middle_cut(_through_all_slices(volume, plane), plane)
        assert quarter(cut) == ("top", "left")
        assert extent == pytest.approx(size)


def _through_all_slices(volume, plane):
    """The octant drawn out along the axis that is cut, so that the middle slice hits it."""
    world = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    axis = int(np.abs(volume.affine[world, :3]).argmax())
    return volume.with_array(np.broadcast_to(volume.array.max(axis=axis, keepdims=True), volume.shape))


def test_window_runs_from_zero_to_the_percentile():
    volume = box()
    array = np.full(volume.shape, 50.0, np.float32)
    array[:10] = -20
    array[0, 0, 0] = 1e6  # a single hot voxel does not darken the rest
    cut, _ = middle_cut(volume.with_array(array), "axial")
    assert set(np.unique(cut)) == {0.0, 1.0}


def test_voxels_that_are_not_finite_are_black():
    volume = box(fill=10.0)
    array = volume.array.copy()
    array[:10] = np.nan
    array[10] = np.inf
    cut, _ = middle_cut(volume.with_array(array), "axial")
    assert np.isfinite(cut).all()
    assert (cut == 0).any()
    assert (cut == 1).any()


def test_an_empty_volume_is_black():
    cut, _ = middle_cut(box(), "coronal")
    assert not cut.any()


def test_png_shows_true_proportions_for_thick_slices(tmp_path):
    # 200 x 100 mm of 0.5 mm pixels and 50 slices of 4 mm: a coronal cut of 200 x 200 mm.
    volume = box(shape=(400, 200, 50), spacing=(0.5, 0.5, 4.0), fill=1.0)
    path = tmp_path / "cut.png"
    mosaic([("T1", volume)], path, planes=["coronal"])
    pixels, _ = read(path)
    lit = pixels[34:-32] > 128
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert width > 150
    assert height == pytest.approx(width, rel=0.02)


def test_png_of_the_phantom_has_columns_rows_and_the_notice(tmp_path):
    head = make_head([Modality.T1, Modality.T2], shape=(40, 48, 12), spacing=(4, 4, 12))
    path = tmp_path / "mosaic.png"
    mosaic([(m.value, v) for m, v in head.items()], path)
    pixels, texts = read(path)
    assert "SYNTHETIC" in texts["Description"]
    half = pixels.shape[1] // 2
    for side in (pixels[:, :half], pixels[:, half:]):
        assert side[:30].max() > 200  # the title
        for third in np.array_split(side[40:-32], 3):
            assert third.std() > 15  # a cut in each row
    assert pixels[-26:].max() > 200  # the footer
    assert list(tmp_path.iterdir()) == [path]


def test_the_deviation_has_a_coloured_column_on_a_scale_of_its_own(tmp_path):
    head = make_head([Modality.T1], shape=(40, 48, 12), spacing=(4, 4, 12))[Modality.T1]
    deviation = head.with_array(head.array / 50)
    mosaic([("t1", head)], tmp_path / "plain.png")
    mosaic([("t1", head)], tmp_path / "both.png", deviation=deviation)
    plain, both = read(tmp_path / "plain.png")[0], read(tmp_path / "both.png")[0]
    assert plain.ndim == 2 and both.shape[2] == 3
    half = both.shape[1] // 2
    left, right = both[34:-32, : half - 4], both[34:-32, half + 4 :]
    assert (left.min(axis=2) == left.max(axis=2)).all()  # the volume itself stays grey
    red, green, blue = (right[..., colour].astype(int) for colour in range(3))
    assert (red >= green).all() and (green >= blue).all()
    assert ((red > 200) & (blue < 50)).any() and (blue > 200).any()
    assert np.array_equal(
        both[:32, half + 8 : -8].max(axis=(0, 2)) > 200, both[:32, half + 8 : -8, 0].max(axis=0) > 200
    )
    mosaic([("t1", head)], tmp_path / "more.png", deviation=deviation.with_array(deviation.array * 10))
    more = read(tmp_path / "more.png")[0]
    assert np.array_equal(more[40:], both[40:])  # the same picture
    assert not np.array_equal(more[:32], both[:32])  # another number above it


def test_every_cut_tells_its_four_sides(tmp_path, monkeypatch):
    from PIL import ImageDraw

    told = []
    drawn = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda self, xy, text, **rest: (told.append(text), drawn(self, xy, text, **rest))
    )
    mosaic([("t1", box(fill=1))], tmp_path / "letters.png")
    assert told[:12] == [*"RLAP", *"RLSI", *"APSI"]


def test_titles_and_footer_fit_beside_a_tiny_volume(tmp_path):
    path = tmp_path / "tiny.png"
    mosaic([("a title that is far too long to fit above one small column", box(shape=(2, 2, 2)))], path)
    pixels, _ = read(path)
    for band in (pixels[:32], pixels[-30:]):
        assert band[:, 8:-8].max() > 200
        assert band[:, :4].max() == 0
        assert band[:, -4:].max() == 0


def test_oblique_volumes_can_be_drawn(tmp_path):
    head = make_head([Modality.T1], shape=(24, 32, 8), spacing=(7, 6, 18), axes="PSL", oblique_degrees=40)
    mosaic([("T1", head[Modality.T1])], tmp_path / "oblique.png")
    pixels, _ = read(tmp_path / "oblique.png")
    assert pixels[40:-32].std() > 15


def test_an_existing_picture_stays_unless_told(tmp_path):
    path = tmp_path / "mosaic.png"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError):
        mosaic([("T1", box(fill=1))], path)
    assert path.read_bytes() == b"mine"
    mosaic([("T1", box(fill=1))], path, overwrite=True)
    assert read(path)[0].any()


@pytest.mark.parametrize("arguments", [{"volumes": []}, {"planes": ["oblique"]}, {"planes": []}])
def test_what_cannot_be_drawn_is_refused(tmp_path, arguments):
    with pytest.raises(UsageError):
        mosaic(**{"volumes": [("T1", box())], "path": tmp_path / "x.png", **arguments})
    assert not list(tmp_path.iterdir())
