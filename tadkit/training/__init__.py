"""The only training loop."""

from tadkit.training.loop import BatchSource, TrainedWeights, fit

__all__ = ["BatchSource", "TrainedWeights", "fit"]
