"""Attention is full over the prefix and causal over the answer; the answer has a loss; the grammar is obeyed."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from halsted_ray import taxonomy
from halsted_ray.errors import TaxonomyError
from halsted_ray.model import decoder, halsted
from halsted_ray.model.calibration import TagLogits, fit_temperatures
from halsted_ray.model.frozen_decoder import FrozenDecoder
from halsted_ray.model.generation import generate, generate_token_by_token
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.vocabulary import BOS, EOS, PAD, Vocabulary, parse

TASKS = ("macro", "micro", "proficiency", "context")
GOLDEN_LOSS = 45.621086


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Several tests run at the same time, and with two threads each they would wait for each other all the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sharp(model, scale=20.0):
    """Raises the weights of an untrained model's head, so that its answers differ from row to row."""
    with torch.no_grad():
        model.decoder.head.weight.mul_(scale)
    return model


@pytest.fixture(scope="module")
def model():
    return sharp(Halsted.create(None, 24, width=32, heads=4, seed=5))


def vectors(count, dim=24, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float16)


def mixed(count):
    return [TASKS[i % 4] for i in range(count)]


def test_parameters_at_the_paper_s_width(capsys):
    parameters = Halsted.create(None, 1408).parameters
    print(f"decoder at D = 1408, L = 2, 8 heads: {parameters / 1e6:.2f} M parameters")
    assert 40e6 <= parameters <= 48e6
    assert parameters == 44_068_992


def test_vocabulary():
    vocabulary = Vocabulary(taxonomy.load())
    words = {"map", "procedure", "type", "dissection", "activity", "suturing", "needle", "driving"}
    assert len(vocabulary) == 3 + len(words) + 2 * 11 + 104
    assert vocabulary.tokens[:3] == ("PAD", "BOS", "EOS") and set(vocabulary.tokens[3:11]) == words
    assert len(set(vocabulary.tokens)) == len(vocabulary)
    assert {"action=Stapler", "instrument=Stapler", "arm=Both", "direction=Both"} <= set(vocabulary.tokens)
    assert all(len(ids) == 8 for ids in vocabulary.instructions)


def test_an_answer_as_tokens_and_text():
    vocabulary = Vocabulary(taxonomy.load())
    ids = vocabulary.encode("macro", {"step": "suturing", "procedure": "lobectomy"})
    assert vocabulary.text(ids) == "BOS <procedure> Right Upper Lobectomy </procedure> <step> Suturing </step> EOS"
    with pytest.raises(TaxonomyError, match="category of 'step' 'Sewing'"):
        vocabulary.encode("macro", {"step": "Sewing"})


@pytest.mark.parametrize(
    ("text", "task", "tags", "faults"),
    [
        ("BOS <action> cold_cut </action> <arm> left </arm> EOS", "micro", {"action": "Cold Cut", "arm": "Left"}, 0),
        ("BOS <action> hook <arm> left </arm> EOS", "micro", {"arm": "Left"}, 1),
        ("<action> hook </arm> <arm> both </arm>", "micro", {"arm": "Both"}, 1),
        ("<arm> left </arm> <arm> right </arm>", "micro", {"arm": "Left"}, 1),
        ("<arm> third </arm> <wing> left </wing> <action> tug </action>", "micro", {"action": "Tug"}, 2),
        ("</arm> <action> idle", "micro", {}, 2),
        (
            "BOS <procedure> lobectomy </procedure> <phase> suturing </phase> EOS",
            "macro",
            {"procedure": "Right Upper Lobectomy", "step": "Suturing"},
            0,
        ),
        (
            "BOS <action> retraction </action> <instrument> forceps </instrument> EOS",
            "micro",
            {"action": "Retraction", "instrument": "Bipolar Forceps"},
            0,
        ),
        (
            "BOS <action> driving </action> <proficiency> high </proficiency> EOS",
            "proficiency",
            {"phase": "Driving", "proficiency": "High"},
            0,
        ),
        (
            "BOS <tissue> urethra </tissue> <direction> inwards </direction> EOS",
            "context",
            {"anatomy": "Urethra", "direction": "In"},
            0,
        ),
        ("", "macro", {}, 0),
    ],
)
def test_parser(text, task, tags, faults):
    parsed = parse(text, taxonomy.load(), task)
    assert parsed.tags == tags and len(parsed.faults) == faults


