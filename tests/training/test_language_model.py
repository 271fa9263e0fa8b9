"""The language-model start: the GRU learns which word comes next."""

import math
import random

import pytest
import torch

from toolchain.models.classifiers import PooledGRU
from toolchain.training.language_model import NextWord, pretrain

WORDS = [f"w{number}" for number in range(40)]
VOCABULARY = ["<unk>", "<pad>", *WORDS]


def new_model(seed: int = 0) -> PooledGRU:
    torch.manual_seed(seed)
    return PooledGRU(1, 24, len(VOCABULARY), 16, 2, ("last", "mean"))


def a_language(count: int) -> list[list[str]]:
    """Texts in which a word decides which comes next."""
    successor = {word: WORDS[(7 * number + 3) % len(WORDS)] for number, word in enumerate(WORDS)}
    draw = random.Random(5)
    texts = []
    for _ in range(count):
        text = [draw.choice(WORDS)]
        for _ in range(draw.randint(3, 12)):
            text.append(successor[text[-1]])
        texts.append(text)
    return texts


def test_what_follows_is_learnt_and_noise_is_not() -> None:
    draw = random.Random(6)
    noise = [[draw.choice(WORDS) for _ in range(8)] for _ in range(3000)]
    assert pretrain(new_model(), a_language(3000), VOCABULARY, seed=0, epochs=2) < math.log(len(WORDS)) - 1.5
    assert pretrain(new_model(), noise, VOCABULARY, seed=0, epochs=2) == pytest.approx(math.log(len(WORDS)), abs=0.1)


def test_the_models_own_embedding_and_gru_are_trained_and_its_answer_is_not() -> None:
    model, before = new_model(), new_model().state_dict()
    pretrain(model, a_language(200), VOCABULARY, seed=0, epochs=2)
    same = {name: torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items()}
    assert {name for name, is_same in same.items() if is_same} == {"out.weight", "out.bias"}


def test_the_same_seed_gives_the_same_weights() -> None:
    states = []
    for seed in (1, 1, 2):
        model = new_model()
        torch.manual_seed(seed)
        pretrain(model, a_language(300), VOCABULARY, seed, epochs=2)
        states.append(model.state_dict()["gru.weight_hh_l0"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_padding_and_texts_of_one_token_do_not_count() -> None:
    predictor = NextWord(new_model(), torch.ones(len(VOCABULARY))).eval()
    ids = torch.tensor([[5, 9, 3], [7, 2, 8]])
    padded = torch.cat([ids, torch.ones(2, 4, dtype=torch.int64)], 1)
    losses = []
    for batch in (ids, padded):
        torch.manual_seed(3)  # the same sample of the vocabulary
        losses.append(predictor(batch).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    texts = a_language(200)
    results = []
    for sentences in (texts, [["w1"], *texts, []]):
        torch.manual_seed(4)
        results.append(pretrain(new_model(), sentences, VOCABULARY, seed=0, epochs=2))
    assert results[0] == results[1]


def test_the_sampled_loss_estimates_the_whole_softmax() -> None:
    """With every word drawn, the sampled loss is the cross-entropy over the vocabulary without padding."""
    predictor = NextWord(new_model(), torch.arange(len(VOCABULARY))).eval()
    ids = torch.tensor([[5, 9, 3, 30, 12], [7, 2, 8, 4, 41]])
    states, _ = predictor.gru(predictor.embed(ids[:, :-1]))
    logits = predictor.project(states) @ predictor.words.t() + predictor.bias
    logits[..., 1] = -torch.inf
    whole = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).item()
    sampled = torch.tensor([predictor(ids).item() for _ in range(200)]).mean().item()
    assert sampled == pytest.approx(whole, abs=0.05)
