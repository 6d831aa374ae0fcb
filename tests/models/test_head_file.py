from __future__ import annotations

import pytest

from tadkit.errors import WeightsError
from tadkit.models.head_file import head_settings


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"kind": "foo"}, "head.kind: must be one of 'actionformer', 'tridet'.*got 'foo'"),
        ({"levls": 3}, "head.levls: no such setting; did you mean levels?"),
        ({"dim": 130}, "head: dim 130 must be a multiple of attention_heads 4"),
    ],
)
def test_unsupported_settings_are_reported_in_one_line(section, said):
    with pytest.raises(
        WeightsError, match=rf"^there: head settings that this version of tadkit does not support \({said}.*\)$"
    ):
        head_settings(section, where="there")
