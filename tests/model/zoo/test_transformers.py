"""Shipped models take the weights of transformers' classes strictly, and compute the same."""

import os

import pytest
import torch
from zoo_cases import CASES, same_state

os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers")

WIDTHS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def bert():
    config = transformers.BertConfig(vocab_size=50, intermediate_size=128, max_position_embeddings=40, **WIDTHS)
    return transformers.BertModel(config)


def gpt2():
    config = transformers.GPT2Config(vocab_size=50, n_positions=40, n_embd=32, n_layer=2, n_head=4)
    return transformers.GPT2LMHeadModel(config)


def llama():
    config = transformers.LlamaConfig(
        vocab_size=50, intermediate_size=48, num_key_value_heads=2, pad_token_id=None, **WIDTHS
    )
    return transformers.LlamaForCausalLM(config)


def vit():
    config = transformers.ViTConfig(image_size=32, patch_size=8, intermediate_size=128, num_labels=5, **WIDTHS)
    return transformers.ViTForImageClassification(config)


REFERENCES = {"bert": bert, "gpt2": gpt2, "llama": llama, "vit": vit}


def outputs_of(result):
    """The tensors of a transformers output that our models give, by name."""
    wanted = ("logits", "last_hidden_state", "pooler_output")
    return {name: result[name] for name in wanted if name in result}


def perturbed(model):
    """Weights that are nowhere zero or one, as after training."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(params=REFERENCES, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def pair(name):
    torch.manual_seed(7)
    theirs = perturbed(REFERENCES[name]())
    ours = CASES[name].build(name).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def test_keys_and_their_order_are_those_of_transformers(pair):
    same_state(*pair)


def test_outputs_are_those_of_transformers(name, pair):
    ours, theirs = pair
    torch.manual_seed(1)
    inputs = CASES[name].make()
    with torch.no_grad():
        got, want = ours(*inputs), outputs_of(theirs(*inputs))
    got = got if isinstance(got, dict) else {"logits": got}
    assert list(got) == list(want)
    for key in want:
        assert want[key].std() > 0.01
        torch.testing.assert_close(got[key], want[key], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"], scope="module")
def test_initial_bits_are_those_of_the_constructors(name, monkeypatch):
    """transformers draws its weights again after construction; without that, the same layers begin the same."""
    monkeypatch.setattr(transformers.PreTrainedModel, "post_init", lambda self: None)
    torch.manual_seed(7)
    theirs = REFERENCES[name]()
    torch.manual_seed(7)
    ours = CASES[name].build(name)
    if name == "gpt2":
        theirs.lm_head.weight = theirs.transformer.wte.weight
    same_state(ours, theirs)


def test_bert_takes_masks_and_two_sentences():
    torch.manual_seed(7)
    theirs = perturbed(bert())
    ours = CASES["bert"].build("bert").eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    ids = torch.randint(1, 50, (3, 12))
    mask = (torch.arange(12) < torch.tensor([[12], [9], [5]])).long()
    types = (torch.arange(12) >= 6).long().expand(3, -1)
    with torch.no_grad():
        want = theirs(ids, attention_mask=mask, token_type_ids=types)
        got = ours(ids, attention_mask=mask, token_type_ids=types)
    torch.testing.assert_close(got["pooler_output"], want.pooler_output, rtol=0, atol=1e-5)
    held = mask.bool()
    torch.testing.assert_close(got["last_hidden_state"][held], want.last_hidden_state[held], rtol=0, atol=1e-5)


def test_training_steps_stay_together():
    """Without dropout, a step of SGD moves both GPT-2s alike."""
    torch.manual_seed(7)
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=40, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    )
    theirs = transformers.GPT2LMHeadModel(config).train()
    ours = CASES["gpt2"].build("gpt2", dropout=0.0)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    ids = CASES["gpt2"].make()[0]
    for model in (ours, theirs):
        output = model(ids)
        logits = output if torch.is_tensor(output) else output.logits
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
        torch.optim.SGD(model.parameters(), lr=1.0).step()
    for (name, a), (other, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == other
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


RESNETS = {
    "resnet18": {"layer_type": "basic", "hidden_sizes": [4, 8, 16, 32], "depths": [2, 2, 2, 2]},
    "resnet50": {"layer_type": "bottleneck", "hidden_sizes": [16, 32, 64, 128], "depths": [2, 1, 1, 2]},
}


def torchvision_key(key):
    """The name in torchvision's layout of a tensor of transformers' ResNetModel."""
    kinds = {"convolution": "conv", "normalization": "bn"}
    parts = key.split(".")
    if parts[0] == "embedder":
        return f"{kinds[parts[2]]}1.{parts[3]}"
    stage, block = int(parts[2]) + 1, parts[4]
    if parts[5] == "shortcut":
        return f"layer{stage}.{block}.downsample.{['convolution', 'normalization'].index(parts[6])}.{parts[7]}"
    return f"layer{stage}.{block}.{kinds[parts[7]]}{int(parts[6]) + 1}.{parts[8]}"


@pytest.mark.parametrize("name", RESNETS)
def test_residual_networks_compute_what_transformers_do(name):
    torch.manual_seed(7)
    theirs = perturbed(transformers.ResNetModel(transformers.ResNetConfig(embedding_size=4, **RESNETS[name])))
    ours = CASES[name].build(name).eval()
    state = {torchvision_key(key): tensor for key, tensor in theirs.state_dict().items()}
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert missing == ["fc.weight", "fc.bias"] and not unexpected
    ours.fc = torch.nn.Identity()
    x = CASES[name].make()[0]
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x).pooler_output.flatten(1))