def test_prefix_attention_is_full(model):
    """Another last instruction word changes the input of the second layer at the vector's own position."""
    decoder = model.decoder
    mask, prefix = decoder.mask, decoder.prefix
    assert mask[:prefix, :prefix].all() and not mask[:prefix, prefix:].any()
    seen = []
    handle = decoder.blocks[1].register_forward_pre_hook(lambda module, args: seen.append(args[0][:, 0].detach()))
    try:
        for task in (0, 1):  # other instructions, same vector
            decoder(torch.from_numpy(vectors(1)), torch.tensor([task]), torch.tensor([[BOS, 20]]))
    finally:
        handle.remove()
    assert (seen[0] - seen[1]).abs().max() > 1e-4


def test_tags_are_causal(model):
    """A token changes the logits of its own and later positions, and no earlier logits."""
    tasks, tokens = torch.tensor([0, 1]), torch.randint(3, len(model.vocabulary), (2, 9))
    changed = tokens.clone()
    changed[:, 5] = torch.where(tokens[:, 5] == 50, 51, 50)
    embeddings = torch.from_numpy(vectors(2))
    before, after = (model.decoder(embeddings, tasks, t) for t in (tokens, changed))
    assert (before[:, :5] == after[:, :5]).all()
    assert ((before[:, 5:] - after[:, 5:]).abs().amax(-1) > 1e-5).all()


def test_the_vector_changes_the_logits_at_every_position(model):
    tasks, tokens = torch.tensor([0]), torch.tensor([[BOS, 20, 30]])
    first, second = (model.decoder(torch.from_numpy(vectors(1, seed=s)), tasks, tokens) for s in (0, 1))
    assert ((first - second).abs().amax(-1) > 1e-4).all()


def test_only_the_answer_has_a_loss(model):
    tasks, tokens = model.targets(
        ["macro", "proficiency"],
        [{"specialty": "Urology", "procedure": "Prostatectomy", "step": "Suturing"}, {"phase": "Driving"}],
    )
    embeddings = torch.from_numpy(vectors(2))
    logits = model.decoder(embeddings, tasks, tokens)
    expected = torch.zeros(2)
    for row, ids in enumerate(tokens.tolist()):
        for s in range(len(ids) - 1):
            if ids[s + 1] != PAD:
                expected[row] -= logits[row, s].log_softmax(-1)[ids[s + 1]]
    assert (tokens[1] == PAD).sum() == model.vocabulary.length - 5
    torch.testing.assert_close(model.decoder.loss(logits, tokens), expected)
    torch.testing.assert_close(model.loss(embeddings, tasks, tokens), expected.mean())
    longer = torch.cat([tokens, torch.full((2, 1), PAD)], 1)[:, : model.vocabulary.length]
    torch.testing.assert_close(model.loss(embeddings, tasks, longer), expected.mean())


def test_loss_weights(model):
    tags = [{"arm": "Left"}, {"arm": "Right"}, {"arm": "Both"}]
    tasks, tokens = model.targets(["micro"] * 3, tags)
    embeddings = torch.from_numpy(vectors(3))
    each = model.decoder.loss(model.decoder(embeddings, tasks, tokens), tokens)
    weighted = model.loss(embeddings, tasks, tokens, torch.tensor([1.0, 0.0, 3.0]))
    torch.testing.assert_close(weighted, (each[0] + 3 * each[2]) / 4)
    torch.testing.assert_close(model.loss(embeddings, tasks, tokens, torch.ones(3)), each.mean())


