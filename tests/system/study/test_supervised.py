"""Fine-tuning: trained weights and their rates, frozen weights, files, resuming."""

import numpy as np
import pytest
import torch

from system.config import StudyModelConfig
from system.encoders.ast import Ast, AstConfig
from system.encoders.cnn import ResNeXt, ResNeXtConfig
from system.encoders.fisher import Fisher
from system.errors import WheeltapperError
from system.study import supervised
from system.study.supervised import Classifier, fine_tune, load_classifier, unfreeze

SMALL = AstConfig(embed_dim=16, depth=3, num_heads=2, target_length=48)
RATE = 1e-3


def ast() -> Ast:
    return Ast.untrained(SMALL, 3)


def cnn() -> ResNeXt:
    return ResNeXt.untrained(ResNeXtConfig(layers=(1, 1, 1, 2), cardinality=4, base_width=64, planes=4), 3)


FAMILIES = {"ast": ast, "cnn": cnn}


def spectrograms(count: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 48, 128)).astype(np.float32)


def labels(count: int = 12) -> np.ndarray:
    return np.arange(count) % 3 == 0


def train(encoder, folder, count=12, part=None, progress=None, **settings) -> Classifier:
    config = StudyModelConfig(**{"batch_size": 4, "save_every": 1, "trained_layers": 2} | settings)
    part = np.ones(count, bool) if part is None else part
    return fine_tune(encoder, spectrograms(count), part, labels(count), config, folder, 5, progress=progress)


