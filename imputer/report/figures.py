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
_MARK_INK = 200

# World axis and direction in RAS that the picture's columns and rows follow, the axis that is cut, and the letters at
# the left, right, upper and lower border.
_PLANES: dict[str, tuple[tuple[int, int], tuple[int, int], int, str]] = {
    "axial": ((0, -1), (1, -1), 2, "RLAP"),
    "coronal": ((0, -1), (2, -1), 1, "RLSI"),
    "sagittal": ((1, -1), (2, -1), 0, "APSI"),
}


def mosaic(
    volumes: list[tuple[str, Volume]],
    path: Path,
    *,
    overwrite: bool = False,
    planes: Sequence[str] = ("axial", "coronal", "sagittal"),
    deviation: Volume | None = None,
) -> None:
    """Write a PNG with a column for each (title, volume) and a row for each plane.

    Grey values run from 0 to the 99.5th percentile of each volume; voxels that are not finite are black. A millimetre
    is equally long everywhere in the picture. The footer says that it is synthetic. A `deviation` of samples gets a
    column of its own, from black over red and yellow to white; its title tells what white is, in its unit.

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
    columns = [(title, volume, False) for title, volume in volumes]
    if deviation is not None:
        white = white_of(deviation)
        columns.append((f"deviation, white: {f'{white:.0f}' if white >= 100 else f'{white:.3g}'}", deviation, True))
    cuts = [[middle_cut(volume, plane) for _, volume, _ in columns] for plane in planes]
    longest = max(max(extent) for row in cuts for _, extent in row)
    scale = _LONGEST / longest
    rows = [
        [
            _panel(pixels, extent, scale, _PLANES[plane][3], coloured=coloured)
            for (pixels, extent), (_, _, coloured) in zip(row, columns, strict=True)
        ]
        for plane, row in zip(planes, cuts, strict=True)
    ]
    canvas = _arrange([title for title, _, _ in columns], rows)
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
    shown = np.clip(middle / np.float32(white_of(volume)), 0, 1)
    height, width = (shown.shape[n] * volume.spacing[where[axis]] for n, (axis, _) in enumerate((rows, columns)))
    return shown, (height, width)


def white_of(volume: Volume) -> float:
    """The value that is shown white, in the unit of the volume; above 0."""
    array = np.nan_to_num(volume.array, nan=0, posinf=0, neginf=0)
    white = float(np.percentile(array, _WINDOW_PERCENTILE))
    if white <= 0:  # next to nothing is there: a lesion mask, or an empty volume
        white = max(float(array.max()), float(np.finfo(np.float32).tiny))
    return white


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


def _panel(
    pixels: NDArray[np.float32], extent: tuple[float, float], scale: float, letters: str, *, coloured: bool
) -> Image:
    """One cut at `scale` pixels per mm with the letters of its sides."""
    from PIL import Image, ImageDraw

    size = max(1, round(extent[1] * scale)), max(1, round(extent[0] * scale))
    grey = Image.fromarray(np.round(pixels * 255).astype(np.uint8))
    panel = grey.resize(size, Image.Resampling.BICUBIC)
    if coloured:
        panel = Image.fromarray(_heat(np.asarray(panel)))
    draw = ImageDraw.Draw(panel)
    font = _font(_MARK_SIZE)
    across, down = size[0] / 2, size[1] / 2
    places = ((3, down, "lm"), (size[0] - 3, down, "rm"), (across, 2, "mt"), (across, size[1] - 2, "mb"))
    ink, rim = ("white", "black") if coloured else (_MARK_INK, 0)
    for letter, (x, y, anchor) in zip(letters, places, strict=True):
        draw.text((x, y), letter, fill=ink, font=font, anchor=anchor, stroke_width=2, stroke_fill=rim)
    return panel


def _heat(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey values (H, W) as colours (H, W, 3): black, red, yellow, white."""
    ramp = grey.astype(np.float32) * 3
    return np.stack([np.clip(ramp - 255 * start, 0, 255) for start in range(3)], axis=-1).astype(np.uint8)


def _arrange(titles: list[str], rows: list[list[Image]]) -> Image:
    """Titles above, panels centred in their cells, the notice below."""
    from PIL import Image, ImageDraw

    widths = [max(_LEAST_COLUMN, *(row[column].width for row in rows)) for column in range(len(titles))]
    heights = [max(panel.height for panel in row) for row in rows]
    width = sum(widths) + _GAP * (len(widths) + 1)
    head, foot = _TITLE_SIZE + 2 * _GAP, _FOOTER_SIZE + 2 * _GAP
    height = head + sum(heights) + _GAP * (len(heights) - 1) + foot
    has_colour = any(panel.mode == "RGB" for panel in rows[0])
    canvas = Image.new("RGB" if has_colour else "L", (width, height), 0)
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
    draw.text((width / 2, height - foot / 2), NOTICE, fill="white", font=_font(_FOOTER_SIZE), anchor="mm")
    return canvas


def _write(draw: ImageDraw, centre: tuple[float, float], text: str, width: int) -> None:
    """A title, shortened to the width of its column."""
    font = _font(_TITLE_SIZE)
    shown = text
    while shown and draw.textlength(shown, font=font) > width:
        shown = shown[:-2] + "…"  # the mark of the last turn goes too
    draw.text(centre, shown, fill="white", font=font, anchor="mm")


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size=size)
