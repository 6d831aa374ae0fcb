"""``tadkit ablate``: all rows of a recipe, with several seeds and folds, and what their differences are worth."""
