"""Where each tissue of the head phantom lies: fractions of tissue classes at points in mm.

A head of our own, drawn with signed distances (mm, negative inside) of ellipsoids and tubes. The cortex is folded by
sheets of CSF, the zero level of a sum of seeded sinusoids on the brain's surface, that reach radially inwards; grey
matter is what lies within a few millimetres of CSF. Sizes after a typical adult; positions in RAS mm about the middle
of the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from imputer.mr_signal import TISSUES
from imputer.seeds import derive_seed

Array = NDArray[np.float32]
Triple = tuple[float, float, float]

CLASSES: tuple[str, ...] = tuple(TISSUES)  # rows of the fractions; the label of a tissue is its place here
_INDEX = {name: index for index, name in enumerate(CLASSES)}

_RIBBON = 2.8  # mm of cortex
_CEREBRUM = ((0.0, 0.0, 4.0), (61.0, 77.0, 50.0))
_VENTRICLE = (  # centre line of a lateral ventricle: x (away from the midline), y, z and radius in mm
    (9.0, 36.0, 1.0, 3.5),
    (8.0, 22.0, 7.0, 5.0),
    (8.0, 0.0, 11.0, 4.5),
    (15.0, -20.0, 9.0, 5.0),
    (22.0, -30.0, 3.0, 6.0),
    (19.0, -52.0, 0.0, 2.0),
)
_TEMPORAL_HORN = ((23.0, -28.0, -2.0, 4.0), (31.0, -12.0, -20.0, 2.5), (28.0, 8.0, -25.0, 2.0))


def _ellipsoid(p: Array, centre: Triple, radii: Triple, turn: float = 0.0) -> Array:
    """Distance to an ellipsoid, exact to first order near the surface; `turn` degrees about z."""
    x, y, z = p[0] - centre[0], p[1] - centre[1], p[2] - centre[2]
    if turn:
        c, s = float(np.cos(np.radians(turn))), float(np.sin(np.radians(turn)))
        x, y = c * x + s * y, c * y - s * x
    a, b, c = (x / radii[0]) ** 2, (y / radii[1]) ** 2, (z / radii[2]) ** 2
    level = np.sqrt(a + b + c)
    slope = np.sqrt(a / radii[0] ** 2 + b / radii[1] ** 2 + c / radii[2] ** 2)
    distance: Array = level * (level - 1) / np.maximum(slope, 1e-6)
    return np.where(level < 0.05, -min(radii), distance).astype(np.float32)


def _tube(p: Array, knots: Sequence[tuple[float, float, float, float]]) -> Array:
    """Distance to a chain of round cones through knots (x, y, z, radius)."""
    nearest = np.full(p.shape[1], np.inf, np.float32)
    for start, end in pairwise(knots):
        axis = np.subtract(end[:3], start[:3])
        offset = [p[d] - start[d] for d in range(3)]
        along = (offset[0] * axis[0] + offset[1] * axis[1] + offset[2] * axis[2]) / float(axis @ axis)
        along = np.clip(along, 0, 1).astype(np.float32)
        away = np.sqrt(sum((offset[d] - along * axis[d]) ** 2 for d in range(3)))
        np.minimum(nearest, away - (start[3] + along * (end[3] - start[3])), out=nearest)
    return nearest


def _blend(a: Array, b: Array, width: float) -> Array:
    """Union of two bodies with a fillet of `width` mm."""
    overlap = np.maximum(width - np.abs(a - b), 0) / width
    result: Array = np.minimum(a, b) - overlap * overlap * (width / 4)
    return result


def _sinusoids(random: np.random.Generator, count: int, shortest: float, longest: float) -> Array:
    """Wave vectors in any direction, wavelengths in mm, and phases: (count, 4)."""
    directions = random.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    vectors = directions * (2 * np.pi / random.uniform(shortest, longest, size=(count, 1)))
    return np.hstack([vectors, random.uniform(0, 2 * np.pi, size=(count, 1))]).astype(np.float32)


def _waves(q: Array, sinusoids: Array) -> tuple[Array, Array]:
    """Sum of sinusoids at q (3, N) and the length of its gradient per mm."""
    value = np.zeros(q.shape[1], np.float32)
    slope = np.zeros_like(q)
    for vector in sinusoids:
        angle = vector[0] * q[0] + vector[1] * q[1] + vector[2] * q[2] + vector[3]
        value += np.sin(angle)
        cosine = np.cos(angle)
        for d in range(3):
            slope[d] += vector[d] * cosine
    return value, np.sqrt(slope[0] ** 2 + slope[1] ** 2 + slope[2] ** 2)


class _Layers:
    """Fractions painted from the front to the back: what is painted first covers what comes later."""

    def __init__(self, count: int, edge: float) -> None:
        self.fractions = np.zeros((len(CLASSES), count), np.float32)
        self._left = np.ones(count, np.float32)
        self._edge = edge

    def paint(self, tissue: str, distance: NDArray[np.floating]) -> None:
        """A body of one tissue; its border is a ramp 2 * edge wide, centred on distance 0."""
        self.blend(tissue, np.clip(0.5 - distance / (2 * self._edge), 0, 1))

    def blend(self, tissue: str, share: NDArray[np.floating] | float) -> None:
        """Give that share of what is left to a tissue."""
        part = self._left * share
        self.fractions[_INDEX[tissue]] += part
        self._left -= part


class Head:
    """The anatomy of one head: the same seed is the same head, wherever it is sampled."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(derive_seed(seed, "phantom anatomy"))
        self._scale = random.uniform(0.97, 1.02, size=3).astype(np.float32)
        self._warp = random.normal(size=(3, 3)) * 2 * np.pi / 150
        self._warp_phase = random.uniform(0, 2 * np.pi, size=3)
        self._warp_size = random.normal(size=(3, 3)).astype(np.float32) * 1.0
        self._sulcus_waves = _sinusoids(random, 14, 20, 30)
        self._furrow_waves = _sinusoids(random, 9, 17, 25)
        self._falx_waves = _sinusoids(random, 5, 20, 55)
        self._septa_waves = _sinusoids(random, 6, 12, 30)
        self._ventricle_swell = float(random.uniform(-0.7, 1.3))
        self._lesions = [_lesion(random) for _ in range(int(random.integers(6, 12)))]

    def fractions(self, points: Array, edge: float = 0.5) -> Array:
        """Share of each tissue at points (3, N) in RAS mm: (len(CLASSES), N) float32 that sums to 1 over the classes.

        `edge` is half the width in mm of the ramp between two tissues: half the distance of the points suits.
        """
        result = np.zeros((len(CLASSES), points.shape[1]), np.float32)
        result[_INDEX["air"]] = 1
        near = np.flatnonzero((points[0] / 90) ** 2 + (points[1] / 108) ** 2 + (np.maximum(points[2], 0) / 85) ** 2 < 1)
        if near.size == 0:
            return result
        p = self._warped(points[:, near])
        mirrored = np.stack([np.abs(p[0]), p[1], p[2]])
        cerebrum, cavity = _cerebrum(mirrored), _cavity(mirrored)
        head = _outline(mirrored, cavity)
        inside = np.clip(0.5 - cavity / (2 * edge), 0, 1)
        mixed = np.zeros((len(CLASSES), near.size), np.float32)
        outer = np.flatnonzero(inside < 1)
        mixed[:, outer] = self._outside_brain(p[:, outer], head[outer], cavity[outer], edge) * (1 - inside[outer])
        inner = np.flatnonzero(inside > 0)
        mixed[:, inner] += self._inside_skull(p[:, inner], cerebrum[inner], cavity[inner], edge) * inside[inner]
        result[:, near] = mixed
        return result

    def _warped(self, points: Array) -> Array:
        """Individual size and a smooth bend of a millimetre or two."""
        p = points / self._scale[:, None]
        moved = p.copy()
        for vector, phase, size in zip(self._warp, self._warp_phase, self._warp_size, strict=True):
            wave = np.sin(np.tensordot(vector.astype(np.float32), p, axes=1) + np.float32(phase))
            moved += size[:, None] * wave
        return moved

    def _outside_brain(self, p: Array, head: Array, cavity: Array, edge: float) -> Array:
        mirrored = np.stack([np.abs(p[0]), p[1], p[2]])
        layers = _Layers(p.shape[1], edge)
        layers.paint("air", -head)
        layers.paint("skin", -(head + 1.8))
        _paint_skull(layers, mirrored, cavity)
        _paint_eyes(layers, mirrored)
        _paint_sinuses(layers, mirrored)
        layers.paint("fat", -(head + 5.5))
        lobules, _ = _waves(p, self._septa_waves)
        layers.blend("fat", np.clip(0.25 + 0.2 * lobules, 0, 0.8))
        layers.blend("muscle", 1.0)
        return layers.fractions

    def _inside_skull(self, p: Array, cerebrum: Array, cavity: Array, edge: float) -> Array:
        mirrored = np.stack([np.abs(p[0]), p[1], p[2]])
        layers = _Layers(p.shape[1], edge)
        midline = np.maximum(np.maximum(-p[2] - 15, p[1] - 62), 0)
        layers.paint("blood", np.sqrt(p[0] ** 2 + (cavity + 1) ** 2 + midline**2) - 4)
        _paint_ventricles(layers, mirrored, self._ventricle_swell)
        _paint_deep_grey(layers, mirrored)
        _paint_brainstem(layers, mirrored)
        _paint_cerebellum(layers, p, mirrored)
        pial, white = self._cortex(p, mirrored, cerebrum)
        lesions = np.full(p.shape[1], np.inf, np.float32)
        for centre, radii, turn in self._lesions:
            np.minimum(lesions, _ellipsoid(p, centre, radii, turn), out=lesions)
        layers.paint("lesion", np.maximum(lesions, white))
        layers.paint("white", white)
        layers.paint("grey", pial)
        layers.blend("csf", 1.0)
        return layers.fractions

    def _cortex(self, p: Array, mirrored: Array, cerebrum: Array) -> tuple[Array, Array]:
        """Signed distances to the pial surface and to the border of white matter, sulci and fissures included."""
        sulcus = self._sulci(p, cerebrum)
        # The falx: a sheet in the midline that ends at the corpus callosum.
        bridge = np.maximum(-_ellipsoid(p, (0, 5, -5), (34, 39, 24)), 0)
        bend, _ = _waves(np.stack([np.zeros_like(p[0]), p[1], p[2]]), self._falx_waves)
        bend *= 0.7
        fissure = np.hypot(p[0] - bend, bridge) - 0.7
        # No cortex on the corpus callosum: the distance to the sheet's edge grows three times as fast.
        fissure_grey = np.hypot(p[0] - bend, 3 * bridge) - 0.7
        wave = 3 * np.sin(p[1] / 8) + 2 * np.sin(p[0] / 6)
        rise = 0.8 * (mirrored[2] + 14 - 0.7 * (16 - mirrored[1])) + wave
        ends = np.hypot(np.maximum(36 - mirrored[0], 0), np.maximum(np.abs(mirrored[1] + 2) - 27, 0))
        sylvian = np.hypot(rise, ends) - 0.9
        edges = np.minimum(sulcus, sylvian)
        pial = np.maximum(cerebrum, -np.minimum(edges, fissure))
        white = np.maximum(cerebrum, -np.minimum(edges, fissure_grey)) + _RIBBON
        return pial, white

    def _sulci(self, p: Array, cerebrum: Array) -> Array:
        """Distance to the folds' sheets of CSF: deep sulci, and shallow furrows between them."""
        distance = np.full(p.shape[1], 50, np.float32)
        shell = np.flatnonzero(cerebrum > -30)
        (cx, cy, cz), radii = _CEREBRUM
        centred = p[:, shell] - np.array([[cx], [cy], [cz]], np.float32)
        level = np.sqrt(sum((centred[d] / radii[d]) ** 2 for d in range(3)))
        q = centred / np.maximum(level, 0.2)
        # Meandering along the surface, and bent as they go down.
        q = q + 3 * np.sin(q[[1, 2, 0]] / 9 + 7 * level)
        depth = -cerebrum[shell]
        gap = np.clip(1.15 - 0.06 * depth, 0.25, 1.3)
        deep = -_ellipsoid(p[:, shell], (0, 0, -10), (35, 46, 32))
        reach = 17 + 4 * np.sin(q[0] / 13) * np.sin(q[1] / 11 + 1) + 3 * np.sin(q[2] / 9)
        sheets = []
        for sinusoids, end in ((self._sulcus_waves, reach), (self._furrow_waves, reach - 11)):
            value, slope = _waves(q, sinusoids)
            sheet = np.abs(value) / np.maximum(slope, 0.25) * np.minimum(level, 1)
            sheets.append(np.hypot(sheet, np.maximum(np.maximum(depth - end, deep), 0)) - gap)
        distance[shell] = np.minimum(*sheets)
        return distance


