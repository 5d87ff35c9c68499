"""Stop a training that no longer gets better."""

import math

from ignite.engine import Engine


class Patience:
    """Find out when a training has had too many epochs without a better key metric.

    MONAI's ``EarlyStopHandler`` counts in a state of its own, which a resumed training would have to restore. The epoch
    of the best validation tells the same, and :class:`medpos.handlers.Checkpoint` restores it.

    Args:
        epochs: number of epochs without a better key metric; 0 never stops.
        evaluator: evaluator of the validation.
    """

    def __init__(self, epochs: int, evaluator: Engine) -> None:
        self.epochs = epochs
        self.evaluator = evaluator

    def is_exhausted(self, epoch: int) -> bool:
        """Tell whether too many epochs have passed after ``epoch`` epochs."""
        return 0 < self.epochs <= epoch - max(int(self.evaluator.state.best_metric_epoch), 0)

    def find_reason(self, engine: Engine) -> str:
        """Return the reason to stop the trainer ``engine`` after an epoch with a validation; "" to go on."""
        epoch, validation = engine.state.epoch, self.evaluator.state
        if epoch >= engine.state.max_epochs or validation.epoch != epoch or not self.is_exhausted(epoch):
            return ""
        best, since = float(validation.best_metric), max(validation.best_metric_epoch, 0)
        found = "one" if since == 0 or math.isnan(best) else f"{best:.4f} of epoch {since}"
        return (
            f"stopped early after epoch {epoch} of {engine.state.max_epochs}: {epoch - since} epochs without a better "
            f"{validation.key_metric_name} than {found}"
        )
