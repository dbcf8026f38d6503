"""Types of tensors: KServe's names (Open Inference Protocol, version 2) and NumPy's."""

DATATYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
BYTES = "BYTES"
# In a manifest, in the place of NumPy's name: elements of any length, texts or files.
TEXT = "bytes"


def dtype_of(datatype: str) -> str:
    """NumPy's name, or TEXT, of KServe's. Raises KeyError."""
    return TEXT if datatype == BYTES else DATATYPES[datatype]


def datatype_of(dtype: str) -> str:
    """KServe's name of NumPy's, or of TEXT. Raises KeyError."""
    return BYTES if dtype == TEXT else _NAMES[dtype]


_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