def state(module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_groups_hold_every_parameter_once_from_the_top_down(name):
    encoder = FAMILIES[name]()
    groups = encoder.layer_groups()
    names = {id(p): n for n, p in encoder.named_parameters()}
    found = [[names[id(p)] for p in group] for group in groups]
    assert sorted(n for group in found for n in group) == sorted(names.values())
    heads = {
        "ast": ["blocks.2.", "blocks.1.", "blocks.0.", ""],
        "cnn": ["layer4.1.", "layer4.0.", "layer3.0.", "layer2.0.", "layer1.0.", ""],
    }[name]
    assert len(found) == len(heads)
    for group, head in zip(found[:-1], heads[:-1], strict=True):
        assert all(n.removeprefix("network.").startswith(head) or n.startswith("norm.") for n in group)
    assert any(n.endswith(("patch_embed.weight", "network.conv1.weight")) for n in found[-1])


def test_the_final_norm_is_trained_with_the_last_block():
    encoder = ast()
    assert any(p is encoder.norm.weight for p in encoder.layer_groups()[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_the_frozen_embedding_and_logits_the_heads(name):
    classifier = Classifier(FAMILIES[name]()).eval()
    x = torch.from_numpy(spectrograms(3))
    with torch.no_grad():
        features = classifier.features(x)
        torch.testing.assert_close(features, classifier.encoder.embed_spectrogram(x))
        first, last = classifier.head[0], classifier.head[3]
        expected = torch.relu(features @ first.weight.T + first.bias) @ last.weight.T + last.bias
        torch.testing.assert_close(classifier(x), expected[:, 0])
    assert first.weight.shape == (256, features.shape[1])
    assert classifier.head[1].p == 0.1


def test_one_step_of_adam_moves_each_layer_by_its_own_rate(tmp_path):
    """Adam's first step equals the learning rate for any gradient well above epsilon."""
    encoder = cnn()
    before = state(encoder)
    trained = train(encoder, tmp_path, count=4, trained_layers=2, learning_rate=RATE)
    moved = {n: (t - before[n]).abs().max().item() for n, t in trained.encoder.state_dict().items() if t.ndim > 1}
    assert moved["network.layer4.1.conv3.weight"] == pytest.approx(RATE / 10, rel=0.05)
    assert moved["network.layer4.0.conv3.weight"] == pytest.approx(RATE / 100, rel=0.05)
    assert moved["network.layer3.0.conv3.weight"] == 0.0
    with torch.random.fork_rng():
        torch.manual_seed(supervised.step_seed(5, -1))
        fresh = Classifier(cnn()).head
    change = (trained.head[3].weight - fresh[3].weight).abs().max().item()
    assert change == pytest.approx(RATE, rel=0.05)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("layers", [0, 1])
def test_what_is_frozen_stays_to_the_bit(name, layers, tmp_path):
    encoder = FAMILIES[name]()
    own = {id(p) for group in encoder.layer_groups()[:layers] for p in group}
    free = {n for n, p in encoder.named_parameters() if id(p) in own}
    before = state(encoder)
    after = state(train(encoder, tmp_path, trained_layers=layers).encoder)
    # Buffers too: the statistics of batch normalisation.
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    assert changed <= free
    assert bool(changed) == bool(layers)


def test_batch_normalisation_keeps_its_mode():
    classifier = Classifier(cnn()).train()
    norms = [m for m in classifier.encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert classifier.head.training


def test_gradients_reach_the_spectrogram():
    classifier = Classifier(ast()).eval()
    x = torch.from_numpy(spectrograms(1)).requires_grad_(True)
    classifier(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_only_the_training_part_counts(tmp_path):
    part = np.arange(12) < 8
    first = train(ast(), tmp_path / "a", part=part)
    second = fine_tune(
        ast(),
        np.where(part[:, None, None], spectrograms(), np.nan),
        part,
        labels() ^ ~part,
        StudyModelConfig(batch_size=4, save_every=1, trained_layers=2),
        tmp_path / "b",
        5,
    )
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], tensor, rtol=0, atol=0)


def test_the_loss_is_weighted_binary_cross_entropy():
    classifier = Classifier(ast()).eval()
    x, wrong = torch.from_numpy(spectrograms(6)), torch.tensor([1.0, 0, 0, 1, 0, 0])
    with torch.no_grad():
        p = 1 / (1 + np.exp(-classifier(x).double().numpy()))
        for weight in (1.0, 2.0):
            found = supervised._Task(classifier, weight, {})({"spectrogram": x, "anomalous": wrong})["loss"].item()
            y = wrong.numpy()
            assert found == pytest.approx(-np.mean(weight * y * np.log(p) + (1 - y) * np.log(1 - p)), rel=1e-5)


def test_balance_changes_what_is_learned(tmp_path):
    plain = train(ast(), tmp_path / "a").head[3].bias
    weighted = train(ast(), tmp_path / "b", balance="weight").head[3].bias
    assert weighted > plain  # a third of the clips is anomalous: weighted up, the logits rise


def test_it_learns(tmp_path):
    wrong = labels(24)
    data = spectrograms(24) + 1.5 * wrong[:, None, None].astype(np.float32)
    config = StudyModelConfig(batch_size=4, epochs=6, trained_layers=1)
    found = fine_tune(ast(), data, np.arange(24) < 18, wrong, config, tmp_path, 5)
    _, logits = supervised.apply(found, list(data))
    assert logits[18:][wrong[18:]].min() > logits[18:][~wrong[18:]].max()


class Stop(Exception):
    pass


def test_a_run_that_was_cut_off_ends_as_if_it_had_not(tmp_path):
    def stop(step, figures):
        if step == 3:
            raise Stop

    whole = train(ast(), tmp_path / "a", epochs=2)
    with pytest.raises(Stop):
        train(ast(), tmp_path / "b", epochs=2, progress=stop)
    resumed = train(ast(), tmp_path / "b", epochs=2)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_classifier_says_the_same(name, tmp_path):
    classifier = Classifier(FAMILIES[name]()).eval()
    classifier.save(tmp_path / "c.safetensors")
    loaded = load_classifier(tmp_path / "c.safetensors")
    x = torch.from_numpy(spectrograms(2))
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), classifier(x), rtol=0, atol=0)
    assert (loaded.mode, loaded.training) == ("official", False)


def test_front_end_and_mode_are_saved(tmp_path):
    Classifier(ast().set_front_end("even", "local"), "chunks").save(tmp_path / "c.safetensors")
    loaded = load_classifier(tmp_path / "c.safetensors")
    assert (loaded.encoder.filterbank, loaded.encoder.simam, loaded.mode) == ("even", "local", "chunks")


def test_files_that_are_no_classifier(tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(WheeltapperError, match="expected a checkpoint, found nothing"):
        load_classifier(path)
    ast().save(path)
    with pytest.raises(WheeltapperError, match=r"c.safetensors: expected a classifier of wheeltapper study"):
        load_classifier(path)
    classifier = Classifier(ast())
    classifier.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WheeltapperError, match=r"c.safetensors: damaged"):
        load_classifier(path)
    with torch.no_grad():
        classifier.head[0].weight[3, 3] = torch.nan
    classifier.save(path)
    with pytest.raises(WheeltapperError, match=r"head.0.weight holds NaN or infinity"):
        load_classifier(path)


def test_one_label_cannot_be_learned(tmp_path):
    part = ~labels()
    with pytest.raises(WheeltapperError, match="expected normal and anomalous recordings, found 0 anomalous ones of 8"):
        train(ast(), tmp_path, part=part)


def test_more_layers_than_there_are():
    with pytest.raises(WheeltapperError, match="trained_layers: expected at most 4, found 5"):
        unfreeze(Classifier(ast()), 5, 10.0)


def test_a_family_without_layers_trains_its_head_alone():
    classifier = Classifier(Fisher.build("nano", 0), rate=16000)
    assert unfreeze(classifier, 0, 10.0) == {
        f"head.{place}.{kind}": 1.0 for place in (0, 3) for kind in ("weight", "bias")
    }
    with pytest.raises(WheeltapperError, match="expected a family that can be trained layer by layer, found FISHER"):
        unfreeze(classifier, 1, 10.0)
