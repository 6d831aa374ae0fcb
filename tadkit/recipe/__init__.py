"""A run: every stage from videos and annotations to a detector, and its judgement."""
