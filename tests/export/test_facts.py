"""Name the random transforms of a run's configuration."""

from medpos.export.facts import RunFacts


def test_random_transforms_are_found_by_their_class_whatever_their_name():
    names = ("spatial.elastic.RandElastic", "intensity.photometric.PhotometricDistortion", "intensity.Standardise")
    chain = [{"_target_": f"medpos.transforms.{name}"} for name in names] + [{"_target_": "RandFlipd"}]
    facts = object.__new__(RunFacts)
    object.__setattr__(facts, "config", {"train": {"preprocessing": {"transforms": chain}}})
    found = facts.random_steps("train", "preprocessing")
    assert found == ["RandElastic", "PhotometricDistortion", "RandFlipd"]
    assert len(facts.steps("train", "preprocessing")) == 4
