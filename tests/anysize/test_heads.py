"""The table of heads holds together, and with what is built of it."""

import pytest

from anysize.heads import AS_IS, FC, HEAD_KINDS, head_kind
from anysize.models import HEADS, ZOO
from anysize.models.heads.table import HEAD_PATHS
from anysize.surgery.targets import TARGETS


def test_every_head_that_is_built_has_a_function_and_the_others_have_none():
    assert set(HEAD_PATHS) == set(HEADS) == set(HEAD_KINDS) - {AS_IS}


def test_every_network_offers_known_heads_and_can_load_their_weights():
    for entry in ZOO.values():
        assert set(entry.heads) <= set(HEADS)
    trained = {kind.checkpoint for kind in HEAD_KINDS.values()} - {None}
    assert all(HEAD_KINDS[name].checkpoint == name for name in trained)


def test_every_target_of_a_rewrite_leads_to_one_head():
    assert sorted(kind.target for kind in HEAD_KINDS.values() if kind.target) == sorted(TARGETS)


def test_one_head_refuses_other_sizes():
    assert [name for name, kind in HEAD_KINDS.items() if kind.fixes_size] == [FC]


def test_a_head_that_looks_in_windows_answers_with_a_map():
    for kind in HEAD_KINDS.values():
        assert kind.has_map == (kind.elsewhere == "windows")


def test_modules_are_converted_to_heads_that_a_rewrite_leads_to():
    for kind in HEAD_KINDS.values():
        assert kind.is_converted or not (kind.converts_modules or kind.is_on_each_fc_head)


@pytest.mark.parametrize(("recorded", "is_any"), [(None, False), ("fc", False), ("new", True)])
def test_a_file_says_by_its_head_whether_it_takes_any_size(recorded, is_any):
    assert head_kind(recorded).takes_any_size == is_any
    assert head_kind(recorded).is_convertible != is_any
