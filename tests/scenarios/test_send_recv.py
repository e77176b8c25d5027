"""The judge of send_recv sees a lost, a swapped and a misdirected message."""

from __future__ import annotations

import pytest

from tests.scenarios.judging import judged

RIGHT = {
    "blocking": [[[1, 0, 0], [1, 0, 1]], [[0, 1, 0], [0, 1, 1]]],
    "nonblocking": [[[1, 0, 0], [1, 0, 1]], [[0, 1, 0], [0, 1, 1]]],
    "batch": [[[1, 0, 0], [1, 0, 1]], [[0, 1, 0], [0, 1, 1]]],
    "tags": [[[1, 0, 9], [1, 0, 7], [1, 0, 8]], [[0, 1, 9], [0, 1, 7], [0, 1, 8]]],
    "any_source": [[[1, [1, 0, 0]]], []],
}


def reports(way, got):
    return [{"cases": {way: one}} for one in got]


@pytest.mark.parametrize("way", RIGHT)
def test_right_messages_pass(way) -> None:
    assert judged("send_recv", reports(way, RIGHT[way]), variant=way) == {}


@pytest.mark.parametrize("way", RIGHT)
def test_a_lost_message_is_wrong(way) -> None:
    got = [RIGHT[way][0][:-1], RIGHT[way][1]]
    assert list(judged("send_recv", reports(way, got), variant=way)) == [0]


def test_messages_under_swapped_tags_are_wrong() -> None:
    got = [RIGHT["tags"][0], [[0, 1, 7], [0, 1, 9], [0, 1, 8]]]
    assert list(judged("send_recv", reports("tags", got), variant="tags")) == [1]


def test_a_report_of_another_variant_is_no_answer() -> None:
    wrong = judged("send_recv", reports("batch", RIGHT["batch"]), variant="blocking")
    assert wrong[0].startswith("blocking is missing")


def test_a_receiver_that_is_told_the_wrong_sender_is_wrong() -> None:
    got = [[[0, [1, 0, 0]]], []]
    assert list(judged("send_recv", reports("any_source", got), variant="any_source")) == [0]
