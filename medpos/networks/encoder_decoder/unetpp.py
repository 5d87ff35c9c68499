"""Segment with UNet++, and with the two U-Nets that its paper compares it with.

References:
    Z. Zhou et al., "UNet++: A Nested U-Net Architecture for Medical Image Segmentation", DLMIA 2018, equation 1,
    figure 1 and table 3; https://arxiv.org/abs/1807.10165. The authors' code:
    https://github.com/MrGiovanni/UNetPlusPlus.

Node X(i, j) is at depth i, j steps to the right of the encoder. Its inputs are X(i - 1, 0) pooled or X(i + 1, j - 1)
upsampled, and all nodes to its left.

Resolved where the paper is silent, wrong or differs from the code:
    - Concatenation [upsampled, X(i, 0), ..., X(i, j - 1)], the code's order; equation 1 has the upsampled one last.
    - H is two of 3 x 3 convolution, ReLU and dropout 0.5, without batch normalization; upsampling is a 2 x 2 transposed
      convolution to the channels of the row, without ReLU (code).
    - "Between X(0,0) and X(1,3)" in the text means X(0,4), because that pathway has three convolution nodes.
    - Initialization: He for the convolutions; Glorot uniform, the default of the authors' Keras, for the transposed
      ones.
    - The wide U-Net is the code's, 9,282,246 parameters; no width has the table's 9.13 M.
    - The accurate mode averages the outputs, which are probabilities, so the network returns the logit of their mean.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.networks.layers.blocks import check_size, initialize_he, scale_channels

CHANNELS = (32, 64, 128, 256, 512)  # channels of the nodes X(i, .)
WIDE_CHANNELS = (35, 70, 140, 280, 560)
# Sorted by diagonals i + j; the first k + 1 diagonals are the network pruned to level k.
NESTED = tuple(f"x{diagonal - j}{j}" for diagonal in range(5) for j in range(diagonal + 1))
PLAIN = ("x00", "x10", "x20", "x30", "x40", "x31", "x22", "x13", "x04")
HEADS = ("x01", "x02", "x03", "x04")
MODES = ("accurate", "fast")
DROPOUT = 0.5


class _Node(nn.Module):
    """Compute X(i, j): resample the neighbor, concatenate it with the nodes to the left, and convolve twice."""

    def __init__(self, resample: nn.Module, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.resample = resample
        self.unit = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Dropout(DROPOUT),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Dropout(DROPOUT),
        )

    # TorchScript has no unpacking into a list.
    def forward(self, neighbor: Tensor, left: list[Tensor]) -> Tensor:
        return self.unit(torch.cat([self.resample(neighbor)] + left, dim=1))  # noqa: RUF005


class _Nodes(nn.Module):
    """Compute the named nodes of equation 1, and logits by a 1 x 1 convolution on nodes of the first row."""

    def __init__(
        self, names: tuple[str, ...], heads: tuple[str, ...], in_channels: int, out_channels: int, channels: list[int]
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.stride = 16
        self.nodes = nn.ModuleDict()
        lengths = [0] * len(channels)  # number of nodes in each row so far
        for name in names:
            row = int(name[1])
            if lengths[row]:
                resample, entering = nn.ConvTranspose2d(channels[row + 1], channels[row], 2, stride=2), channels[row]
                nn.init.xavier_uniform_(resample.weight)
                nn.init.zeros_(resample.bias)
            else:
                resample = nn.MaxPool2d(2) if row else nn.Identity()
                entering = channels[row - 1] if row else in_channels
            self.nodes[name] = _Node(resample, entering + lengths[row] * channels[row], channels[row])
            lengths[row] += 1
        self.heads = nn.ModuleDict({name: nn.Conv2d(channels[0], out_channels, 1) for name in heads})
        initialize_he(self)

    def logits(self, image: Tensor) -> list[Tensor]:
        """Compute the logits [N, out_channels, H, W] of each head."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            check_size(image, self.stride, self.stride, type(self).__name__)
        rows: list[list[Tensor]] = []
        for name, node in self.nodes.items():
            i, j = int(name[1]), int(name[2])
            if j > 0:
                neighbor = rows[i + 1][-1]
            else:
                neighbor = image if i == 0 else rows[i - 1][0]
                rows.append([])
            rows[i].append(node(neighbor, rows[i]))
        first = len(rows[0]) - len(self.heads)
        logits: list[Tensor] = []
        for index, head in enumerate(self.heads.values()):
            logits.append(head(rows[0][first + index]))
        return logits


