"""Secrets: in no output, and still of use."""

import copy
import json
import pickle
import pprint

import pytest

from eventbus._base.secret import Secret, reveal

TEXT = "a secret text"


def test_it_is_not_shown() -> None:
    """Neither formatting nor JSON shows the text."""
    secret = Secret(TEXT)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", "%s" % secret, pprint.pformat([secret])]  # noqa: UP031
    shown += [json.dumps({"key": secret}, default=str), repr(dir(secret))]
    assert not [text for text in shown if TEXT in text]
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        vars(secret)


def test_it_is_revealed() -> None:
    """The text is there when it is asked for."""
    assert Secret(TEXT).reveal() == reveal(Secret(TEXT)) == reveal(TEXT) == Secret(Secret(TEXT)).reveal() == TEXT


def test_it_is_a_value() -> None:
    """Secrets are equal if their texts are; a text is no secret. Copies and pickles are equal."""
    secret = Secret(TEXT)
    assert secret == Secret(TEXT)
    assert secret != Secret("another")
    assert secret != TEXT
    assert len({secret, Secret(TEXT)}) == 1
    assert secret
    assert not Secret("")
    assert copy.deepcopy(secret) == pickle.loads(pickle.dumps(secret)) == secret
