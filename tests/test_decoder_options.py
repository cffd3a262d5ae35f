"""The decoder's other forms: a learned prompt, a vector per time step, a Llama behind an adaptor."""

import json

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from halsted_ray import taxonomy as taxonomies
from halsted_ray.errors import ModelError, UsageError
from halsted_ray.model.encoder import Encoder
from halsted_ray.model.generation import generate_token_by_token
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.llama import read_config
from halsted_ray.model.vocabulary import Vocabulary
from halsted_ray.records import Window
from halsted_ray.training import loop
from halsted_ray.training.recipe import Recipe
from halsted_ray.training.samples import LabelledWindow, build_samples

SMALL = taxonomies.from_dict(
    {
        "name": "small",
        "tasks": [
            {
                "name": "macro",
                "instruction": "map procedure type",
                "window": "coarse",
                "tags": [{"name": "step", "categories": ["Suturing", "Dissection"]}],
            },
            {
                "name": "micro",
                "instruction": "map dissection activity",
                "window": "fine",
                "when": {"step": "Dissection"},
                "tags": [
                    {"name": "action", "categories": ["Tug", "Hook", "Clip"]},
                    {"name": "arm", "categories": ["Left", "Right"]},
                ],
            },
        ],
    }
)
DIM, STEPS = 24, 8


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory):
    """A tiny untrained Llama, as Hugging Face writes it."""
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def samples(count, seed, steps=1):
    """Windows whose vectors (``steps`` per window) tell their category."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(0).normal(size=(7, DIM))
    labelled, vectors = {"v": []}, {"v": {}}
    for n in range(count):
        window = Window("fine", n * 2.5, n * 2.5 + 2.5)
        step, action, arm = (int(rng.integers(k)) for k in (2, 3, 2))
        vector = np.tile(directions[step] + directions[2 + action] + directions[5 + arm], steps)
        noise = 0.2 * rng.normal(size=len(vector))
        vectors["v"]["fine", window.start_s, window.stop_s] = (vector + noise).astype(np.float16)
        tags = [(tag.name, tag.categories[k]) for tag, k in zip(SMALL.tags, (step, action, arm), strict=True)]
        labelled["v"] += [
            LabelledWindow(window, "macro", (tags[0],), 1.0, True),
            LabelledWindow(window, "micro", tuple(tags[1:]), 1.0, True),
        ]
    return build_samples(labelled, vectors, Vocabulary(SMALL))


FORMS = ("soft_prompt", "temporal_tokens", "attention", "llama", "deeper")


def made(form, llama_folder):
    """Returns (recipe, untrained model, vectors per window) of one form."""
    recipe = Recipe(
        epochs=12,
        batch_size=32,
        learning_rate=4e-3,
        warmup_epochs=1,
        heads=4,
        layers=5 if form == "deeper" else 1,
        soft_prompt=form == "soft_prompt",
        temporal_tokens=form == "temporal_tokens",
        pooling="attention" if form == "attention" else "mean",
        decoder=f"llama:{llama_folder}" if form == "llama" else "halsted",
        validate_every=12,
    )
    steps = STEPS if form in ("temporal_tokens", "attention") else 1
    model = Halsted.create(
        SMALL,
        DIM * steps,
        layers=recipe.layers,
        heads=recipe.heads,
        width=32,
        feedforward=48,
        dropout=0.0,
        steps=steps,
        soft_prompt=recipe.soft_prompt,
        pooling=recipe.pooling,
        llama=read_config(recipe.llama) if recipe.llama else None,
    )
    return recipe, model, steps


@pytest.mark.parametrize("form", FORMS)
def test_every_form_learns_and_is_the_same_after_save_and_load(form, llama_folder, tmp_path):
    recipe, model, steps = made(form, llama_folder)
    train, validation = samples(200, 1, steps), samples(40, 2, steps)
    fitted = loop.fit_in_process(train, validation, model.config.decoder_sizes, SMALL, recipe)
    accuracy = fitted.progress.curve[-1]["accuracy_of_task"]
    assert min(accuracy.values()) > 0.9, accuracy
    model.decoder.load_state_dict(fitted.tensors)
    model.save(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"model.json", "decoder.safetensors"}
    loaded = Halsted.load(str(tmp_path))
    vectors = validation.embeddings_WD[:20]
    for task in ("macro", "micro"):
        assert loaded.tag(vectors, task, unit="grid") == model.tag(vectors, task, unit="grid")
    assert loaded.digest == model.digest
    # one pass for several tokens with a cache, against one token a pass without
    tasks_N = torch.tensor([0, 1] * 5)
    plain = generate_token_by_token(
        loaded.decoder, loaded.vocabulary, loaded.grammars["grid"], torch.from_numpy(vectors[:10]).float(), tasks_N
    )
    tags = loaded.tag(vectors[:10], ["macro", "micro"] * 5, unit="grid")
    for row, answer, task in zip(tags, plain, ["macro", "micro"] * 5, strict=True):
        assert loaded.vocabulary.encode(task, {tag: category for tag, (category, _) in row.items()}) == [
            token for token in answer if token
        ]
    # a row's answer does not depend on the others
    assert loaded.tag(vectors[3:4], "micro", unit="grid")[0] == loaded.tag(vectors, "micro", unit="grid")[3]


def test_a_soft_prompt_is_learned_and_ignores_the_words(llama_folder):
    _, model, _ = made("soft_prompt", llama_folder)
    decoder, vector = model.decoder, torch.ones(1, DIM)
    tasks, tokens = torch.tensor([1]), torch.tensor([[1]])
    decoder(vector, tasks, tokens).sum().backward()
    assert decoder.prompts_KMW.grad[1].abs().sum() > 0 and decoder.prompts_KMW.grad[0].abs().sum() == 0
    word = model.vocabulary.instructions[1][0]
    before = decoder(vector, tasks, tokens).detach()
    with torch.no_grad():
        decoder.tokens.weight[word] += 1
    after = decoder(vector, tasks, tokens).detach()
    assert torch.equal(before[..., :word], after[..., :word])


def test_the_order_of_time_steps_matters(llama_folder):
    """The same vectors in another order give other logits, though their mean is the same."""
    _, model, _ = made("temporal_tokens", llama_folder)
    window = torch.randn(1, STEPS, DIM, generator=torch.Generator().manual_seed(0))
    tasks, tokens = torch.tensor([1]), torch.tensor([[1]])
    first, second = (model.decoder(rows.flatten(1), tasks, tokens) for rows in (window, window.flip(1)))
    assert not torch.allclose(first, second, atol=1e-4)
    assert model.decoder.feature_scale_D.shape == (DIM,), "one scale for all steps"


def test_an_encoder_that_gives_a_vector_per_time_step():
    whole, stepped = Encoder.load("random:tiny:0"), Encoder.load("random:tiny:0#steps")
    assert (stepped.dim, stepped.steps, stepped.ref) == (8 * whole.dim, 8, "random:tiny:0#steps")
    assert stepped.fingerprint != whole.fingerprint, "their vectors must not share a store"
    clips = np.random.default_rng(0).integers(0, 255, (2, 16, *whole.image_size, 3), np.uint8)
    vectors = stepped.encode(clips)
    assert vectors.shape == (2, stepped.dim) and vectors.dtype == np.float16
    assert np.allclose(vectors.reshape(2, 8, -1).astype(np.float32).mean(1), whole.encode(clips), atol=2e-2)


def test_a_llama_keeps_its_trained_weights(llama_folder):
    _, model, _ = made("llama", llama_folder)
    original = LlamaForCausalLM.from_pretrained(llama_folder).model.state_dict()
    model.decoder.load_trunk(llama_folder)
    trunk = model.decoder.trunk.state_dict()
    assert set(original) - set(trunk) == {"embed_tokens.weight"}
    assert all(torch.equal(value, original[name]) for name, value in trunk.items())
    assert (model.config.width, model.config.layers, model.config.heads) == (32, 2, 4)


def test_a_folder_that_is_no_llama_is_reported(llama_folder, tmp_path):
    with pytest.raises(ModelError, match="config.json can't be read"):
        read_config(str(tmp_path))
    stated = json.loads(open(f"{llama_folder}/config.json").read())
    (tmp_path / "config.json").write_text(json.dumps(stated | {"model_type": "gpt2"}))
    with pytest.raises(ModelError, match="is of type 'gpt2'; expected 'llama'"):
        read_config(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(stated | {"hidden_size": 64}))
    larger = Halsted.create(SMALL, DIM, llama=read_config(str(tmp_path)))
    with pytest.raises(ModelError, match="do not fit its config.json: layers.0"):
        larger.decoder.load_trunk(llama_folder)
    with pytest.raises(UsageError, match="decoder='lama'; expected halsted, or llama:FOLDER"):
        Recipe(decoder="lama")