def _lesion(random: np.random.Generator) -> tuple[Triple, Triple, float]:
    """An ovoid beside a lateral ventricle, as multiple sclerosis leaves them."""
    along = random.uniform(0.5, 4.5)
    knot = int(along)
    start, end = np.array(_VENTRICLE[knot]), np.array(_VENTRICLE[knot + 1])
    x, y, z, radius = start + (along - knot) * (end - start)
    side = random.choice([-1.0, 1.0])
    out = radius + random.uniform(2, 12)
    centre = (float(side * (x + out)), float(y + random.normal(0, 3)), float(z + abs(random.normal(0, 6))))
    length = random.uniform(2.5, 5.5)
    return centre, (float(length), float(0.6 * length), float(0.8 * length)), float(random.uniform(-30, 30))


def _cerebrum(p: Array) -> Array:
    """The hemispheres without their folds; p is mirrored to x >= 0, here and in the functions below."""
    # The floor: the roofs of the orbits in front, the tentorium behind.
    floor = p[2] + 24 - 0.06 * p[1] + 0.004 * (p[0] - 22) ** 2
    upper = -_blend(-_ellipsoid(p, *_CEREBRUM), floor, 14)
    upper = _blend(upper, _ellipsoid(p, (16, -42, -8), (30, 31, 18)), 8)
    return _blend(upper, _ellipsoid(p, (37, 4, -24), (23, 37, 22)), 10)


