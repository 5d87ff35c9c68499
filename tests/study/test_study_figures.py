"""Draw the figures of a study."""

import numpy as np

from medpos.study.figures import histogram
from medpos.study.intensities import Intensities


def test_a_histogram_has_readable_ticks():
    edges = np.linspace(-2, 2, 5)
    found = Intensities("jsrt", False, edges, np.array([0.001, 0.1, 0.5, 0.02]), np.array([[-1.0, 1.0]]), 1)
    figure = histogram([found], [1.0, 100.0]).figure
    figure.draw_without_rendering()
    [axes] = figure.axes
    texts = [label.get_text() for label in axes.get_yticklabels()]
    assert "0.01" in texts
    assert not [text for text in texts if "$" in text]
    assert len(axes.lines) == 2  # -1 and 1; 100 lies outside
