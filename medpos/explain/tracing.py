"""Follow the receptive fields of rows through every operation of a network while it runs."""

from dataclasses import replace
from typing import Any

import torch

from medpos.core.device import TorchDispatchMode, arguments_by_name
from medpos.explain.field_rules import CONSTANTS, LAYOUT, rule_of, tensors_in
from medpos.explain.receptive_field import ReceptiveFields


class ReceptiveFieldTracer(TorchDispatchMode):
    """Record the receptive fields of the result of every operation that runs inside this context.

    Args:
        image: input [N, C, X, Y] of the network; rows are counted along X.
    """

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()
        # The tensor is kept too, or another one could get its id.
        self._known = {id(image): (image, ReceptiveFields.of_image(image.shape[2]))}

    def fields_of(self, features: torch.Tensor) -> ReceptiveFields | None:
        """Return the fields of a tensor's rows; None where it doesn't depend on the image."""
        return self._known[id(features)][1] if id(features) in self._known else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and record the fields of its result."""
        result = func(*args, **(kwargs or {}))
        values = arguments_by_name(func, args, kwargs or {})
        found = [fields for fields in map(self.fields_of, tensors_in(values.values())) if fields is not None]
        if found and func.overloadpacket.__name__ not in CONSTANTS:
            self._record(func, result, rule_of(func)(values, found, result))
        return result

    def _record(self, func: Any, result: Any, fields: ReceptiveFields) -> None:
        name = func.overloadpacket.__name__
        tensors = tensors_in(result if isinstance(result, tuple | list) else [result])
        if name == "max_pool2d_with_indices":
            self._known[id(tensors[1])] = (tensors[1], fields)
        for tensor in tensors if name in ("split", "unbind", "split_with_sizes") else tensors[:1]:
            self._known[id(tensor)] = (tensor, fields if name in LAYOUT else replace(fields, taps=None))
