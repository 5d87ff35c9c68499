import pytest
import torch

from medpos.core.device import check_device
from medpos.core.errors import InputError, find_input_error


def test_a_device_of_this_machine(monkeypatch):
    assert check_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check_device("cuda") == torch.device("cuda")
    assert check_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("gpu", 1, "^--device: expected cpu, cuda or cuda:N, got 'gpu'; give one of these$"),
        ("cuda:7", 0, "^--device: expected cpu, as there is no CUDA device, got 'cuda:7'; leave --device out$"),
        ("cuda:7", 2, "^--device: expected cuda:N with N from 0 to 1, got 'cuda:7'; give one of these$"),
    ],
)
def test_another_device_is_refused(monkeypatch, name, count, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(InputError, match=message):
        check_device(name)


def test_the_input_error_behind_another_error():
    bad = InputError("a.png: expected a picture")
    wrapped, while_handled, other = RuntimeError("failed"), RuntimeError("failed"), RuntimeError("failed")
    wrapped.__cause__ = bad
    while_handled.__context__ = wrapped
    other.__cause__ = KeyError("a")
    assert find_input_error(bad) is find_input_error(wrapped) is find_input_error(while_handled) is bad
    assert find_input_error(other) is None
