"""The taxonomy is the paper's Table 3 to the letter, and a bad file is refused by line."""

import doctest
import pickle

import pytest

from halsted_ray import taxonomy
from halsted_ray.errors import TaxonomyError
from halsted_ray.taxonomy.names import StitchRoles
from halsted_ray.taxonomy.parsing import from_yaml, shipped_of_digest

GOLDEN_DIGEST = "bb43bda577fe5d03"
"""Models in the field carry it: a change of this value orphans them, so it must be meant."""

TABLE_3 = {
    "macro": {"specialty": 8, "procedure": 16, "step": 2},
    "micro": {"action": 19, "arm": 3, "instrument": 27},
    "proficiency": {"phase": 3, "proficiency": 2},
    "context": {"anatomy": 18, "extent": 3, "direction": 3},
}

SMALL = """\
name: small
tasks:
  - name: one
    instruction: map one
    window: coarse
    tags:
      - name: colour
        categories: [Red, Green]
  - name: two
    instruction: map two
    window: fine
    when: {colour: Red}
    tags:
      - name: shape
        categories: [Round, Square]
      - name: size
        categories: [Small, Large]
narrows:
  - tag: shape
    narrows: size
    to: {Round: [Small], Square: [Small, Large]}
aliases:
  two:
    tags: {form: shape}
    categories:
      shape: {circle: Round}
stitch:
  phase: shape
  handling: [Round]
  driving: [Square]
  target: colour
  proficiency: size
  high: [Large]
"""


@pytest.fixture(scope="module")
def halsted():
    return taxonomy.load()