def samples(count, seed=0):
    rng = np.random.default_rng(seed)
    own = taxonomy.load()
    tasks = mixed(count)
    tags = [{tag.name: str(rng.choice(tag.categories)) for tag in own.task(task).tags} for task in tasks]
    return tasks, tags


def test_golden_loss():
    """Seed and data are fixed, so this number only changes when the model changes."""
    model = Halsted.create(None, 64, seed=0)
    tasks, tags = samples(8)
    loss = model.loss(torch.from_numpy(vectors(8, 64)), *model.targets(tasks, tags))
    assert float(loss.detach()) == pytest.approx(GOLDEN_LOSS, rel=1e-5)


def test_the_decoder_learns_forty_samples():
    """After 150 steps the loss is lower than it could be without the vectors."""
    torch.manual_seed(0)
    model = Halsted.create(None, 24, width=64, heads=4, dropout=0.0)
    tasks, tags = samples(40)
    embeddings = torch.from_numpy(vectors(40)) * 30 + 100  # any scale, a large mean
    model.decoder.fit_features(embeddings)
    ids, tokens = model.targets(tasks, tags)
    optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.loss(embeddings, ids, tokens)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5
    rows = model.tag(embeddings.numpy(), tasks, given=tags, unit="grid")
    right = [row[tag][0] == named[tag] for row, named in zip(rows, tags, strict=True) for tag in named]
    assert np.mean(right) > 0.95


ANSWER = re.compile(r"BOS( <(\w+)> [^<>]+ </\2>)+ EOS")


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.0, 1.0, 30.0, 300.0]),
    count=st.integers(1, 20),
    name=st.sampled_from(["halsted", "sar_rarp50"]),
)
def test_random_weights_always_answer_well_formed(seed, scale, count, name):
    own = taxonomy.load(name)
    model = sharp(Halsted.create(own, 8, width=16, heads=2, layers=1, seed=seed), scale)
    tasks = [own.tasks[(seed + i) % len(own.tasks)].name for i in range(count)]
    rows = model.tag(vectors(count, 8, seed), tasks, unit="grid")
    for task, row in zip(tasks, rows, strict=True):
        tags = {tag: category for tag, (category, _) in row.items()}
        assert list(tags) == [tag.name for tag in own.task(task).tags]
        assert ANSWER.fullmatch(model.text(task, tags))
        assert model.parse(model.text(task, tags), task).tags == tags
        assert all(category in own.allowed(tag, tags) for tag, category in tags.items())
        assert all(0.0 <= confidence <= 1.0 for _, confidence in row.values())


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1.0, 30.0]), rows=st.sampled_from([1, 5, 16]))
def test_cached_generation_equals_token_by_token(seed, scale, rows):
    model = sharp(Halsted.create(None, 24, width=32, heads=4, seed=seed), scale)
    embeddings, tasks = torch.from_numpy(vectors(11, seed=seed)), torch.tensor([i % 4 for i in range(11)])
    fast = generate(model.decoder, model.grammars["grid"], embeddings, tasks, rows)
    slow = generate_token_by_token(model.decoder, model.vocabulary, model.grammars["grid"], embeddings, tasks)
    for row, answer in enumerate(slow):
        task = model.taxonomy.tasks[int(tasks[row])]
        chosen = {tag.name: tag.categories[int(fast.chosen_NG[row, g])] for g, tag in enumerate(task.tags)}
        assert [i for i in answer if i != PAD] == model.vocabulary.encode(task.name, chosen)
        # The uncached logits of every decision, given the same answer.
        full = model.decoder(embeddings[row : row + 1], tasks[row : row + 1], torch.tensor([answer]))[0]
        for g, tag in enumerate(task.tags):
            first = model.vocabulary.first[tag.name]
            torch.testing.assert_close(
                fast.logits_NGC[row, g, : len(tag.categories)],
                full[1 + 3 * g, first : first + len(tag.categories)].detach(),
                atol=1e-4,
                rtol=1e-4,
            )


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("sizes", [{}, {"steps": 3}, {"soft_prompt": True}])
def test_a_frozen_decoder_says_what_the_decoder_says(layers, sizes):
    model = sharp(Halsted.create(None, 24, width=32, heads=4, layers=layers, seed=3, **sizes))
    for parameter in model.decoder.parameters():  # biases and norms start at 0 and 1, which would hide their loss
        torch.nn.init.normal_(parameter, std=0.2)
    model.decoder.fit_features(torch.from_numpy(vectors(200)))
    rows, tasks = torch.from_numpy(vectors(20)), torch.arange(20) % 4
    plain = generate(model.decoder, model.grammars["grid"], rows, tasks, 20)
    frozen = generate(FrozenDecoder(model.decoder), model.grammars["grid"], rows, tasks, 20)
    assert torch.equal(plain.chosen_NG, frozen.chosen_NG)
    torch.testing.assert_close(plain.logits_NGC, frozen.logits_NGC, atol=2e-5, rtol=2e-5)
    half = generate(FrozenDecoder(model.decoder, half=True), model.grammars["grid"], rows, tasks, 20, plain.chosen_NG)
    finite = torch.isfinite(plain.logits_NGC)
    error = (half.logits_NGC - plain.logits_NGC)[finite].abs().max() / plain.logits_NGC[finite].abs().max()
    assert 1e-5 < error < 0.03, "bfloat16 has 3 digits"


