"""Read the entry of a class in dataset.json."""

import pytest

from medpos.core.labels import Label


@pytest.mark.parametrize("index", [float("inf"), float("nan"), 1.5])
def test_an_index_is_a_whole_number(index):
    with pytest.raises(ValueError, match="expected a whole number as a label's index"):
        Label.from_json(index, "heart", "#D55E00")
    assert Label.from_json(3.0, "heart", "#D55E00").index == 3
