"""The verbs: plain functions behind each command, for notebooks and scripts; none prints."""