def with_whitening(model):
    """``model`` as an earlier version trained it: with a matrix in the place of the features' scale."""
    whitening_DD = torch.randn(24, 24, generator=torch.Generator().manual_seed(1))
    older = dict(model.decoder.state_dict()) | {decoder.WHITENING: whitening_DD}
    del older["feature_scale_D"]
    model.decoder.load_state_dict(older)
    return model


def test_a_decoder_of_an_earlier_version_whitens_its_vectors_as_it_did(tmp_path):
    model = with_whitening(sharp(Halsted.create(None, 24, width=32, heads=4, seed=3)))
    rows = torch.from_numpy(vectors(20)).float()
    features = rows @ model.decoder.feature_whitening_DD
    assert model.decoder.feature_scale_D is None
    stream = model.decoder._embed(rows, torch.zeros(20, dtype=torch.long), torch.full((20, 1), BOS))
    expected = model.decoder.vector_projection(model.decoder.vector_norm(features))
    torch.testing.assert_close(stream[:, 0], expected)
    model.save(str(tmp_path / "model"))
    again = Halsted.load(str(tmp_path / "model"))
    assert torch.equal(again.decoder.feature_whitening_DD, model.decoder.feature_whitening_DD)
    assert again.tag(vectors(20), "macro", unit="grid") == model.tag(vectors(20), "macro", unit="grid")


def test_a_decoder_that_is_loaded_over_a_whitening_one_no_longer_whitens():
    fresh = Halsted.create(None, 24, width=32, heads=4, seed=3)
    older = with_whitening(Halsted.create(None, 24, width=32, heads=4, seed=3))
    older.decoder.load_state_dict(fresh.decoder.state_dict())
    assert older.decoder.feature_whitening_DD is None
    assert older.tag(vectors(8), "macro", unit="grid") == fresh.tag(vectors(8), "macro", unit="grid")


def test_the_whitening_of_an_older_decoder_in_bfloat16_stays_exact():
    """One direction of the features varies 300 times as much as the others, and rounding it would drown these."""
    rows = torch.from_numpy(vectors(200)).float()
    rows += 300 * torch.randn(200, 1, generator=torch.Generator().manual_seed(0)) * torch.ones(24)
    model = with_whitening(Halsted.create(None, 24, width=32, heads=4, seed=3))
    centred = rows - model.decoder.feature_mean
    exact = centred.double() @ model.decoder.feature_whitening_DD.double()
    white = FrozenDecoder(model.decoder, half=True).whitening(centred)
    assert (white - exact).abs().max() < 1e-4 * exact.abs().max()