def _cavity(p: Array) -> Array:
    """The space inside the skull."""
    fossa = _blend(_ellipsoid(p, (0, -42, -40), (51, 33, 25)), _tube(p, ((0, -26, -50, 14), (0, -32, -120, 11))), 12)
    return _blend(_cerebrum(p), fossa, 10) - 2.2


def _outline(p: Array, cavity: Array) -> Array:
    """The skin."""
    cheek = _ellipsoid(p, (34, 50, -50), (30, 32, 34))
    face = _blend(_ellipsoid(p, (0, 36, -62), (58, 50, 62)), cheek, 12)
    face = _blend(face, _ellipsoid(p, (0, 84, -54), (9, 11, 18)), 8)
    neck = _tube(p, ((0, -30, -60, 58), (0, -30, -160, 54)))
    temple = _ellipsoid(p, (60, 20, -22), (13, 34, 34))
    return _blend(_blend(cavity - 11.5, _blend(face, neck, 20), 18), temple, 10)


def _paint_skull(layers: _Layers, p: Array, cavity: Array) -> None:
    """Two tables of compact bone with marrow between, and the mastoid's air cells."""
    thick = 6.3 + 0.8 * np.sin(p[1] / 31 + 1) * np.sin(p[2] / 27)
    layers.paint("air", _ellipsoid(p, (52, -24, -50), (10, 12, 12)))
    layers.paint("marrow", np.maximum(cavity - (thick - 1.8), 2.0 - cavity))
    layers.paint("bone", cavity - thick)
    layers.paint("bone", _ellipsoid(p, (52, -24, -50), (13, 15, 15)))


