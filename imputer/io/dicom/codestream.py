"""What a compressed frame says of itself, read from its first bytes before any decoder sees it.

Decoders believe the compressed stream, not the data set around it: they take memory for the size that it claims, and
some end the whole process over a header that contradicts itself. JPEG: ITU-T T.81 annex B; JPEG-LS: T.87 annex C;
JPEG 2000: T.800 annex A.
"""

from __future__ import annotations

from typing import NamedTuple

_START = b"\xff\xd8"
_HUFFMAN_TABLE, _QUANTISATION, _RESTART, _COMMENT, _LS_PARAMETERS, _SCAN = 0xC4, 0xDB, 0xDD, 0xFE, 0xF8, 0xDA
_APPLICATION = range(0xE0, 0xF0)
_SEGMENTS = {_HUFFMAN_TABLE, _QUANTISATION, _RESTART, _COMMENT, _LS_PARAMETERS, *_APPLICATION}
_FRAMES = {0xC0, 0xC1, 0xC3, 0xF7}  # start of a frame: baseline, extended, lossless, JPEG-LS; DICOM has no others
_J2K_START = b"\xff\x4f\xff\x51"  # SOC, then SIZ at once
_JP2_SIGNATURE = b"jP  "
_JP2_CODESTREAM = b"jp2c"
_SIZ_BYTES = 41  # with one component, behind the marker


class Claim(NamedTuple):
    """Size of a compressed frame; precision is the number of bits of a sample."""

    rows: int
    columns: int
    components: int
    precision: int


def claim_of(frame: bytes) -> Claim | None:
    """What a JPEG, JPEG-LS or JPEG 2000 frame claims; None where it is none, or not put together as one."""
    if frame[:2] == _START:
        return _jpeg_claim(frame)
    place = 0
    if frame[4:8] == _JP2_SIGNATURE:  # some wrap the stream into a file format, which PS3.5 A.4.4 forbids
        place = frame.find(_JP2_CODESTREAM, 0, 1024) + len(_JP2_CODESTREAM)
    if frame[place : place + 4] == _J2K_START:
        return _j2k_claim(frame[place + 4 : place + 4 + _SIZ_BYTES])
    return None


def _jpeg_claim(frame: bytes) -> Claim | None:
    """Walk the segments up to the scan: all of known kinds, and one of them starts the frame."""
    place, claim = len(_START), None
    while place + 4 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        size = int.from_bytes(frame[place + 2 : place + 4], "big")
        if marker == _SCAN:
            return claim
        if marker in _FRAMES and claim is None and size >= 11 and place + 10 <= len(frame):
            rows, columns = (int.from_bytes(frame[place + at : place + at + 2], "big") for at in (5, 7))
            claim = Claim(rows, columns, frame[place + 9], frame[place + 4])
        elif marker not in _SEGMENTS:
            return None
        place += 2 + size
    return None


def _j2k_claim(siz: bytes) -> Claim | None:
    """From the SIZ segment behind its marker: the reference grid less its offset (T.800 A.5.1)."""
    if len(siz) < _SIZ_BYTES:
        return None
    right, bottom, left, top = (int.from_bytes(siz[at : at + 4], "big") for at in (4, 8, 12, 16))
    components = int.from_bytes(siz[36:38], "big")
    return Claim(bottom - top, right - left, components, (siz[38] & 0x7F) + 1)
