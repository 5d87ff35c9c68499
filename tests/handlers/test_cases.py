"""Keep the entropy of clean cases."""

import numpy as np
import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from scipy import stats

from medpos.handlers.cases import Cases
from medpos.runs.cases import CaseView, load_cases, save_cases


def measured(logits, **moved):
    engine = Engine(lambda engine, batch: None)
    engine.register_events(*IterationEvents)
    Cases(None).attach(engine)
    engine.state.batch = {key: [0] * len(logits) for key in ("severity", "shift_x", "shift_y")} | moved
    engine.state.output = {"pred": logits}
    engine.fire_event(IterationEvents.FORWARD_COMPLETED)
    return engine.state.output.get("entropy")


def test_the_entropy_of_clean_images_is_that_of_the_probabilities():
    logits = torch.randn((2, 4, 5, 6), generator=torch.Generator().manual_seed(0)) * 3
    found = measured(logits)
    wanted = stats.entropy(logits.softmax(1).numpy(), base=4, axis=1) * 255
    assert found.dtype == torch.uint8
    assert np.abs(found.numpy() - wanted).max() <= 0.51
    assert np.ptp(found.numpy()) > 100
    one = measured(logits, shift_x=torch.tensor([0, 8]))
    assert torch.equal(one[0], found[0])
    assert measured(logits, severity=torch.tensor([1, 2])) is None
    assert measured(torch.full((1, 2, 2, 2), float("nan"))).eq(255).all()


def test_cases_with_and_without_entropy_are_read_as_written(tmp_path):
    maps = np.random.default_rng(0).integers(0, 255, (4, 6, 5), np.uint8)
    cases = [CaseView("a", "a", "", (1.0, 2.0), *maps[:3], entropy) for entropy in (maps[3], None)]
    save_cases(cases, tmp_path / "cases.npz")
    kept, without = load_cases(tmp_path / "cases.npz")
    assert np.array_equal(kept.entropy, maps[3])
    assert without.entropy is None
    assert np.array_equal(without.prediction, maps[2])
