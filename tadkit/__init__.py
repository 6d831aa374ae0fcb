"""tadkit: temporal action detection from RGB video alone, taught by optical flow."""

__version__ = "0.1.0"
