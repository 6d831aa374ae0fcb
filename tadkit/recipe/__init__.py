"""``tadkit run``: every stage from videos and annotations to an evaluated detector."""