def test_a_model_generates_with_its_weights_of_now():
    model = sharp(Halsted.create(None, 24, width=32, heads=4, seed=1))
    before = model.tag(vectors(8), "macro", unit="grid")
    assert model.frozen is model.frozen
    with torch.no_grad():
        model.decoder.blocks[0].attention_in.weight.mul_(-3)
    assert model.tag(vectors(8), "macro", unit="grid") != before
    assert model.tag(vectors(8), "macro", unit="grid") == Halsted.tag(model.to("cpu"), vectors(8), "macro", unit="grid")


def test_a_row_has_the_same_bits_in_a_request_of_any_length():
    """Compares the logits, before rounding, which would hide most differences."""
    model = sharp(Halsted.create(None, 24, width=64, heads=4, seed=1))
    embeddings, tasks = torch.from_numpy(vectors(150)), torch.tensor([i % 4 for i in range(150)])

    def logits(rows):
        size, fill_to = model.pass_sizes(rows)
        return generate(
            model.frozen, model.grammars["grid"], embeddings[:rows], tasks[:rows], size, fill_to=fill_to
        ).logits_NGC

    together = logits(150)
    for rows in (1, 15, 16, 17, 63, 64, 65, 149):
        assert torch.equal(logits(rows), together[:rows]), f"{rows} rows"


def test_where_long_passes_give_other_bits_all_passes_are_short(monkeypatch):
    model = Halsted.create(None, 24, width=32, heads=4)
    assert model.pass_sizes(16) == (16, 16) and model.pass_sizes(17) in ((64, 16), (16, 16))
    monkeypatch.setattr(halsted, "rows_stand_alone", lambda *_: False)
    assert Halsted.create(None, 24, width=32, heads=4).pass_sizes(1000) == (16, 16)


def test_generation_takes_one_pass_per_tag(model, monkeypatch):
    passes, read_out = [], FrozenDecoder._read_out
    monkeypatch.setattr(FrozenDecoder, "_read_out", lambda *args: passes.append(1) or read_out(*args))
    model.tag(vectors(3), "macro", unit="grid")
    assert len(passes) == 3
    passes.clear()
    model.tag(vectors(3), "proficiency", unit="grid")
    assert len(passes) == 2


@pytest.mark.parametrize("width", [32, 192])
def test_batch_size_invariance(width):
    model = sharp(Halsted.create(None, 24, width=width, heads=4, seed=1))
    embeddings, tasks = vectors(64), mixed(64)
    together = model.tag(embeddings, tasks, return_probabilities=True, unit="grid")
    order = np.random.default_rng(2).permutation(64)
    permuted = model.tag(embeddings[order], [tasks[i] for i in order], return_probabilities=True, unit="grid")
    single = [model.tag(embeddings[i : i + 1], tasks[i], return_probabilities=True, unit="grid") for i in range(64)]
    for place, i in enumerate(order):
        assert permuted[0][place] == together[0][i] == single[i][0][0]
        for tag, probabilities in together[1][i].items():
            assert (permuted[1][place][tag] == probabilities).all() and (single[i][1][0][tag] == probabilities).all()


def test_thread_count_invariance():
    """Compares the logits to the last bit, before rounding, which would hide most differences."""
    model = sharp(Halsted.create(None, 192, seed=1))
    embeddings, tasks = torch.from_numpy(vectors(48, 192)), torch.tensor([i % 4 for i in range(48)])
    before = torch.get_num_threads()
    try:
        logits = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            logits.append(
                generate(model.decoder, model.grammars["grid"], embeddings, tasks, model.rows_per_pass).logits_NGC
            )
    finally:
        torch.set_num_threads(before)
    assert torch.equal(logits[0], logits[1])


