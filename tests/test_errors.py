from __future__ import annotations

import pickle

import pytest

from tadkit import errors

CODES = {
    "TadkitError": 1,
    "UsageError": 2,
    "SettingsError": 2,
    "VideoError": 3,
    "StoreError": 4,
    "WeightsError": 5,
    "AnnotationError": 6,
}


def test_the_exit_codes_are_the_documented_ones_and_none_is_forgotten():
    kinds = {
        name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert {name: kind.exit_code for name, kind in kinds.items()} == CODES


@pytest.mark.parametrize("name", CODES)
def test_each_can_be_caught_as_a_tadkit_error(name):
    with pytest.raises(errors.TadkitError, match=r"^what and where$"):
        raise getattr(errors, name)("what and where")


def test_an_error_of_several_messages_reads_as_lines_and_survives_a_process_boundary():
    error = pickle.loads(pickle.dumps(errors.SettingsError("one", "two")))
    assert isinstance(error, errors.SettingsError)
    assert (str(error), error.args) == ("one\ntwo", ("one", "two"))
