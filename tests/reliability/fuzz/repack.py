"""Repack damaged content, so that damage reaches behind checksums and compression."""

import gzip
import struct
import zlib

_PNG = b"\x89PNG\r\n\x1a\n"


def unpack(name, content):
    """Return what is damaged of a file: of gzip the unpacked content, else the content."""
    return gzip.decompress(content) if name.endswith(".gz") else content


def repack(name, content):
    """Reverse :func:`unpack`, and correct the checksums of PNG."""
    if name.endswith(".gz"):
        return gzip.compress(content, 1)
    return _correct_checksums(content) if content.startswith(_PNG) else content


def _correct_checksums(content):
    at, parts = len(_PNG), [_PNG]
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        end = at + 8 + length
        if end + 4 > len(content):
            break
        parts += [content[at:end], struct.pack(">I", zlib.crc32(content[at + 4 : end]))]
        at = end + 4
    return b"".join([*parts, content[at:]])
