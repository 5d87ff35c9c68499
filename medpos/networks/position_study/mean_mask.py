"""Predict the mean of the training masks for every image: the position study's baseline.

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
    """Predict the mean one-hot mask; its ``argmax`` over the classes is the most frequent class of each pixel.

    Args:
        out_channels: classes, including the background.
        size: H and W in px, for programs that can only load weights of the right shape; before loading, the mask is all
            background.

    Attributes:
        probability: buffer [out_channels, H, W]; H and W are 0 until ``size``, ``fit`` or ``load_state_dict`` sets
            them.
    """

    probability: Tensor

    def __init__(self, out_channels: int = 4, size: Sequence[int] = (0, 0)) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.register_buffer("probability", torch.zeros(out_channels, *size))
        self.register_load_state_dict_pre_hook(_take_size)
        self._total, self._counted = torch.empty(0), 0

    def fit(self, labels: Iterable[Tensor]) -> "MeanMask":
        """Compute the mean of label maps and discard the previous one.

        Args:
            labels: integer label maps [H, W] or [1, H, W] of one size, values 0 to out_channels - 1.

        Returns:
            The model itself.

        Raises:
            InputError: there is no label map, sizes differ, or values aren't classes.
        """
        self._counted = 0
        for label in labels:
            self.add(torch.as_tensor(label).reshape(1, *label.shape[-2:]))
        if not self._counted:
            raise InputError("MeanMask: expected at least one label map, got none; give a training case")
        return self

    def add(self, labels: Tensor) -> None:
        """Add a batch of label maps [N, H, W] to the mean; values and errors are those of ``fit``."""
        labels = labels.long()
        count, size = labels.shape[0], tuple(labels.shape[-2:])
        if labels.min() < 0 or labels.max() >= self.out_channels:
            found = f"{int(labels.min())} to {int(labels.max())}"
            raise InputError(f"MeanMask: expected label values 0 to {self.out_channels - 1}, got {found}")
        if not self._counted:
            self._total = torch.zeros(self.out_channels, *size, dtype=torch.float64, device=labels.device)
        elif size != tuple(self._total.shape[1:]):
            first = tuple(self._total.shape[1:])
            raise InputError(f"MeanMask: expected a label map of {first} px, as the first, got {size} px; resize all")
        self._counted += count
        self._total += F.one_hot(labels, self.out_channels).sum(dim=0).permute(2, 0, 1)
        self.probability = (self._total / self._counted).float().to(self.probability.device)

    def forward(self, image: Tensor) -> Tensor:
        """Map any image [N, C, H, W] to the log-probabilities [N, out_channels, H, W] of the training masks.

        Raises:
            InputError: the model isn't fitted, or the image has another size than the masks.
        """
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            self._check(image)
        # The clamp keeps the logarithm finite; a class this rare is never the most likely one.
        return self.probability.clamp(min=1e-7).log().repeat(image.shape[0], 1, 1, 1)

    def _check(self, image: Tensor) -> None:
        if self.probability.numel() == 0:
            raise InputError("MeanMask: the model is not fitted; call fit(label maps) or load a state dict first")
        given, fitted = tuple(image.shape[-2:]), tuple(self.probability.shape[-2:])
        if given != fitted:
            raise InputError(
                f"MeanMask: expected an image of {fitted[0]} x {fitted[1]} px, the size of the mean mask, got "
                f"{given[0]} x {given[1]} px; resize the image, or fit again"
            )


def _take_size(mask: MeanMask, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give the mask the height and width of the one that is about to be loaded."""
    saved = state_dict.get(f"{prefix}probability")
    # PyTorch refuses a mask with another number of classes.
    if saved is not None and saved.dim() == 3 and saved.shape[0] == mask.out_channels:
        mask.probability = mask.probability.new_empty(saved.shape)


def count_labels(engine: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add a batch of label maps to a MeanMask: one iteration of a MONAI trainer.

    Args:
        engine: trainer of a MeanMask.
        batch: batch with the entry ``label``, [N, H, W].

    Returns:
        An empty dictionary, because there is no output.
    """
    engine.network.add(batch["label"].to(engine.state.device))
    return {}
