"""Read the TensorBoard events of a run."""

from pathlib import Path

Points = list[tuple[int, float]]


def read_scalars(folder: Path) -> dict[str, Points]:
    """Read the scalars of a run's events.

    Args:
        folder: folder of the events; it may be missing.

    Returns:
        Step and value of each point by tag, in the order of the steps. Of a step that a resumed training repeated, the
        last value is kept.
    """
    if not folder.is_dir():
        return {}
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    # 0 keeps every scalar; of anything else, such as pictures, one is kept.
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0}).Reload()
    return {
        tag: sorted({event.step: float(event.value) for event in events.Scalars(tag)}.items())
        for tag in events.Tags()[SCALARS]
    }
