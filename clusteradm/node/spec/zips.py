"""What zipfile raises for bytes that are no sound zip: it documents one exception, and raises these."""

import struct
import zipfile
import zlib

UNSOUND = (
    zipfile.BadZipFile,
    NotImplementedError,  # a version or a method of compression
    RuntimeError,  # encrypted
    ValueError,  # an offset before the beginning, a name that is not UTF-8
    OverflowError,  # an offset of 64 bits
    KeyError,
    EOFError,
    struct.error,
    zlib.error,
)
