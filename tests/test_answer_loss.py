"""The loss of answers: the paper's without smoothing, and what smoothing adds."""

import pytest
import torch

from halsted_ray import taxonomy
from halsted_ray.model.halsted import Halsted
from halsted_ray.model.vocabulary import PAD
from halsted_ray.training.answer_loss import AnswerLoss

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def answers():
    """(model, logits [2, L, V], tokens [2, L]) of an answer of two tags and one of a single tag."""
    model = Halsted.create(taxonomy.load(), 24, width=32, heads=4, seed=3)
    tags = [{"action": "Tug", "arm": "Left"}, {"action": "Hook"}]
    _, tokens = model.targets(["micro", "micro"], tags)
    logits = torch.randn(*tokens.shape, len(model.vocabulary), generator=torch.Generator().manual_seed(0))
    return model, logits, tokens


def test_without_smoothing_it_is_the_papers_loss_bit_for_bit(answers):
    model, logits, tokens = answers
    assert torch.equal(AnswerLoss(model.vocabulary, 0.0, CPU)(logits, tokens), model.decoder.loss(logits, tokens))


def test_smoothing_spreads_a_share_over_the_categories_of_the_tag_alone(answers):
    model, logits, tokens = answers
    vocabulary, found = model.vocabulary, AnswerLoss(model.vocabulary, 0.1, CPU)(logits, tokens)
    for n in range(2):
        expected = torch.zeros(())
        for position, token in enumerate(tokens[n, 1:].tolist()):
            if token == PAD:
                continue
            target = torch.zeros(len(vocabulary))
            target[token] = 1.0
            for tag in vocabulary.taxonomy.tags:
                first = vocabulary.first[tag.name]
                if first <= token < first + len(tag.categories):
                    target[token] = 0.9
                    target[first : first + len(tag.categories)] += 0.1 / len(tag.categories)
            expected = expected - (target * logits[n, position].log_softmax(0)).sum()
        torch.testing.assert_close(found[n], expected)


def test_smoothing_makes_certainty_cost(answers):
    """With smoothing, a logit that grows without end is no longer the best answer."""
    model, logits, tokens = answers
    certain = torch.nn.functional.one_hot(tokens.roll(-1, 1), len(model.vocabulary)).float()
    smooth, plain = (AnswerLoss(model.vocabulary, share, CPU) for share in (0.1, 0.0))
    assert (plain(50 * certain, tokens) < plain(8 * certain, tokens)).all()
    assert (smooth(50 * certain, tokens) > smooth(8 * certain, tokens)).all()