def test_probabilities_are_of_the_tag_s_categories(model):
    rows, probabilities = model.tag(vectors(12), mixed(12), return_probabilities=True, unit="grid")
    for row, distribution in zip(rows, probabilities, strict=True):
        for tag, (category, confidence) in row.items():
            categories = model.taxonomy.tag(tag).categories
            assert len(distribution[tag]) == len(categories)
            assert distribution[tag].sum() == pytest.approx(1, abs=1e-4 * len(categories))
            assert confidence == distribution[tag][categories.index(category)] == round(confidence, 4)
            allowed = model.taxonomy.allowed(tag, {name: chosen for name, (chosen, _) in row.items()})
            assert confidence == max(distribution[tag][categories.index(name)] for name in allowed)


def test_given_tags_condition_what_follows(model):
    free = model.tag(vectors(1), "macro", unit="grid")[0]
    other = next(s for s in model.taxonomy.tag("specialty").categories if s != free["specialty"][0])
    row = model.tag(vectors(1), "macro", given=[{"specialty": other}], unit="grid")[0]
    assert row["specialty"][0] == other
    assert row["procedure"][0] in model.taxonomy.allowed("procedure", {"specialty": other})


def test_temperature_is_found():
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(4000, 5, generator=generator) * 2
    labels = torch.multinomial(honest.softmax(-1), 1, generator=generator)[:, 0]
    for scale in (3.0, 0.5):
        found = fit_temperatures({"action": {"grid": TagLogits(honest * scale, labels, 4000)}})["grid"]
        assert found["action"] == pytest.approx(scale, rel=0.1)


def test_a_handful_of_videos_never_makes_a_tag_surer_than_they_can_show():
    """Six videos of which each is right: the likeliest temperature is 0, and 1000 windows of them show no more."""
    right = torch.zeros(1000, 8)
    right[:, 2] = 4.0
    labels = torch.full((1000,), 2)
    of_six = fit_temperatures({"procedure": {"grid": TagLogits(right, labels, 6)}})["grid"]["procedure"]
    of_many = fit_temperatures({"procedure": {"grid": TagLogits(right, labels, 1000)}})["grid"]["procedure"]
    assert of_many < of_six and 0.7 < of_six <= 1.0


def test_a_tag_with_few_samples_is_drawn_towards_the_temperature_of_all_tags():
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(4000, 5, generator=generator) * 2
    labels = torch.multinomial(honest.softmax(-1), 1, generator=generator)[:, 0]
    tags = {
        "action": {"grid": TagLogits(honest * 3, labels, 4000)},
        "anatomy": {"grid": TagLogits(honest[:0], labels[:0], 0)},
    }
    found = fit_temperatures(tags)["grid"]
    assert found["anatomy"] == pytest.approx(found["action"], rel=0.15)
    assert fit_temperatures({"anatomy": tags["anatomy"]})["grid"]["anatomy"] == pytest.approx(1.0, abs=0.01)


def test_windows_of_one_video_are_one_observation_in_calibration():
    model = sharp(Halsted.create(None, 24, width=32, heads=4, seed=7), 4)
    tasks, tags = samples(400)
    model.calibrate(vectors(400), tasks, tags, ["grid"] * 400, np.zeros(400, int))
    few = dict(model.config.temperatures)
    model.calibrate(vectors(400), tasks, tags, ["grid"] * 400)
    assert sum(model.config.temperatures.values()) > sum(few.values()), "sure and wrong: more samples say it louder"


def test_calibration_corrects_the_confidence_and_keeps_the_tags():
    model = sharp(Halsted.create(None, 24, width=32, heads=4, seed=7), 60)  # sure of itself, and wrong
    tasks, tags = samples(400)
    before = model.tag(vectors(400), tasks, unit="grid")
    model.calibrate(vectors(400), tasks, tags, ["grid"] * 400)
    after = model.tag(vectors(400), tasks, unit="grid")
    assert [{t: c for t, (c, _) in row.items()} for row in before] == [
        {t: c for t, (c, _) in row.items()} for row in after
    ]
    assert model.config.temperatures["step"] > 2
    confidence = np.mean([row["step"][1] for row in after if "step" in row])
    right = np.mean([row["step"][0] == named["step"] for row, named in zip(after, tags, strict=True) if "step" in row])
    assert abs(confidence - right) < 0.1 < np.mean([row["step"][1] for row in before if "step" in row]) - right