class UNetPlusPlus(_Nodes):
    """Segment with UNet++, with the node names of the paper's figure, ``x04`` for X(0, 4).

    Args:
        in_channels: channels of the image.
        out_channels: 1 for the probability of the foreground (sigmoid), or the number of classes (softmax).
        deep_supervision: whether X(0, 1) to X(0, 4) have heads, instead of X(0, 4) alone.
        mode: output of evaluation with deep supervision: ``"accurate"``, the mean of the four heads, or ``"fast"``,
            the head of X(0, 4) alone; :meth:`pruned` builds faster networks.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: unknown mode; a width that isn't above 0; in ``forward``, H or W that isn't a multiple of 16.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        deep_supervision: bool = False,
        mode: str = "accurate",
        width: float = 1.0,
    ) -> None:
        if mode not in MODES:
            raise InputError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
        channels = [scale_channels(paper_channels, width) for paper_channels in CHANNELS]
        super().__init__(NESTED, HEADS if deep_supervision else HEADS[-1:], in_channels, out_channels, channels)
        self.out_channels = out_channels
        self.deep_supervision = deep_supervision
        self.mode = mode

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] to logits [N, out_channels, H, W].

        In training with deep supervision, map it to [N, 4, out_channels, H, W], the logits of X(0, 1) to X(0, 4), for a
        loss on each.
        """
        logits = self.logits(image)
        if not self.deep_supervision:
            return logits[0]
        if self.training:
            return torch.stack(logits, dim=1)
        return logits[-1] if self.mode == "fast" else _logit_of_mean(torch.stack(logits, dim=1), self.out_channels)

    def pruned(self, level: int) -> "UNetPlusPlus":
        """Copy the network without the nodes that X(0, level) doesn't need, for inference.

        Args:
            level: level k of L^k, 1 to 4 with deep supervision; without it 4, because only X(0, 4) has a trained head.

        Returns:
            A network with the nodes i + j <= level and one head. Its output is that head's, bit for bit. H and W only
            need to be multiples of 2^level.

        Raises:
            InputError: the network has no head at this level.
        """
        kept = f"x0{level}"
        if kept not in self.heads:
            levels = ", ".join(name[2:] for name in self.heads)
            raise InputError(f"level: expected one of {levels}, got {level}; train with deep_supervision for 1 to 4")
        pruned = copy.deepcopy(self)
        for name in [name for name in pruned.nodes if int(name[1]) + int(name[2]) > level]:
            del pruned.nodes[name]
        for name in [name for name in pruned.heads if name != kept]:
            del pruned.heads[name]
        pruned.deep_supervision, pruned.stride = False, 2**level
        return pruned


class PlainUNet(_Nodes):
    """Segment with the U-Net that UNet++ is compared with: only the nodes X(i, 0) and X(i, 4 - i).

    Args:
        in_channels: channels of the image.
        out_channels: 1 for the probability of the foreground (sigmoid), or the number of classes (softmax).
        wide: whether to build the paper's wide U-Net, with 35 to 560 channels instead of 32 to 512 and about as many
            parameters as UNet++.
        width: factor of the channels inside, 1 for the paper's.

    Raises:
        InputError: a width that isn't above 0; in ``forward``, H or W that isn't a multiple of 16.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 1, wide: bool = False, width: float = 1.0) -> None:
        channels = [scale_channels(paper_channels, width) for paper_channels in (WIDE_CHANNELS if wide else CHANNELS)]
        super().__init__(PLAIN, HEADS[-1:], in_channels, out_channels, channels)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [N, in_channels, H, W] to logits [N, out_channels, H, W]."""
        return self.logits(image)[0]


def _logit_of_mean(logits: Tensor, out_channels: int) -> Tensor:
    """Map the logits [N, heads, C, H, W] of the heads to the logits [N, C, H, W] of their mean probabilities."""
    if out_channels == 1:
        return F.logsigmoid(logits).logsumexp(1) - F.logsigmoid(-logits).logsumexp(1)
    return F.log_softmax(logits, dim=2).logsumexp(1)