def write(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_table_3_counts(halsted):
    assert {task.name: {tag.name: len(tag.categories) for tag in task.tags} for task in halsted.tasks} == TABLE_3
    assert len(halsted.tags) == 11
    assert sum(len(tag.categories) for tag in halsted.tags) == 104


def test_table_3_order_and_instructions(halsted):
    assert [(task.instruction, task.window, task.when) for task in halsted.tasks] == [
        ("map procedure type", "coarse", ()),
        ("map dissection activity", "fine", (("step", "Dissection"),)),
        ("map suturing activity", "fine", (("step", "Suturing"),)),
        ("map needle driving activity", "fine", (("phase", "Driving"),)),
    ]
    assert halsted.tag("specialty").categories[::7] == ("Bariatric", "Urology")
    assert halsted.tag("procedure").categories[:4] == (
        "Gastric Bypass",
        "Atrial Closure",
        "IMA Harvest",
        "Mitral Stitching",
    )
    assert halsted.tag("procedure").categories[-2:] == ("Segmentectomy", "Prostatectomy")
    assert halsted.tag("action").categories[10:13] == ("Mesh", "Push/Peel", "Retraction")
    assert halsted.tag("instrument").categories[1:5] == (
        "Bipolar Forceps",
        "Bipolar Forceps\u2013Cautery Hook",
        "Bipolar Forceps\u2013Monopolar Scissors",
        "Bipolar Forceps\u2013Vessel Sealer",
    )
    assert halsted.tag("anatomy").categories[:2] == ("Bile Duct", "Bile Duct\u2013Small Intestine")
    assert halsted.tag("direction").categories == ("In", "Out", "Both")


def test_pairs_use_the_en_dash(halsted):
    dashes = "-\u2010\u2011\u2012\u2013\u2014"
    dashed = [c for tag in halsted.tags for c in tag.categories if any(dash in c for dash in dashes)]
    assert len(dashed) == 6 + 6 and all("\u2013" in c and "-" not in c for c in dashed)
    reverse = halsted.canonical("context", "anatomy", "small intestine-bile duct")
    assert (
        reverse
        == ("anatomy", "Small Intestine\u2013Bile Duct")
        != halsted.canonical("context", "anatomy", "bile duct-small intestine")
    )


def test_digest_golden(halsted):
    assert halsted.digest == GOLDEN_DIGEST
    assert taxonomy.load().digest == halsted.digest
    assert taxonomy.load("sar_rarp50").digest != halsted.digest


def test_digest_follows_order_and_names_but_not_aliases(tmp_path):
    base = taxonomy.load(write(tmp_path, SMALL)).digest
    assert taxonomy.load(write(tmp_path, SMALL.replace("[Red, Green]", "[Green, Red]"))).digest != base
    assert taxonomy.load(write(tmp_path, SMALL.replace("map one", "map first"))).digest != base
    assert taxonomy.load(write(tmp_path, SMALL.replace("circle", "disc"))).digest == base


def test_every_procedure_belongs_to_one_specialty(halsted):
    specialties = halsted.tag("specialty").categories
    belongs = [name for s in specialties for name in halsted.allowed("procedure", {"specialty": s})]
    assert sorted(belongs) == sorted(halsted.tag("procedure").categories)
    assert halsted.allowed("procedure", {"specialty": "Urology"}) == ("Prostatectomy",)
    assert halsted.allowed("procedure", {}) == halsted.tag("procedure").categories


@pytest.mark.parametrize(
    ("task", "tag", "category", "expected"),
    [
        ("macro", "phase", "suturing", ("step", "Suturing")),
        ("macro", "procedure", "lobectomy", ("procedure", "Right Upper Lobectomy")),
        ("micro", "action", "cold_cut", ("action", "Cold Cut")),
        ("micro", "instrument", "forceps", ("instrument", "Bipolar Forceps")),
        ("proficiency", "action", "driving", ("phase", "Driving")),
        ("context", "tissue", "urethra", ("anatomy", "Urethra")),
        ("context", "direction", "inwards", ("direction", "In")),
        ("context", "direction", "outwards", ("direction", "Out")),
    ],
)
def test_the_figures_spellings(halsted, task, tag, category, expected):
    assert halsted.canonical(task, tag, category) == expected


def test_every_name_is_its_own_canonical(halsted):
    for task in halsted.tasks:
        for tag in task.tags:
            for category in tag.categories:
                assert halsted.canonical(task.name, tag.name, category.upper()) == (tag.name, category)


def test_the_second_taxonomy():
    sar = taxonomy.load("sar_rarp50")
    assert [len(tag.categories) for tag in sar.tags] == [8]
    assert sar.tag("action").categories[0] == "Other"
    assert sar.tag("action").categories[7] == "Returning/dropping the needle"


def test_unknown_names_list_the_nearest(halsted):
    with pytest.raises(TaxonomyError, match="no task 'mcro'; did you mean 'micro' or 'macro'"):
        halsted.task("mcro")
    with pytest.raises(TaxonomyError, match="instruction 'map suturing'; did you mean 'map suturing activity'"):
        halsted.task_of_instruction("map suturing")
    with pytest.raises(TaxonomyError, match="tag 'stp'; did you mean 'step'"):
        halsted.tag("stp")
    with pytest.raises(TaxonomyError, match="category of 'arm' 'Third'; known: 'Left', 'Right', 'Both'"):
        halsted.canonical("micro", "arm", "Third")
    with pytest.raises(TaxonomyError, match="no taxonomy 'halstd'; did you mean 'halsted'"):
        taxonomy.load("halstd")


def test_dict_round_trip_and_pickle(halsted, tmp_path):
    own = taxonomy.load(write(tmp_path, SMALL))
    for given in (halsted, own, taxonomy.load("cholect50")):  # of whose task triplet several hold at once
        assert taxonomy.from_dict(given.to_dict()) == given
        assert pickle.loads(pickle.dumps(given)) == given


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("window: fine", "window: fien", r"own.yaml:11: tasks.1.window: got 'fien'; expected coarse or fine"),
        (
            "[Round, Square]",
            "[Round, round]",
            r"own.yaml:15: .*got 'round' a second time.*expected categories that differ",
        ),
        ("[Round, Square]", "[Round, No]", r"own.yaml:15: .*categories.1: got False; expected a text \(put quotes"),
        ("window: fine", "window: fine\n    several: many", r"tasks.1.several: got 'many'; expected true or false"),
        ("[Round, Square]", "[]", r"own.yaml:15: .*got \[\]; expected a list of categories, at least one"),
        ("when: {colour: Red}", "when: {colour: Rot}", r":12: tasks.1.when.colour: got 'Rot'; .*known: 'Red', 'Green'"),
        ("when: {colour: Red}", "when: {size: Small}", r"own.yaml:12: .*the task's own tag 'size'"),
        ("    instruction: map two\n", "", r":9: tasks.1: got no 'instruction'; expected the keys name, instr"),
        ("name: size", "name: colour", r"got 'colour' a second time .*tag names over all tasks"),
        ("Round: [Small]", "Round: [Smal]", r"own.yaml:21: narrows.0.to.Round.0: got 'Smal'; .*did you mean 'Small'"),
        ("tag: shape\n    narrows: size", "tag: size\n    narrows: shape", r"a tag that follows 'size' in the same"),
        ("circle: Round", "circle: Rund", r"own.yaml:26: aliases.two.categories.shape.circle: got 'Rund'"),
        ("window: fine", "windows: fine", r":11: tasks.1.windows: got an unknown key .*did you mean 'window'"),
        ("name: small\n", "name: small\nname: large\n", r"own.yaml:2: key 'name' stands twice"),
        ("name: small\n", "name: [small\n", r"own.yaml: not well-formed YAML"),
        ("[Red, Green]", "['Red</colour>', Green]", r"expected a text without '<' and '>'"),
        ("phase: shape", "phase: shpe", r"own.yaml:28: stitch.phase: got 'shpe'; .*did you mean 'shape'"),
        ("driving: [Square]", "driving: [Sqare]", r"own.yaml:30: stitch.driving.0: got 'Sqare'; .*mean 'Square'"),
        (
            "driving: [Square]",
            "driving: [Round]",
            r"stitch.driving.0: got 'Round', which is 'handling'; .*one phase each",
        ),
        ("  driving: [Square]\n", "", r"stitch: got no 'driving'; expected the keys phase, driving"),
        (
            "  proficiency: size\n",
            "",
            r"stitch.high: got \['Large'\]; .*the tag of these categories under 'proficiency'",
        ),
        ("high: [Large]", "top: [Large]", r"stitch.top: got an unknown key 'top'"),
    ],
)
def test_a_bad_file_is_refused_by_line(tmp_path, old, new, message):
    assert old in SMALL
    with pytest.raises(TaxonomyError, match=message):
        taxonomy.load(write(tmp_path, SMALL.replace(old, new, 1)))


