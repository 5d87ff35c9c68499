"""Check which classes a reliability diagram shows where there are many."""

from medpos.plotting.reliability import draw_reliability


def points(pixels, frequency):
    empty = {"low": 0.5, "high": 1.0, "probability": float("nan"), "frequency": float("nan"), "pixels": 0}
    return [{"low": 0.0, "high": 0.5, "probability": 0.2, "frequency": frequency, "pixels": pixels}, empty]


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_of_many_classes_the_largest_are_drawn_in_their_order():
    figure = draw_reliability({f"class_{n}": points(100, 0.01 * n) for n in range(14)})
    assert titles(figure) == [f"class {n}" for n in range(2, 14)]
    assert figure.get_suptitle() == "the largest 12 of 14"


def test_few_classes_are_all_drawn():
    figure = draw_reliability({f"class_{n}": points(100, 0.01 * n) for n in range(3)})
    assert titles(figure) == ["class 0", "class 1", "class 2"]
    assert figure.get_suptitle() == ""
