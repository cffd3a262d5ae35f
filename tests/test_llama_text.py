"""The ablation of the decoder: a Llama that writes tags as text in byte pairs, with a small one trained here."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers import decoders as tokenizer_decoders
from transformers import LlamaConfig, LlamaForCausalLM

from halsted_ray import taxonomy as taxonomies
from halsted_ray.errors import ModelError
from halsted_ray.evaluation.llama_answers import answer_text, fine_tune, llama_predictions, text_samples
from halsted_ray.evaluation.predictions import LLAMA, NO_CATEGORY, tag_targets
from halsted_ray.model.llama_text import NO_LOSS, load_llama_text
from halsted_ray.model.vocabulary import Vocabulary, parse
from halsted_ray.records import Window
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
                    {"name": "action", "categories": ["Tug", "Hot Cut", "Clip"]},
                    {"name": "arm", "categories": ["Left", "Right"]},
                ],
            },
        ],
    }
)
DIM = 24
RECIPE = Recipe(epochs=20, batch_size=16, learning_rate=1e-2, warmup_epochs=1)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny untrained Llama with a tokenizer of byte pairs, in the layout of a published one."""
    path = tmp_path_factory.mktemp("llama")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizer_decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["map dissection activity <action> Hot Cut </action> <arm> Left </arm>"] * 4, trainer)
    tokenizer.save(str(path / "tokenizer.json"))
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=[1, 2],
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    return str(path)


def samples(count, seed, tasks=("micro",)):
    """Windows whose vectors tell their action and arm."""
    rng, directions = np.random.default_rng(seed), np.random.default_rng(0).normal(size=(5, DIM))
    labelled, vectors = {"v": []}, {"v": {}}
    for n in range(count):
        window = Window("fine", n * 2.5, n * 2.5 + 2.5)
        action, arm = int(rng.integers(3)), int(rng.integers(2))
        vector = directions[action] + directions[3 + arm] + 0.2 * rng.normal(size=DIM)
        vectors["v"]["fine", window.start_s, window.stop_s] = vector.astype(np.float16)
        tags = tuple((tag.name, tag.categories[k]) for tag, k in zip(SMALL.tags[1:], (action, arm), strict=True))
        labelled["v"].append(LabelledWindow(window, "micro", tags, 1.0, True))
        if "macro" in tasks:
            labelled["v"].append(LabelledWindow(window, "macro", (("step", "Dissection"),), 1.0, True))
    return build_samples(labelled, vectors, Vocabulary(SMALL))


def targets_of(test, train):
    rows = np.array(["fine"] * len(test)), np.array(["manual"] * len(test))
    return tag_targets(test, train, SMALL, 0, *rows)


def test_a_llama_learns_to_write_the_tags_of_a_window_as_text(folder):
    train, validation, test = samples(240, 1), samples(40, 2), samples(60, 3)
    targets = targets_of(test, train)
    found = llama_predictions(folder, targets, train, validation, test, SMALL, RECIPE)
    assert [(entry.method, entry.targets.tag) for entry in found] == [(LLAMA, "action"), (LLAMA, "arm")]
    for entry in found:
        assert entry.right_N.mean() > 0.9, entry.targets.tag
        assert (
            np.allclose(entry.scores_NK.sum(1), 1) and (entry.scores_NK.argmax(1) == entry.targets.truth_N).mean() > 0.9
        )
        assert (entry.confidence_N > 0).all()


def test_an_untrained_llama_writes_no_tag_and_counts_as_wrong(folder):
    train, test = samples(8, 1), samples(8, 3)
    recipe = Recipe(epochs=1, batch_size=8, learning_rate=1e-9, warmup_epochs=0)
    for entry in llama_predictions(
        folder, targets_of(test, train), train, test.take(np.arange(0)), test, SMALL, recipe
    ):
        assert (entry.chosen_N == NO_CATEGORY).all() and not entry.right_N.any() and not entry.confidence_N.any()


def test_tags_are_found_in_free_text_by_a_regular_expression():
    said = "The surgeon <action> hot cut </action>, I think. <arm> Left <instrument> Scissors </instrument>"
    assert parse(said, SMALL, "micro").tags == {"action": "Hot Cut"}
    tags = {"action": "Hot Cut", "arm": "Left"}
    assert parse(answer_text(tags), SMALL, "micro").tags == tags


def test_the_loss_is_on_the_answer_and_its_end_alone(folder):
    model = load_llama_text(folder, DIM)
    answers = ["<arm> Left </arm>", "<action> Hot Cut </action> <arm> Right </arm>"]
    ids = [[*model.ids(text), 1] for text in answers]
    logits, targets = model.answer_logits(torch.zeros(2, DIM), ["map dissection activity"] * 2, ids)
    assert logits.shape[:2] == targets.shape
    for row, answer in enumerate(ids):
        assert targets[row][targets[row] != NO_LOSS].tolist() == answer
        first = int((targets[row] != NO_LOSS).nonzero()[0])
        assert first == 1 + len(model.ids("map dissection activity\n")), "the last token before the answer predicts it"
    alone = model.loss(torch.zeros(1, DIM), ["map dissection activity"], answers[:1])
    both = model.loss(torch.zeros(2, DIM), ["map dissection activity"] * 2, answers)
    assert both[0].item() == pytest.approx(alone[0].item(), abs=1e-4), "padding changes nothing"


def test_writing_with_a_cache_is_writing_without(folder):
    """Each byte pair is the likeliest after all that stands before it."""
    model = load_llama_text(folder, DIM).eval()
    data = text_samples(samples(64, 1), SMALL)
    fine_tune(model, data, data, Recipe(epochs=2, batch_size=16, learning_rate=4e-3, warmup_epochs=0), "cpu")
    vectors = data.vectors_SD[:3]
    for row, text in enumerate(model.write(vectors, "map dissection activity", 12)):
        ids: list[int] = []
        for _ in range(12):
            with torch.inference_mode():
                logits, _ = model.answer_logits(vectors[row : row + 1], ["map dissection activity"], [ids])
            token = int(logits[0, -1].argmax())
            if token in model.endings:
                break
            ids.append(token)
        assert model.tokenizer.decode(ids) == text


def test_a_folder_without_a_tokenizer_or_with_another_is_refused(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes(open(f"{folder}/{name}", "rb").read())
    with pytest.raises(ModelError, match="tokenizer.json can't be read.*expected the folder as it is published"):
        load_llama_text(str(tmp_path), DIM)
    larger = Tokenizer.from_file(f"{folder}/tokenizer.json")
    larger.add_tokens([f"word{n}" for n in range(5)])
    larger.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelError, match="expected the tokenizer that the Llama was trained with"):
        load_llama_text(str(tmp_path), DIM)
