"""Heads and features from other projects."""

from typing import Literal

Source = Literal["actionformer", "tridet", "temporalmaxer", "opentad", "tadtr"]
"""Projects whose heads can be imported; named here, so that the command line's help need not load torch."""
TableLayout = Literal["detect", "plain", "heading", "index", "heading+index"]
"""What a csv file has besides features."""
