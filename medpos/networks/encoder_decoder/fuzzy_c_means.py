"""Segment a brain by fuzzy c-means, the baseline of U-SegNet's table 1, which learns nothing but the order of tissues.

Reference:
    J. C. Bezdek, "Pattern Recognition with Fuzzy Objective Function Algorithms", 1981. P. Kumar et al., "U-SegNet",
    ICIP 2018, table 1 (Dice GM 83.1, WM 91.8, CSF 21.7); https://arxiv.org/abs/1806.04429.

Resolved where the table gives a name alone:
    - The gray values of each volume are clustered by themselves, with an exponent of 2 and one cluster for each tissue.
    - Skull-stripped images are 0 outside the brain: these voxels are background and in no cluster.
    - The clusters begin at the mean gray values of the tissues in the training volumes, and are matched to them by
      order.
"""

from typing import Any

import torch
from torch import Tensor, nn

from medpos.core.errors import InputError

_NEAREST = 1e-12  # squared distance of a value that lies on a center
_LEAST = 1e-7  # probability whose logarithm stands for none


class FuzzyCMeans(nn.Module):
    """Assign the voxels of a volume to clusters of gray values.

    Args:
        out_channels: classes, background first.
        fuzziness: exponent of the memberships, above 1; near 1 the clusters are those of k-means.
        iterations: maximum number of updates of the centers.
        tolerance: change of the centers below which the updates end.

    Attributes:
        means: mean gray value of each class in the training images, [classes]; evenly spaced before there are any.

    Raises:
        InputError: an exponent that isn't above 1; in ``add``, labels that aren't classes.
    """

    in_channels = 1
    means: Tensor

    def __init__(
        self, out_channels: int = 4, fuzziness: float = 2.0, iterations: int = 300, tolerance: float = 1e-6
    ) -> None:
        super().__init__()
        if not fuzziness > 1:
            raise InputError(f"fuzziness: expected a number above 1, got {fuzziness}; 2 is usual")
        self.fuzziness, self.iterations, self.tolerance = fuzziness, iterations, tolerance
        self.register_buffer("means", torch.linspace(0, 1, out_channels, dtype=torch.float64))
        self._totals = torch.zeros(2, out_channels, dtype=torch.float64)

    def add(self, images: Tensor, labels: Tensor) -> None:
        """Add images to the mean gray values.

        Args:
            images: gray values [N, 1, ...].
            labels: their classes, [N, ...].
        """
        classes, values = labels.reshape(-1).long(), images[:, 0].reshape(-1).double()
        if classes.min() < 0 or classes.max() >= len(self.means):
            found = f"{int(classes.min())} to {int(classes.max())}"
            raise InputError(f"FuzzyCMeans: expected label values 0 to {len(self.means) - 1}, got {found}")
        self._totals = self._totals.to(values.device)
        self._totals[0] += torch.bincount(classes, values, len(self.means))
        self._totals[1] += torch.bincount(classes, minlength=len(self.means))
        known = self._totals[1] > 0
        self.means[known] = (self._totals[0] / self._totals[1])[known].to(self.means)

    def forward(self, image: Tensor) -> Tensor:
        """Map images [N, 1, ...], 0 outside the brain, to logarithms of the memberships, [N, classes, ...]."""
        return torch.stack([self._segment(one[0]) for one in image])

    def _segment(self, values: Tensor) -> Tensor:
        inside = values > 0
        found = torch.zeros(len(self.means), *values.shape, device=values.device)
        if inside.any():
            different, counts = values[inside].double().unique(return_counts=True)
            centers = self.find_centers(different, counts)
            found[1:, inside] = self._memberships(values[inside].double(), centers).float()
        found[0] = ~inside
        return found.clamp(min=_LEAST).log()

    def find_centers(self, values: Tensor, counts: Tensor) -> Tensor:
        """Cluster gray values.

        Args:
            values: different gray values, [values].
            counts: number of voxels of each, [values].

        Returns:
            Center of each class but the background, in the order of their means.
        """
        start = self.means[1:].to(values)
        centers = start.clone()
        for _ in range(self.iterations):
            weights = self._memberships(values, centers) ** self.fuzziness * counts
            before, centers = centers, (weights * values).sum(1) / weights.sum(1)
            if (centers - before).abs().max() < self.tolerance:
                break
        return centers.sort().values[start.argsort().argsort()]

    def _memberships(self, values: Tensor, centers: Tensor) -> Tensor:
        """Return the membership of each value in each cluster, [clusters, values]; they add up to 1."""
        squared = (values - centers[:, None]).square().clamp(min=_NEAREST)
        closeness = squared ** (-1 / (self.fuzziness - 1))
        return closeness / closeness.sum(0)


def add_tissues(engine: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add a batch to the mean gray values of a FuzzyCMeans: one iteration of a MONAI trainer.

    Args:
        engine: trainer of a FuzzyCMeans.
        batch: batch with the entries ``image`` [N, 1, H, W] and ``label`` [N, H, W].

    Returns:
        An empty dictionary, because there is no output.
    """
    engine.network.add(*(batch[key].to(engine.state.device) for key in ("image", "label")))
    return {}
