"""The only training loop."""

from tadkit.training.loop import BatchSource, fit

__all__ = ["BatchSource", "fit"]