def _paint_eyes(layers: _Layers, p: Array) -> None:
    layers.paint("muscle", _ellipsoid(p, (32, 74.5, -38), (4.5, 2.0, 4.5)))  # lens: short T2, as muscle
    globe = _ellipsoid(p, (32, 65, -38), (12, 12, 12))
    layers.paint("vitreous", globe + 1.2)
    layers.paint("muscle", globe)  # sclera
    layers.paint("white", _tube(p, ((30, 58, -38, 1.8), (13, 34, -34, 1.8))))  # optic nerve
    layers.paint("muscle", _tube(p, ((45, 66, -38, 1.6), (36, 50, -37, 2.4), (18, 34, -35, 1.2))))
    layers.paint("muscle", _tube(p, ((19, 66, -38, 1.4), (17, 50, -37, 2.2), (14, 34, -35, 1.2))))
    layers.paint("fat", _ellipsoid(p, (30, 58, -38), (17, 25, 15), turn=15))


def _paint_sinuses(layers: _Layers, p: Array) -> None:
    """Air of the nose and its sinuses in thin bone, a septum in the middle."""
    spaces = np.minimum(_ellipsoid(p, (6, 62, -50), (4, 22, 18)), _ellipsoid(p, (25, 60, -62), (12, 15, 13)))
    spaces = np.minimum(spaces, _ellipsoid(p, (7, 30, -38), (7, 9, 7)))
    layers.paint("air", spaces)
    layers.paint("bone", spaces - 1.5)


