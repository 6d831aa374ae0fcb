"""Heads of other projects: names of their weights, their options, and the settings that fit both."""