def test_the_roles_of_a_stitch_are_read_and_are_no_part_of_the_digest(tmp_path):
    own = taxonomy.load(write(tmp_path, SMALL))
    assert own.stitch == StitchRoles(
        "shape", ("Square",), ("Round",), target="colour", proficiency="size", high=("Large",)
    )
    without = taxonomy.load(write(tmp_path, SMALL[: SMALL.index("stitch:")]))
    assert without.stitch is None and without.digest == own.digest


def test_a_taxonomy_that_was_stored_before_stitches_had_roles_is_found_by_its_digest(halsted):
    stored = {key: value for key, value in halsted.to_dict().items() if key != "stitch"}
    found = shipped_of_digest(taxonomy.from_dict(stored).digest)
    assert found == halsted and found.stitch is not None
    assert shipped_of_digest("d" * 16) is None


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(TaxonomyError, match="can't be read"):
        taxonomy.load(str(tmp_path / "none.yaml"))
    with pytest.raises(TaxonomyError, match="got None; expected a mapping with name, tasks"):
        taxonomy.load(write(tmp_path, ""))


def test_the_example_in_the_docstring_is_true():
    found = doctest.testmod(taxonomy)
    assert found.attempted and not found.failed


KNOTS = """name: knots
tasks:
  - name: knot
    instruction: map knots
    window: fine
    when: {thing: A}
    tags:
      - name: gesture
        categories: [Loop, Throw]
      - name: hand
        categories: [Left, Right]
  - name: other
    instruction: map others
    window: fine
    tags:
      - name: thing
        categories: [A, B]
"""


@pytest.mark.parametrize(
    "more, message",
    [
        ("source: 2024-13-45\n", "month must be"),
        ("<<: 5\n", "not well-formed YAML"),
        ("? [a, b]\n: 1\n", "a key that is a list"),
        ("source: &a [*a]\n", "contains itself"),
        ("source: [1]\n", "source: got"),
        ("narrows: 5\n", "a list of narrowings"),
        ("narrows: [{tag: [a], narrows: hand, to: {Loop: [Left]}}]\n", "a name of this taxonomy"),
        ("aliases: {knot: {tags: [a]}}\n", "aliases.knot.tags"),
        ("aliases: {knot: {categories: {gesture: {Throw: Loop}}}}\n", "another category"),
        (
            "narrows: [{tag: gesture, narrows: hand, to: {Loop: [Left]}},"
            " {tag: gesture, narrows: hand, to: {Loop: [Right]}}]\n",
            "a second time",
        ),
    ],
)
def test_odd_and_contradicting_files_are_refused_in_words(more, message):
    with pytest.raises(TaxonomyError, match=message):
        from_yaml(KNOTS + more, "knots.yaml")


def test_tasks_that_wait_for_each_other_are_refused():
    assert from_yaml(KNOTS, "knots.yaml").task("knot").when == (("thing", "A"),)
    circle = KNOTS.replace("instruction: map others", "instruction: map others\n    when: {gesture: Loop}")
    with pytest.raises(TaxonomyError, match="wait for each other"):
        from_yaml(circle, "knots.yaml")


def test_a_task_with_a_comma_in_its_name_is_refused():
    with pytest.raises(TaxonomyError, match="a name without a comma"):
        from_yaml(KNOTS.replace("- name: knot", "- name: 'knot, tied'"), "knots.yaml")