def _paint_ventricles(layers: _Layers, p: Array, swell: float) -> None:
    lateral = np.minimum(_tube(p, _VENTRICLE) - swell, _tube(p, _TEMPORAL_HORN) - swell / 3)
    lateral = np.maximum(lateral, 1.0 - p[0])  # the septum pellucidum between them
    third = _ellipsoid(p, (0, 4, -9), (2.2 + swell / 2, 13, 8))
    fourth = _ellipsoid(p, (0, -28, -42), (7, 4, 8))
    layers.paint("csf", np.minimum(np.minimum(lateral, third), fourth))


def _paint_deep_grey(layers: _Layers, p: Array) -> None:
    caudate = np.minimum(_ellipsoid(p, (15, 27, 1), (5, 9, 9), turn=-12), _tube(p, ((14, 22, 11, 3), (20, -8, 15, 2))))
    layers.paint("pallidum", _ellipsoid(p, (19.5, 10, -6), (4.5, 9, 6), turn=-24))
    layers.paint("deep_grey", _ellipsoid(p, (26.5, 11, -4), (5.5, 17, 10), turn=-12))
    layers.paint("deep_grey", caudate)
    layers.paint("deep_grey", _ellipsoid(p, (11, -7, -1), (8.5, 14, 9), turn=-28))


def _paint_brainstem(layers: _Layers, p: Array) -> None:
    pons = _ellipsoid(p, (0, -12, -38), (16, 12, 14))
    midbrain = _ellipsoid(p, (6, -12, -22), (12, 11, 12))
    medulla = _tube(p, ((0, -17, -46, 10), (0, -26, -66, 8), (0, -30, -120, 7)))
    layers.paint("white", _blend(_blend(pons, midbrain, 6), medulla, 6))


def _paint_cerebellum(layers: _Layers, p: Array, mirrored: Array) -> None:
    """Leaves of grey matter a few millimetres apart on a core of white matter."""
    body = _blend(
        _ellipsoid(mirrored, (24, -48, -42), (25, 27, 18)), _ellipsoid(mirrored, (0, -48, -39), (12, 23, 19)), 5
    )
    core = _ellipsoid(mirrored, (17, -40, -43), (15, 12, 7))
    from_stem = np.sqrt(mirrored[0] ** 2 * 0.6 + (mirrored[1] + 22) ** 2 + 1.6 * (mirrored[2] + 40) ** 2)
    turns = (from_stem + 1.5 * np.sin(p[0] / 7) + 1.5 * np.sin(p[2] / 6 + p[0] / 15)) * (2 * np.pi / 6.5)
    leaf = (np.abs(np.sin(turns / 2)) * 6.5 / np.pi).astype(np.float32)
    arbor = np.maximum(body + 3.5, 1.5 - leaf)
    layers.paint("white", np.minimum(core, arbor))
    furrow = np.minimum(0.4 - leaf, body + 9)
    layers.paint("grey", np.maximum(body, furrow))
