"""Show the constructions of a lecture on segmentation networks, each as a small function.

Reference:
    G. Boracchi, "Convolutional Neural Networks for Semantic Segmentation" (lecture).

The bundle ``jsrt_patch`` trains a classifier of patches and segments with it; the other functions are here to be read
and tried (notebook 04), and are tested against PyTorch.

- :mod:`~medpos.networks.lecture.patch_classifier`: the classifier of patches.
- :mod:`~medpos.networks.lecture.whole_images`: turn a classifier of patches into a network for whole images, and get
  one value per pixel by shift and stitch or by atrous filters.
- :mod:`~medpos.networks.lecture.upsampling`: upsample by repetition, by a bed of nails and by transposed convolution.
- :mod:`~medpos.networks.lecture.patch_training`: compare the loss of all patches with the loss of the whole image.

>>> import torch
>>> from torch import nn
>>> from medpos.networks.lecture import convolutionalize
>>> classifier = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))  # takes 8 x 8 px
>>> convolutionalize(classifier, (6, 6))(torch.zeros(1, 1, 20, 30)).shape
torch.Size([1, 2, 13, 23])
"""

from medpos.networks.lecture.patch_classifier import PatchClassifier
from medpos.networks.lecture.patch_training import masked_batch_size, patch_loss
from medpos.networks.lecture.upsampling import bed_of_nails, nearest, transposed_convolution
from medpos.networks.lecture.whole_images import convolutionalize, make_atrous, shift_and_stitch

__all__ = [
    "PatchClassifier",
    "bed_of_nails",
    "convolutionalize",
    "make_atrous",
    "masked_batch_size",
    "nearest",
    "patch_loss",
    "shift_and_stitch",
    "transposed_convolution",
]
