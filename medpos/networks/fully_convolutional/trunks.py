"""Build the fully convolutional networks that have a trunk for Caffe's weights and one for torchvision's.

FCN-AlexNet and FCN-GoogLeNet share this module: the choice of the trunk, the score layer and the upsampling by 32.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medpos.core.errors import InputError
from medpos.networks.fully_convolutional.fcn import Upsampling, check_upsampling, crop, head_names, score_layer
from medpos.networks.layers.blocks import check_size, initialize_he
from medpos.networks.layers.published import load_layers

TRUNKS = ("caffe", "torchvision")


class TrunkFCN(nn.Module):
    """Upsample the scores of a trunk by 32; a subclass adds the layers of the trunk and computes its features.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        trunk: ``"caffe"`` or ``"torchvision"``.
        upsampling: trained upsampling layers, as in :class:`medpos.networks.FCN32s`.
        dropout: dropout probability before the score layer, or after each dense layer.
        width: factor of the channels inside, 1 for the paper's.

    Attributes:
        offset: px from the top left of the upsampled scores to the top left of the image.

    Raises:
        InputError: unknown trunk or upsampling; a width that isn't above 0; in ``forward``, an input that isn't
            [N, C, H, W].
    """

    offset: int

    def __init__(
        self, in_channels: int, out_channels: int, trunk: str, upsampling: str, dropout: float, width: float
    ) -> None:
        super().__init__()
        check_upsampling(upsampling)
        if trunk not in TRUNKS:
            raise InputError(f"trunk: expected one of {', '.join(TRUNKS)}, got {trunk!r}")
        self.in_channels, self.trunk = in_channels, trunk
        last = self._add_trunk(dropout, width)
        initialize_he(self)
        self.score_fr = score_layer(last, out_channels)
        self.upscore = Upsampling(out_channels, 63, 32, upsampling == "learned")

    def _add_trunk(self, dropout: float, width: float) -> int:
        """Add the layers of the trunk and return the channels of its features."""
        raise NotImplementedError

    def _features(self, image: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] of any size to logits [N, out_channels, H, W]."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, 1, 1, type(self).__name__)
        return crop(self.upscore(self.score_fr(self._features(image))), self.offset, image)

    def _load(self, weights: Mapping[str, Tensor], names: Mapping[str, tuple[str, ...]]) -> list[str]:
        """Load layers of the trunk, and those after it where the weights have them; name the other trunk on failure."""
        try:
            return load_layers(self, weights, {**names, **head_names(self, weights)})
        except InputError as error:
            other = next(name for name in TRUNKS if name != self.trunk)
            raise InputError(
                f"{error}; trunk is {self.trunk!r}: for the weights of {other} set it to {other!r}"
            ) from error
