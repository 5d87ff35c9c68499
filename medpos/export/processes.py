"""Take out of a run's configuration what the overlay for several GPUs put in."""

import copy

from medpos.core.config import Config

_WRAPPER, _SAMPLER = "DistributedDataParallel", "DistributedSampler"


def for_one_process(run: Config) -> Config:
    """Return the configuration of a run as one process would have it; that of a run in one process is unchanged.

    Args:
        run: resolved configuration of the run.
    """
    if not _is(run.get("network"), _WRAPPER):
        return run
    config = copy.deepcopy(run)
    config["network"] = config["network"]["module"]
    for section in (config["validate"], config):
        if _is(section["dataloader"].get("sampler"), _SAMPLER):
            del section["dataloader"]["sampler"]
    config["train"]["sampler"] |= {"num_replicas": 1, "rank": 0}
    for key in ("initialize", "finalize"):
        config[key] = [step for step in config.get(key, []) if "dist." not in step and "set_device" not in step]
    config["imports"] = [line for line in config["imports"] if "torch.distributed" not in line]
    return config


def _is(node: object, name: str) -> bool:
    return isinstance(node, dict) and str(node.get("_target_")).endswith(name)
