"""Annotations: the forms that datasets and tools keep them in, and what is wrong with them."""
