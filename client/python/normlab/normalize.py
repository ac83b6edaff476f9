"""Normalizers on numpy arrays, without a job."""
from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional

import numpy as np
import numpy.typing as npt

from .v1 import normalization_pb2

Array = npt.NDArray[np.float32]


class Normalized(NamedTuple):
    """What a normalizer gives. input_gradient is None and parameter_gradients empty without an output gradient."""
    output: Array
    statistics: Dict[str, Array]
    input_gradient: Optional[Array]
    parameter_gradients: Dict[str, Array]
    implementation: str


def to_tensor(array: Any) -> normalization_pb2.Tensor:
    data = np.ascontiguousarray(array, np.float32)
    return normalization_pb2.Tensor(dims=data.shape, values=data.ravel())


def to_array(tensor: normalization_pb2.Tensor) -> Array:
    return np.array(tensor.values, np.float32).reshape(tuple(tensor.dims))


def from_response(response: normalization_pb2.NormalizeResponse) -> Normalized:
    return Normalized(
        output=to_array(response.output),
        statistics={name: to_array(tensor) for name, tensor in response.statistics.items()},
        input_gradient=to_array(response.input_gradient) if response.HasField('input_gradient') else None,
        parameter_gradients={name: to_array(tensor) for name, tensor in response.parameter_gradients.items()},
        implementation=response.implementation)
