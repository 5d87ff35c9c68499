"""Read users' files that name objects by their former modules."""

import importlib
from pydoc import locate

import pytest

from medpos.core.moved import MOVED, RENAMED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_module_has_the_names_of_the_new_one(old):
    new, module = importlib.import_module(MOVED[old]), importlib.import_module(old)
    public = [name for name in vars(new) if not name.startswith("_")]
    assert public
    assert all(getattr(module, name) is getattr(new, name) for name in public)


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_is_the_new_one(old):
    new = locate(RENAMED[old])
    assert new is not None
    assert locate(old) is new


def test_names_in_bundles_of_earlier_versions():
    names = """medpos.classification.ClassifiedImages medpos.classification.ImageClasses medpos.classification.TopK
        medpos.classification.ClassTable medpos.conditions.named medpos.crf_evaluation.study medpos.data.CachedDataset
        medpos.data.DataFolder medpos.data.EpochSampler medpos.bundle.start medpos.bundle.try_data
        medpos.bundle.try_image_size medpos.bundle.resolved medpos.handlers.checkpoint.train
        medpos.inference.FastInferer medpos.inference.memory_format medpos.inference.DenseCRF.of_paper
        medpos.inference.search medpos.losses.BCEDice medpos.parameter_groups.parameter_groups medpos.patches.Patches
        medpos.pretrained.begin medpos.pretrained.COLOURS medpos.pruning.prune medpos.runs.RunFolder
        medpos.schedules.cosine medpos.schedules.epochs medpos.schedules.poly medpos.schedules.step
        medpos.training_data.TrainingData.of_json medpos.predict.bundled.LoadUpright
        medpos.predict.bundled.SavePredictions medpos.predict.bundled.ToOwnGrid data_prep.ready.ready"""
    assert [name for name in names.split() if locate(name) is None] == []


def test_an_unknown_name_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("medpos.never")
    with pytest.raises(AttributeError):
        _ = importlib.import_module("medpos.inference").Never
    with pytest.raises(AttributeError, match=r"module 'medpos.transforms' has no attribute 'Never'"):
        _ = importlib.import_module("medpos.transforms").Never
