"""Pictures of volumes: cuts through the middle, side by side.

Cuts follow the affine (to the nearest axes: an oblique volume is shown along its own grid), in true proportions, and as
radiologists look at them: the patient's right on the left of the picture, front or head at the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imputer.errors import UsageError
from imputer.files import replacing
from imputer.volume import Volume

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

NOTICE = "SYNTHETIC - not for diagnosis"

_LONGEST = 320  # pixels of the longest edge of all cuts
_LEAST_COLUMN = 230  # pixels, so that titles and the footer can be read beside a tiny volume
_GAP = 8
_TITLE_SIZE, _FOOTER_SIZE, _MARK_SIZE = 18, 16, 14
_WINDOW_PERCENTILE = 99.5
_INK, _NOTICE_INK, _MARK_INK = 255, 255, 200

# World axis and direction in RAS that the picture's columns and rows follow, the axis that is cut, and the letters at
# the left and right border.
_PLANES: dict[str, tuple[tuple[int, int], tuple[int, int], int, str]] = {
    "axial": ((0, -1), (1, -1), 2, "RL"),
    "coronal": ((0, -1), (2, -1), 1, "RL"),
    "sagittal": ((1, -1), (2, -1), 0, "AP"),
}


def mosaic(
    volumes: list[tuple[str, Volume]],
    path: Path,
    *,
    overwrite: bool = False,
    planes: Sequence[str] = ("axial", "coronal", "sagittal"),
) -> None:
    """Write a PNG with a column for each (title, volume) and a row for each plane.

    Grey values run from 0 to the 99.5th percentile of each volume; voxels that are not finite are black. A millimetre
    is equally long everywhere in the picture. The footer says that it is synthetic.

    Raises
    ------
    UsageError
        Without a volume, or for a plane other than axial, coronal or sagittal.
    OutputError
        Where the file exists (without `overwrite`) or cannot be written.
    """
    from PIL.PngImagePlugin import PngInfo

    unknown = [plane for plane in planes if plane not in _PLANES]
    if unknown or not planes or not volumes:
        raise UsageError("A mosaic needs volumes, and planes out of axial, coronal and sagittal.")
    cuts = [[middle_cut(volume, plane) for _, volume in volumes] for plane in planes]
    longest = max(max(extent) for row in cuts for _, extent in row)
    scale = _LONGEST / longest
    rows = [
        [_panel(pixels, extent, scale, _PLANES[plane][3]) for pixels, extent in row]
        for plane, row in zip(planes, cuts, strict=True)
    ]
    canvas = _arrange([title for title, _ in volumes], rows)
    words = PngInfo()
    words.add_text("Description", NOTICE)
    with replacing(path, overwrite=overwrite) as temporary:
        canvas.save(temporary, format="PNG", pnginfo=words, optimize=True)


def middle_cut(volume: Volume, plane: str) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """The cut through the middle of the field of view, as it is displayed.

    Returns
    -------
    (rows, columns) float32 in [0, 1], windowed by the whole volume, and its (height, width) in mm.
    """
    columns, rows, cut, _ = _PLANES[plane]
    array = np.nan_to_num(volume.array, nan=0, posinf=0, neginf=0)
    index_axes = _nearest_axes(volume.affine)
    where = {axis: index_axes[axis] for axis in range(3)}
    middle = np.take(array, array.shape[where[cut]] // 2, axis=where[cut])
    if where[rows[0]] > where[columns[0]]:
        middle = middle.T
    for picture_axis, (axis, direction) in enumerate((rows, columns)):
        if volume.affine[axis, where[axis]] * direction < 0:
            middle = np.flip(middle, picture_axis)
    white = float(np.percentile(array, _WINDOW_PERCENTILE))
    if white <= 0:  # next to nothing is there: a lesion mask, or an empty volume
        white = max(float(array.max()), float(np.finfo(np.float32).tiny))
    shown = np.clip(middle / np.float32(white), 0, 1)
    height, width = (shown.shape[n] * volume.spacing[where[axis]] for n, (axis, _) in enumerate((rows, columns)))
    return shown, (height, width)


def _nearest_axes(affine: NDArray[np.float64]) -> tuple[int, int, int]:
    """For R, A and S the array axis that lies nearest to it; each array axis once."""
    share = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    found = [0, 0, 0]
    for _ in range(3):
        world, index = np.unravel_index(int(share.argmax()), share.shape)
        found[int(world)] = int(index)
        share[world, :] = -1
        share[:, index] = -1
    return found[0], found[1], found[2]


def _panel(pixels: NDArray[np.float32], extent: tuple[float, float], scale: float, letters: str) -> Image:
    """One cut at `scale` pixels per mm with the letters of its sides."""
    from PIL import Image, ImageDraw

    size = max(1, round(extent[1] * scale)), max(1, round(extent[0] * scale))
    grey = Image.fromarray(np.round(pixels * 255).astype(np.uint8))
    panel = grey.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(panel)
    font = _font(_MARK_SIZE)
    middle = size[1] / 2
    draw.text((3, middle), letters[0], fill=_MARK_INK, font=font, anchor="lm")
    draw.text((size[0] - 3, middle), letters[1], fill=_MARK_INK, font=font, anchor="rm")
    return panel


def _arrange(titles: list[str], rows: list[list[Image]]) -> Image:
    """Titles above, panels centred in their cells, the notice below."""
    from PIL import Image, ImageDraw

    widths = [max(_LEAST_COLUMN, *(row[column].width for row in rows)) for column in range(len(titles))]
    heights = [max(panel.height for panel in row) for row in rows]
    width = sum(widths) + _GAP * (len(widths) + 1)
    head, foot = _TITLE_SIZE + 2 * _GAP, _FOOTER_SIZE + 2 * _GAP
    height = head + sum(heights) + _GAP * (len(heights) - 1) + foot
    canvas = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(canvas)
    left = _GAP
    for column, title in enumerate(titles):
        centre = left + widths[column] / 2
        _write(draw, (centre, head / 2), title, widths[column])
        top = head
        for row, row_height in zip(rows, heights, strict=True):
            panel = row[column]
            canvas.paste(panel, (round(centre - panel.width / 2), top + (row_height - panel.height) // 2))
            top += row_height + _GAP
        left += widths[column] + _GAP
    draw.text((width / 2, height - foot / 2), NOTICE, fill=_NOTICE_INK, font=_font(_FOOTER_SIZE), anchor="mm")
    return canvas


def _write(draw: ImageDraw, centre: tuple[float, float], text: str, width: int) -> None:
    """A title, shortened to the width of its column."""
    font = _font(_TITLE_SIZE)
    shown = text
    while shown and draw.textlength(shown, font=font) > width:
        shown = shown[:-2] + "…"  # the mark of the last turn goes too
    draw.text(centre, shown, fill=_INK, font=font, anchor="mm")


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size=size)
