"""Draw the score and the belief of a class after each step of a CRF's mean field.

Reference:
    L.-C. Chen et al., "DeepLab", PAMI 2018, figure 5.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from medpos.core.labels import Label
from medpos.plotting.style import styled

Array = npt.NDArray[Any]
PANEL_INCHES = 1.9
SMALLEST = 1e-10  # of a belief whose logarithm is a score


def center_scores(belief: Array) -> Array:
    """Compute the scores whose softmax is a belief, with a mean of 0 over the classes, which softmax ignores.

    Args:
        belief: probabilities [classes, X, Y].
    """
    scores: Array = np.log(np.maximum(belief, SMALLEST))
    scores -= scores.mean(axis=0)
    return scores


def draw_mean_field(image: Array, truth: Array, beliefs: Mapping[int, Array], label: Label, note: str = "") -> Figure:
    """Draw image and truth, and in each further column the score above the belief of one class after some steps.

    Args:
        image: image [C, X, Y] in [0, 1], shown in gray.
        truth: label map [X, Y].
        beliefs: probabilities [classes, X, Y] by the number of steps; those of 0 steps are the network's.
        label: the class.
        note: title of the figure, such as that the images are phantoms.
    """
    scores = {step: center_scores(belief)[label.index] for step, belief in beliefs.items()}
    low, high = min(each.min() for each in scores.values()), max(each.max() for each in scores.values())
    columns, height = 1 + len(beliefs), PANEL_INCHES * image.shape[2] / image.shape[1]
    with styled():
        drawn = Figure(figsize=(PANEL_INCHES * columns, 2 * height + 0.6), layout="constrained")
        axes = drawn.subplots(2, columns)
        for each in axes.flat:
            each.set(xticks=[], yticks=[])
            each.spines[:].set_visible(False)
        axes[0, 0].imshow(image.mean(axis=0).T, cmap="gray", vmin=0, vmax=1)
        axes[1, 0].imshow((truth == label.index).T, cmap="gray", vmin=0, vmax=1)
        axes[0, 0].set_title("image")
        axes[1, 0].set_title(f"truth: {label.title}")
        for (step, belief), (above, below) in zip(beliefs.items(), axes.T[1:], strict=True):
            above.set_title("network" if step == 0 else f"CRF, step {step}")
            above.imshow(scores[step].T, vmin=low, vmax=high)
            below.imshow(belief[label.index].T, vmin=0, vmax=1)
        axes[0, 1].set_ylabel("score")
        axes[1, 1].set_ylabel("belief")
        drawn.suptitle(note)
    return drawn
