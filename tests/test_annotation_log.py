"""The log of what people say about a map: replayed, undone, contradicted, and cut out of the model's rows."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from halsted_ray.service.annotation_log import Change, ModelRow, Span, conflicts, layers, replay, without

ROW = ModelRow("step", "Suturing", 10.0, 20.0)


def said(op: str = "add", span_id: str = "a1", author: str = "ada", revision: int = 1, **content) -> Change:
    """A change of a span of suturing from 10 to 20 s."""
    values = {"tag": "step", "category": "Suturing", "start_s": 10.0, "stop_s": 20.0, "row": None} | content
    return Change(revision, author, 0.0, op, span_id, **values)


def naive(changes: list[Change]) -> dict[str, tuple]:
    """What holds after ``changes``, computed anew for every span: its last change, unless that removes it."""
    found = {}
    for span_id in {change.span_id for change in changes}:
        last = [change for change in changes if change.span_id == span_id][-1]
        if last.op != "remove":
            found[span_id] = (last.op == "reject", last.tag, last.category, last.start_s, last.stop_s, last.author_id)
    return found


@pytest.mark.parametrize("seed", range(40))
def test_any_sequence_of_changes_replays_to_what_each_spans_last_change_says(seed):
    drawn = random.Random(seed)
    changes = [
        said(
            drawn.choice(("add", "change", "remove", "accept", "reject")),
            f"{drawn.randrange(8):x}",
            drawn.choice(("ada", "bob", "eve")),
            revision,
            category=drawn.choice(("Suturing", "Dissection")),
            start_s=float(drawn.randrange(100)),
            stop_s=100.0 + drawn.randrange(100),
        )
        for revision in range(1, drawn.randrange(2, 120))
    ]
    for length in (len(changes), len(changes) // 2, 0):
        spans = replay(changes[:length])
        found = {
            name: (span.is_rejected, *vars(span.content).values(), span.last.author_id) for name, span in spans.items()
        }
        assert found == naive(changes[:length])
    for author, own in layers(changes).items():
        theirs = naive([change for change in changes if change.author_id == author])
        assert {span.span_id for span in own} == set(theirs), "a person's layer is what their own changes say"


def test_the_inverse_of_each_change_leads_back_to_the_state_before_it():
    accepted = said("accept", row=ROW)
    later = replace(accepted, op="change", stop_s=25.0, revision=2)
    states = []
    for log in ([accepted], [accepted, later], [accepted, later, replace(later, stop_s=20.0, revision=3)]):
        states.append(replay(log)["a1"].state)
    assert states == ["accepted", "changed", "accepted"]
    added = said()
    gone = replace(added, op="remove", revision=2)
    assert replay([added])["a1"].state == "added" and replay([added, gone]) == {}
    again = replay([added, gone, replace(added, revision=3)])["a1"]
    assert (again.state, again.content) == ("added", Span(added).content)
    assert replay([said("reject", row=ROW)])["a1"].state == "rejected"


def pairs(*changes: Change) -> list[tuple[float, float, tuple[str, ...]]]:
    return [(one.start_s, one.stop_s, one.span_ids) for one in conflicts(replay(changes).values())]


def test_two_people_conflict_where_they_see_different_categories_at_one_time():
    ada = said(span_id="a1")
    bob = said(span_id="b1", author="bob", category="Dissection", start_s=15.0, stop_s=30.0)
    assert pairs(ada, bob) == [(15.0, 20.0, ("a1", "b1"))]
    assert pairs(ada, replace(bob, author_id="ada")) == [], "one person does not contradict themselves"
    assert pairs(ada, replace(bob, category="Suturing")) == [], "the same category is agreement"
    assert pairs(ada, replace(bob, tag="action", category="Tug")) == [], "another tag is another question"
    assert pairs(ada, replace(bob, start_s=19.0)) == [], "1 s of overlap are two ends that are not exact"
    assert pairs(ada, replace(bob, start_s=18.9)) != []
    short = replace(bob, start_s=15.0, stop_s=15.6)
    assert pairs(ada, short) == [(15.0, 15.6, ("a1", "b1"))], "a short span that lies inside is none"


def test_two_people_conflict_over_the_ends_of_one_row_beyond_a_second():
    ada = said("accept", "a1", row=ROW)
    bob = said("change", "b1", "bob", row=ROW, stop_s=21.0)
    assert pairs(ada, bob) == []
    assert pairs(ada, replace(bob, stop_s=21.1)) == [(10.0, 21.1, ("a1", "b1"))]
    assert pairs(ada, replace(bob, start_s=8.5)) == [(8.5, 21.0, ("a1", "b1"))]


def test_rejecting_what_another_person_sees_is_a_conflict():
    ada = said("accept", "a1", row=ROW)
    bob = said("reject", "b1", "bob", row=ROW)
    assert pairs(ada, bob) == [(10.0, 20.0, ("a1", "b1"))]
    assert pairs(said(span_id="a1"), replace(bob, row=None)) == [(10.0, 20.0, ("a1", "b1"))]
    assert pairs(replace(ada, op="reject"), bob) == []
    other = said(span_id="a1", category="Dissection")
    assert pairs(other, bob) == [], "who rejects suturing does not contradict who sees dissection"


def test_many_spans_of_two_people_have_each_conflict_once():
    changes = [said(span_id=f"a{n}", start_s=10.0 * n, stop_s=10.0 * n + 10, revision=n + 1) for n in range(50)]
    changes += [
        replace(one, span_id=f"b{n}", author_id="bob", category="Dissection" if n % 2 else "Suturing")
        for n, one in enumerate(changes)
    ]
    assert [one.span_ids for one in conflicts(replay(changes).values())] == [
        (f"a{n}", f"b{n}") for n in range(1, 50, 2)
    ]


def test_a_persons_word_cuts_the_models_rows_of_its_tag():
    rows = [ROW, ModelRow("step", "Dissection", 20.0, 40.0), ModelRow("action", "Tug", 10.0, 40.0)]
    spans = [Span(said(start_s=15.0, stop_s=25.0))]
    assert list(without(rows, spans)) == [(0, 10.0, 15.0), (1, 25.0, 40.0), (2, 10.0, 40.0)]
    inside = [Span(said(start_s=25.0, stop_s=30.0)), Span(said(span_id="a2", start_s=28.0, stop_s=32.0))]
    assert list(without(rows[1:2], inside)) == [(0, 20.0, 25.0), (0, 32.0, 40.0)]
    assert list(without(rows, [])) == [(n, row.start_s, row.stop_s) for n, row in enumerate(rows)]


def test_a_changed_row_goes_whole_also_where_the_person_made_it_shorter():
    rows = [ROW, ModelRow("step", "Dissection", 10.0, 20.0)]
    spans = [Span(said("change", row=ROW, start_s=12.0))]
    assert list(without(rows, spans)) == [(1, 10.0, 12.0)]


def test_a_rejected_row_cuts_the_rows_of_its_category_alone():
    rows = [ROW, ModelRow("step", "Dissection", 10.0, 20.0)]
    assert list(without(rows, [Span(said("reject", row=ROW))])) == [(1, 10.0, 20.0)]
