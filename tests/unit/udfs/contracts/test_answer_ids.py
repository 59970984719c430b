from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.contracts.rankings import answer_id, session_id, user_of

surfaces = st.sampled_from(["recommend", "search", "ad"])
ids = st.sampled_from(["a", "a/b", "b/c", "recommend", "search", "%", "%2F", "%25", "/", "a%2Fb"])
ids |= st.text("ab/%25F:", min_size=1, max_size=6) | st.text(min_size=1)
answers = st.tuples(surfaces, ids, ids)


def test_slashes_do_not_make_two_answers_one():
    assert answer_id("recommend", "a/b", "c") != answer_id("recommend", "a", "b/c")


@given(answers, answers)
def test_different_answers_have_different_ids(one, other):
    assert (answer_id(*one) == answer_id(*other)) == (one == other)


@given(answers)
def test_answer_id_names_its_user(answer):
    surface, user, event = answer
    found = answer_id(*answer)
    assert user_of(found) == user
    if found.count("/") == 2:
        assert (surface, user, event) == tuple(unquote(part) for part in found.split("/"))


@pytest.mark.parametrize("text", ["", "u", "a/b/c/d"])
def test_other_text_names_no_user(text):
    assert user_of(text) is None


@given(ids, ids)
def test_recommendation_ids_stay_without_slashes(user, event):
    if "/" not in user + event:
        assert answer_id("recommend", user, event) == f"{user}/{event}"


@given(st.tuples(ids, st.integers(-(2**53), 2**53)), st.tuples(ids, st.integers(-(2**53), 2**53)))
def test_different_sessions_have_different_ids(one, other):
    assert (session_id(*one) == session_id(*other)) == (one == other)
