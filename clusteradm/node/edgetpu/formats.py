"""Formats of picture files, told by their bytes: which one it is, how it is to be turned, whether it moves.

Pillow's own answers depend on its version and on how it was built, and a cluster's boards differ in both. So a file is
accepted or refused here, by its name, and only what every Pillow from 5.4 on decodes alike is accepted. Sources: the
formats' specifications; Exif 2.32 section 4.6.4 for the orientation.
"""

import re
import struct
from typing import Iterator, List, NamedTuple, Optional, Tuple

# What is accepted, as Pillow calls it: MPO is a JPEG file with more pictures behind the first.
ACCEPTED = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# Others, by how they begin, or by a brand of ISO media files (ISO/IEC 14496-12).
_OTHERS = (
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"%PDF", "PDF"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\1\0", "ICO"),
    (b"\0\0\2\0", "CUR or TGA"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"<svg", "SVG"),
    (b"<?xml", "SVG"),
    (b"\x0a\5\1", "PCX"),
    (b"SIMPLE", "FITS"),
    (b"farbfeld", "farbfeld"),
    (b"II+\0", "BigTIFF"),
    (b"MM\0+", "BigTIFF"),
    (b"\x93NUMPY", "NumPy, which has to be named .npy"),
    (b"gimp xcf", "GIMP"),
)
_BRANDS = (
    ((b"avif", b"avis"), "AVIF"),
    ((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"),
    ((b"crx ",), "Canon raw"),
)
_MOST_PIECES = 100000  # chunks of a file
_MOST_SCANS = 100  # of a JPEG; an encoder makes about ten, and a decoder goes over the whole picture for each
_MARKER = re.compile(b"\xff+[\x01-\xcf\xd8-\xfe]")  # of a JPEG, not those within a scan (ITU-T T.81 section B.1.1)
_SCAN = b"\xff\xda"
_ORIENTATION, _SAMPLE_FORMAT, _COMPRESSION = 0x0112, 0x0153, 0x0103
# None, CCITT, LZW, JPEG, deflate, PackBits, deflate by its old number (TIFF 6.0 and its supplements).
_TIFF_JPEG = 7
_TIFF_COMPRESSIONS = (1, 2, 3, 4, 5, _TIFF_JPEG, 8, 32773, 32946)


class Unfit(Exception):
    """A picture that is not accepted; the text says why."""


class About(NamedTuple):
    """`kind`: of ACCEPTED. `orientation`: 1 to 8, as Exif counts; 1 is upright."""

    kind: str
    orientation: int = 1


def look(data: bytes) -> About:
    """What the bytes say about the picture. Raises Unfit for what is not accepted, or has more than one meaning."""
    try:
        return _look(data)
    except (struct.error, IndexError):
        raise Unfit("not a picture that can be read: it is cut short") from None


def _look(data: bytes) -> About:
    if not data:
        raise Unfit("not a picture that can be read: an empty file")
    if data[:3] == b"\xff\xd8\xff":
        return About("JPEG", _jpeg(data))
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return About("PNG", _png(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return About("WEBP", _webp(data))
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return About("GIF")
    if data[:4] in (b"II*\0", b"MM\0*"):
        _tiff(data)
        return About("TIFF")
    if data[:2] == b"BM":
        if struct.unpack_from("<I", data, 14)[0] >= 40 and struct.unpack_from("<I", data, 30)[0] not in (0, 3):
            raise Unfit("a compressed BMP file, which not every Pillow reads: save it as PNG")
        return About("BMP")
    if data[:1] == b"P" and data[1:2].isdigit() and data[2:3].isspace():
        _pnm(data)
        return About("PPM")
    other = _other(data)
    if other:
        raise Unfit("a file of the format %s; pictures are %s: convert it" % (other, ", ".join(ACCEPTED)))
    raise Unfit("not a picture that can be read: it is none of %s" % ", ".join(ACCEPTED))


def _other(data: bytes) -> Optional[str]:
    if data[4:8] == b"ftyp":
        brands = data[8 : max(16, min(struct.unpack_from(">I", data)[0], 256))]
        for names, what in _BRANDS:
            if any(brands[at : at + 4] in names for at in range(0, len(brands), 4)):
                return what
        return "an ISO media file (a video?)"
    start = data[:16].lstrip(b" \t\r\n\xef\xbb\xbf")
    return next((what for begin, what in _OTHERS if data.startswith(begin) or start.startswith(begin)), None)


def _jpeg(data: bytes) -> int:
    """The orientation, in the first Exif segment. CMYK without Adobe's segment has colours that nothing tells."""
    orientation, adobe, at = None, False, 2
    for _ in range(_MOST_PIECES):
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0xD9, 0xDA):
            break
        if marker == 1 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        size = struct.unpack_from(">H", data, at + 2)[0]
        body = data[at + 4 : at + 2 + size]
        if marker == 0xE1 and body[:6] == b"Exif\0\0" and orientation is None:
            orientation = _exif(body[6:])
        adobe = adobe or (marker == 0xEE and body[:5] == b"Adobe")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            channels = body[5]
            if channels == 4 and not adobe:
                raise Unfit("a JPEG of four inks that does not say whether they are inverted: save it in RGB")
        at += 2 + size
    if _too_many_scans(data, at):
        raise Unfit("a JPEG of more than %d scans, which would take very long: save it anew" % _MOST_SCANS)
    return orientation or 1


def _too_many_scans(data: bytes, at: int) -> bool:
    """Whether a JPEG has more than _MOST_SCANS from this place to its end; what is behind that is not looked at."""
    # The pictures of cameras are done with here: to look for every marker takes a quarter as long as to decode them.
    if data.count(_SCAN, at) <= _MOST_SCANS:
        return False
    scans = 0
    for _ in range(_MOST_PIECES):
        found = _MARKER.search(data, at)
        marker = data[found.end() - 1] if found else 0xD9
        if found is None or marker == 0xD9 or found.end() + 2 > len(data):
            return False
        at = found.end()
        if marker not in (0x01, 0xD8):
            at += struct.unpack_from(">H", data, at)[0]
        scans += marker == 0xDA
        if scans > _MOST_SCANS:
            return True
    return True


def _png(data: bytes) -> int:
    orientation = 1
    for name, body in _chunks(data, 8, ">I"):
        if name == b"acTL" and struct.unpack_from(">I", body)[0] > 1:
            raise Unfit("an animation of %d pictures: save those to be used" % struct.unpack_from(">I", body)[0])
        if name == b"eXIf":
            orientation = _exif(body)
    return orientation


def _webp(data: bytes) -> int:
    orientation = 1
    for name, body in _chunks(data, 12, "<I"):
        if name == b"ANIM" or name == b"ANMF":
            raise Unfit("an animation: save the pictures of it that are to be used")
        if name == b"EXIF":
            orientation = _exif(body[6:] if body[:6] == b"Exif\0\0" else body)
    return orientation


def _chunks(data: bytes, at: int, layout: str) -> Iterator[Tuple[bytes, bytes]]:
    """(name, first bytes) of the chunks of a PNG or a RIFF file; what is cut short ends them."""
    riff = layout == "<I"
    for _ in range(_MOST_PIECES):
        if at + 8 > len(data):
            return
        size = struct.unpack_from(layout, data, at if not riff else at + 4)[0]
        name = data[at + 4 : at + 8] if not riff else data[at : at + 4]
        yield name, data[at + 8 : at + 8 + min(size, 65536)]
        at += 8 + size + (size % 2 if riff else 4)


def _exif(data: bytes) -> int:
    """The orientation in a TIFF structure; 1 where it says none, or nonsense."""
    try:
        for tag, value in _tags(data, _first(data)):
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _first(data: bytes) -> int:
    """The place of the first directory of a TIFF structure."""
    return int(struct.unpack_from("<I" if data[:2] == b"II" else ">I", data, 4)[0])


def _tags(data: bytes, at: int) -> Iterator[Tuple[int, int]]:
    """(tag, first value of a short or long one, else -1) of the directory at this place."""
    order = "<" if data[:2] == b"II" else ">"
    for number in range(struct.unpack_from(order + "H", data, at)[0]):
        tag, kind, count = struct.unpack_from(order + "HHI", data, at + 2 + 12 * number)
        place = at + 10 + 12 * number
        size = {3: 2, 4: 4}.get(kind)
        if size and count * size > 4:
            place = struct.unpack_from(order + "I", data, place)[0]
        yield tag, int(struct.unpack_from(order + {2: "H", 4: "I"}[size], data, place)[0]) if size and count else -1


def _tiff(data: bytes) -> None:
    """Raise Unfit for what Pillow's versions read in different ways: turned, several pages, unusual samples."""
    order = "<" if data[:2] == b"II" else ">"
    first = _first(data)
    tags = dict(_tags(data, first))
    count = struct.unpack_from(order + "H", data, first)[0]
    if struct.unpack_from(order + "I", data, first + 2 + 12 * count)[0]:
        raise Unfit("a TIFF file of several pages: save those to be used")
    if tags.get(_ORIENTATION, 1) != 1:
        raise Unfit("a TIFF file whose picture is to be turned: turn it, or save it as PNG")
    compression = tags.get(_COMPRESSION, 1)
    if compression not in _TIFF_COMPRESSIONS:
        raise Unfit("a TIFF file with compression %d, which not every Pillow reads: save it as PNG" % compression)
    if tags.get(0x0106) == 6 and compression != _TIFF_JPEG:
        raise Unfit("a TIFF file of YCbCr colours that is no JPEG inside, which not every Pillow reads: save it as PNG")
    bits, colour, samples = tags.get(0x0102, 1), tags.get(0x0106, 1), tags.get(0x0115, 1)
    if tags.get(_SAMPLE_FORMAT, 1) != 1:
        raise Unfit("a TIFF file of signed or floating-point numbers: nothing says which are black and white")
    if bits not in (1, 8, 16) or (bits == 16 and (samples != 1 or colour != 1)) or colour not in (0, 1, 2, 3, 5, 6):
        raise Unfit(
            "a TIFF file of %d x %d bits (photometric %d), which not every Pillow reads alike: save it as PNG"
            % (samples, bits, colour)
        )


def _pnm(data: bytes) -> None:
    """Raise Unfit for the forms that are text, or whose white is neither 255 nor, in grey, 65535."""
    if data[1:2] not in b"456":
        raise Unfit("a PNM file of the form P%s, which not every Pillow reads: save it as PNG" % chr(data[1]))
    if data[1:2] == b"4":
        return
    numbers: List[int] = []
    rest = data[2:4096]
    while len(numbers) < 3 and rest:
        rest = rest.lstrip()
        if rest[:1] == b"#":
            rest = rest.partition(b"\n")[2]
            continue
        digits = rest[: len(rest) - len(rest.lstrip(b"0123456789"))]
        if not digits:
            break
        numbers.append(int(digits[:9]))
        rest = rest[len(digits) :]
    white = numbers[2] if len(numbers) == 3 else 0
    if white != 255 and not (white == 65535 and data[1:2] == b"5"):
        raise Unfit("a PNM file whose white is %d, which not every Pillow reads alike: save it as PNG" % white)
