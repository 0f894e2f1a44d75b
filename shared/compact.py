"""Weights in a quarter of the space: matrices as 8-bit whole numbers with a scale for each row.

A compact file is a safetensors file with the metadata ``{"format": "int8 rows"}``. A matrix NAME (n, m) is stored as
int8 under NAME, with float32 scales (n,) under NAME.scale; row i is ``NAME[i] * NAME.scale[i]``. Everything else is
stored as it is.
"""

import numpy as np

FORMAT = {"format": "int8 rows"}


def pack(arrays):
    """Compact form of a dict of float32 arrays.

    A row's scale is its largest absolute value / 127, so a number is off by at most half of that.

    >>> packed = pack({"w": np.array([[1.0, -0.5], [0.0, 0.0]], dtype=np.float32)})
    >>> packed["w"].tolist(), packed["w"].dtype.name
    ([[127, -64], [0, 0]], 'int8')

    Raises ValueError for a number that is not finite.
    """
    packed = {}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds a number that is not finite; it cannot be stored")
        if array.ndim == 2:
            scale = np.abs(array).max(axis=1) / 127
            packed[name] = np.rint(array / np.where(scale > 0, scale, 1)[:, None]).astype(np.int8)
            packed[f"{name}.scale"] = scale.astype(np.float32)
        else:
            packed[name] = array
    return packed


def unpack(packed):
    """The float32 arrays of a compact form.

    >>> unpack({"w": np.array([[127, -64]], dtype=np.int8), "w.scale": np.array([0.5], dtype=np.float32)})["w"].tolist()
    [[63.5, -32.0]]
    """
    scales = {f"{name}.scale" for name, array in packed.items() if array.dtype == np.int8}
    return {
        name: array * packed[f"{name}.scale"][:, None] if array.dtype == np.int8 else array
        for name, array in packed.items()
        if name not in scales
    }