def test_the_grammar_lists_every_token_that_may_follow():
    vocabulary = Vocabulary(taxonomy.load())
    ids = vocabulary.encode("macro", {"specialty": "Thoracic", "procedure": "Segmentectomy", "step": "Dissection"})
    for length in range(len(ids)):
        assert ids[length] in vocabulary.allowed_next("macro", ids[:length])
    assert len(vocabulary.allowed_next("macro", ids[:2])) == 8
    assert len(vocabulary.allowed_next("macro", ids[:5])) == 3
    assert vocabulary.allowed_next("macro", ids) == [PAD] and ids[-1] == EOS


def test_vectors_are_standardised_in_full_precision_where_the_rest_runs_in_bf16():
    """Features have a common mean that is large beside what varies. In bfloat16 what varies would be rounded away."""
    rng = np.random.default_rng(0)
    embeddings_ND = torch.from_numpy(100 + rng.normal(size=(256, 24))).float()
    standardised = Halsted.create(None, 24, width=24, heads=4, seed=5).decoder
    standardised.fit_features(embeddings_ND)
    tasks_N, tokens_NS = torch.zeros(256, dtype=torch.long), torch.full((256, 1), BOS)
    with torch.no_grad():
        exact = standardised._embed(embeddings_ND, tasks_N, tokens_NS)[:, 0]
        with torch.autocast("cpu", torch.bfloat16):
            found = standardised._embed(embeddings_ND, tasks_N, tokens_NS)[:, 0]
    assert torch.allclose(found.float(), exact, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_features_of_any_scale_and_mean_are_standardised(scale):
    rng = np.random.default_rng(0)
    rows_ND = scale * (30 * rng.normal(size=24) + rng.normal(size=(500, 24)) * np.exp(rng.normal(size=24)))
    model = Halsted.create(None, 24, width=24, heads=4).decoder
    model.fit_features(torch.from_numpy(rows_ND))
    found_ND = (torch.from_numpy(rows_ND).float() - model.feature_mean) * model.feature_scale_D
    torch.testing.assert_close(found_ND.mean(0), torch.zeros(24), atol=1e-3, rtol=0)
    torch.testing.assert_close(found_ND.std(0, correction=0), torch.ones(24), atol=1e-3, rtol=0)


def test_a_feature_that_is_constant_in_training_is_not_blown_up():
    rows_ND = torch.from_numpy(vectors(100)).double()
    rows_ND[:, 3] = 7.25
    model = Halsted.create(None, 24, width=24, heads=4).decoder
    model.fit_features(rows_ND)
    others = torch.cat([model.feature_scale_D[:3], model.feature_scale_D[4:]])
    assert torch.isfinite(model.feature_scale_D).all() and model.feature_scale_D[3] <= 2000 * others.max()
    model.fit_features(torch.ones(5, 24))
    assert torch.isfinite(model.feature_scale_D).all()


def test_features_are_fitted_part_by_part_where_vectors_are_many(monkeypatch):
    embeddings_ND = torch.from_numpy(vectors(1000))
    whole, parts = (Halsted.create(None, 24, width=24, heads=4).decoder for _ in range(2))
    whole.fit_features(embeddings_ND)
    monkeypatch.setattr(decoder, "FIT_ROWS", 64)
    parts.fit_features(embeddings_ND)
    assert torch.allclose(whole.feature_mean, parts.feature_mean, atol=1e-7)
    assert torch.allclose(whole.feature_scale_D, parts.feature_scale_D, rtol=1e-6)
    exact = embeddings_ND.double()
    assert torch.equal(whole.feature_mean, exact.mean(0).float())
