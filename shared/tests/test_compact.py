"""The compact form of weights: how exact it is, and what it refuses."""

import numpy as np
import pytest

from shared.compact import pack, unpack


def test_numbers_are_off_by_half_a_step_at_most():
    rows = np.random.default_rng(0).normal(size=(50, 40)) * np.logspace(-6, 6, 50)[:, None]
    arrays = {
        "w": rows.astype(np.float32),
        "b": np.array([1.5, -2.5], dtype=np.float32),
        "w.scale.b": np.ones(3, dtype=np.float32),
    }
    packed = pack(arrays)
    assert packed["w"].dtype == np.int8 and packed["w.scale"].shape == (50,)
    back = unpack(packed)
    assert back.keys() == arrays.keys() and back["w"].dtype == np.float32
    steps = np.abs(arrays["w"]).max(axis=1, keepdims=True) / 127
    assert (np.abs(back["w"] - arrays["w"]) <= steps * 0.501).all()
    assert np.array_equal(back["b"], arrays["b"]) and np.array_equal(back["w.scale.b"], arrays["w.scale.b"])


def test_rows_of_zeros_stay_zeros_and_nan_is_refused():
    assert not unpack(pack({"w": np.zeros((2, 3), dtype=np.float32)}))["w"].any()
    with pytest.raises(ValueError, match="w holds a number that is not finite"):
        pack({"w": np.array([[1.0, np.nan]], dtype=np.float32)})
