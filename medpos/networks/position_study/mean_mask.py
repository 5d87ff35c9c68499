"""The position study's baseline: the mean of the training masks, whatever the image shows.

Reference:
    "How Can CNNs Use Image Position for Segmentation?", section 3.2 and Table 1
    (mean Dice 0.8124 on JSRT, 0.158 on ACDC).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError


class MeanMask(nn.Module):
    """The mean one-hot mask as a model: its ``argmax`` over the classes is the most frequent class of each pixel.

    Args:
        out_channels: classes, the background among them.
        size: H and W, for programs that only load weights of the right shape; such a mask is all background at first.

    Attributes:
        probability: buffer [out_channels, H, W]; H and W are 0 until ``size``, ``fit`` or ``load_state_dict`` gives
            them.
    """

    probability: Tensor

    def __init__(self, out_channels: int = 4, size: Sequence[int] = (0, 0)) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.register_buffer("probability", torch.zeros(out_channels, *size))
        self._total, self._counted = torch.empty(0), 0

    def fit(self, labels: Iterable[Tensor]) -> "MeanMask":
        """Takes the mean of label maps, forgetting what it had.

        Args:
            labels: integer maps [H, W] or [1, H, W] of one size, values 0 to out_channels - 1.

        Returns:
            The model itself.

        Raises:
            InputError: no label map, different sizes, or values that aren't classes.
        """
        self._counted = 0
        for label in labels:
            self.add(torch.as_tensor(label).reshape(1, *label.shape[-2:]))
        if not self._counted:
            raise InputError("MeanMask: no label map was given; needed is at least one training case")
        return self

    def add(self, labels: Tensor) -> None:
        """Takes a batch of label maps [N, H, W] into the mean; values and errors as in ``fit``."""
        labels = labels.long()
        count, size = labels.shape[0], tuple(labels.shape[-2:])
        if labels.min() < 0 or labels.max() >= self.out_channels:
            found = f"values {int(labels.min())} to {int(labels.max())}"
            raise InputError(f"MeanMask: a label map has {found}, needed are 0 to {self.out_channels - 1}")
        if not self._counted:
            self._total = torch.zeros(self.out_channels, *size, dtype=torch.float64, device=labels.device)
        elif size != tuple(self._total.shape[1:]):
            first = tuple(self._total.shape[1:])
            raise InputError(f"MeanMask: a label map is {size} px, the first was {first}; resize all to one size")
        self._counted += count
        self._total += F.one_hot(labels, self.out_channels).sum(dim=0).permute(2, 0, 1)
        self.probability = (self._total / self._counted).float().to(self.probability.device)

    def forward(self, image: Tensor) -> Tensor:
        """Maps any image [N, C, H, W] to the log-probabilities [N, out_channels, H, W] of the training masks.

        Raises:
            InputError: not fitted, or the image has another size than the masks.
        """
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            self._check(image)
        # The clamp keeps the logarithm finite; no class this rare is ever the most likely one.
        return self.probability.clamp(min=1e-7).log().repeat(image.shape[0], 1, 1, 1)

    def _check(self, image: Tensor) -> None:
        if self.probability.numel() == 0:
            raise InputError("MeanMask: not fitted; call fit(training label maps) or load a state dict first")
        given, needed = tuple(image.shape[-2:]), tuple(self.probability.shape[-2:])
        if given != needed:
            raise InputError(
                f"MeanMask: the image is {given[0]} x {given[1]} px, the mean mask {needed[0]} x {needed[1]}; "
                "resize the image, or fit again"
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}probability")
        # A mask of another number of classes is left to PyTorch, which refuses it.
        if saved is not None and saved.dim() == 3 and saved.shape[0] == self.out_channels:
            self.probability = self.probability.new_empty(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


def count_labels(engine: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """One iteration of a MONAI trainer whose network is a MeanMask: counts ``label`` [N, H, W], learns nothing else.

    Args:
        engine: the trainer.
        batch: holds ``label``.

    Returns:
        No outputs.
    """
    engine.network.add(batch["label"].to(engine.state.device))
    return {}
