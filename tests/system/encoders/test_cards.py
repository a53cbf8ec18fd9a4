"""Cards of checkpoints: facts agree with the code, families are identified, files are found."""

import hashlib
import re
from pathlib import Path

import pytest
import torch

from system.config.families import has_filterbank
from system.encoders import FAMILIES, cards, checkpoints, family_class, wrapped
from system.encoders.eat import DEVIATION, MEAN, Eat
from system.encoders.fisher import Fisher
from system.errors import WheeltapperError
from system.frontends.stft import FISHER_MEAN

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
FISHER_FILE = FIXTURES / "encoders" / "fisher" / "fisher.pt"
KEYS = {
    "fisher_tiny": "fisher-tiny",
    "fisher_mini": "fisher-mini",
    "fisher_small": "fisher-small",
    "echo_tiny": "echo-tiny",
    "echo_small": "echo-small",
    "beats_iter3": "beats-iter3",
    "eat_base_student_with_decoder": "eat-base-epoch30-pretrain",
    "audiomae_timm_vit_b16_1024x128_avgpool": "audiomae-as2m",
    "ast_hf": "ast-audioset-10-10-0.4593",
    "resnext101_32x8d_timm": "resnext101-32x8d",
    "mn04_as": "mn04",
}


def keys(name: str) -> dict[str, torch.Tensor]:
    """Tensors of a published layout on the meta device."""
    tensors = {}
    for line in (FIXTURES / "keys" / f"{name}.txt").read_text().splitlines()[1:]:
        key, shape, _ = line.split("\t")
        tensors[key] = torch.empty([int(n) for n in re.findall(r"\d+", shape)], device="meta")
    return tensors


# The table.


@pytest.mark.parametrize("name", cards.CARDS)
def test_every_card_is_complete(name):
    card = cards.CARDS[name]
    assert card.family in FAMILIES
    assert card.rate == "any" or 8000 <= card.rate <= 48000
    assert set(card.dims) == {16000, 48000}
    assert card.source.startswith("https://") or (cards.OWN / card.file).is_file()
    assert card.url is None or card.url.startswith("https://")
    assert card.sha256 is None or re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", card.sha256)
    assert card.normalisation is None or len(card.normalisation) == 2
    assert Path(card.file).name == card.file
    assert card.licence in (None, "MIT", "BSD-3-Clause", "CC-BY-NC-4.0")
    assert card.note or (card.url and card.licence)


def test_files_hashes_and_addresses_are_nobody_elses():
    files = [card.file for card in cards.CARDS.values()]
    urls = [card.url for card in cards.CARDS.values() if card.url]
    hashes = [card.sha256 for card in cards.CARDS.values() if card.sha256]
    assert len(set(files)) == len(files)
    assert len(set(hashes)) == len(hashes)
    assert len(set(urls)) == len(urls)


@pytest.mark.parametrize("name", cards.CARDS)
def test_cards_agree_with_the_classes(name):
    card = cards.CARDS[name]
    kind = family_class(card.family)
    with torch.device("meta"):
        encoder = kind(kind.SIZES[card.size])
    assert sum(p.numel() for p in encoder.parameters() if p.requires_grad) == card.parameters
    assert card.rate == (kind.rate or "any")
    assert card.frames == (encoder.frame_limit if kind.modes["official"].frames == "pad" else None)
    assert cards.key(kind.family) == card.family


def test_normalisation_is_the_code_s():
    assert all(cards.CARDS[f"fisher-{size}"].normalisation[0] == FISHER_MEAN for size in ("tiny", "mini", "small"))
    assert cards.CARDS["eat-large-epoch20-pretrain"].normalisation == [MEAN, DEVIATION]


@pytest.mark.parametrize("encoder", [Fisher, Eat])
def test_dims_are_the_lengths_of_embeddings(encoder):
    for card in cards.CARDS.values():
        if card.family == cards.key(encoder.family):
            with torch.device("meta"):
                built = encoder(encoder.SIZES[card.size])
            assert card.dims == {rate: built.bands(rate) * built.dim for rate in (16000, 48000)}


def test_the_weights_that_come_with_the_program():
    card = cards.CARDS["default"]
    path = cards.OWN / card.file
    assert path.stat().st_size <= 12_000_000
    assert hashlib.sha256(path.read_bytes()).hexdigest() == card.sha256
    assert path.with_suffix(".md").name == Path(card.source).name
    assert cards.find_checkpoint("default", "nowhere") == path


# Telling families apart.


@pytest.mark.parametrize("layout", KEYS)
@pytest.mark.parametrize("prefix", ["", "module.", "model.encoder."])
def test_families_are_told_by_their_tensors(layout, prefix):
    tensors = {prefix + name: tensor for name, tensor in keys(layout).items()}
    family = cards.CARDS[KEYS[layout]].family
    assert cards.recognise(tensors) == family
    assert cards.recognise(list(tensors)) == family


def test_published_parameters_are_counted_the_same():
    for layout in ("beats_iter3", "ast_hf", "audiomae_timm_vit_b16_1024x128_avgpool"):
        count = sum(tensor.numel() for name, tensor in keys(layout).items() if not is_shared(name))
        assert count == cards.CARDS[KEYS[layout]].parameters


def is_shared(name: str) -> bool:
    """BEATs stores one table with every layer."""
    return "relative_attention_bias" in name and ".0." not in name


def test_hub_names_of_eat():
    names = [n.replace("modality_encoders.IMAGE.", "model.") for n in keys("eat_base_student_with_decoder")]
    names = [n.replace("context_encoder.norm", "pre_norm") for n in names if ".decoder." not in n]
    assert cards.recognise(names) == "eat"


@pytest.mark.parametrize("rows", [512, 6144])
def test_fisher_and_eat_are_told_by_their_table(rows):
    tensors = keys("fisher_tiny")
    assert cards.recognise(tensors) == "fisher"
    tensors["modality_encoders.IMAGE.fixed_positional_encoder.positions"] = torch.empty(1, rows, 192, device="meta")
    assert cards.recognise(tensors) == "eat"


@pytest.mark.parametrize("names", [[], ["weight"], {"a": 1}, ["cls_token", "pos_embed"], ["conv1.weight"], [3, None]])
def test_other_names_are_no_family(names):
    assert cards.recognise(names) is None


@pytest.mark.parametrize("loaded", [{}, {"model": 3}, {"cfg": 5, "model": {}}, {"metadata": None}, {"metadata": {}}])
def test_strange_files_are_no_family(loaded):
    assert cards.identify(wrapped.unwrap(loaded)) is None


def test_files_are_told_apart(tmp_path):
    assert cards.family_of(FISHER_FILE) == "fisher"
    assert cards.family_of(FIXTURES / "encoders" / "eat" / "eat.pt") == "eat"
    Eat.build("nano", 0).save(tmp_path / "x.safetensors")
    assert cards.family_of(tmp_path / "x.safetensors") == "eat"
    bare = checkpoints.load_file(FISHER_FILE)["model"]
    torch.save(dict(bare), tmp_path / "bare.pt")
    assert cards.family_of(tmp_path / "bare.pt") == "fisher"


def test_echo_s_dict_is_looked_into():
    assert cards.identify(wrapped.unwrap({"encoder": keys("echo_small"), "model_type": "small"})) == "echo"


@pytest.mark.parametrize("layout", ["beats_iter3", "ast_hf", "echo_tiny", "resnext101_32x8d_timm", "mn04_as"])
def test_the_wrong_family_is_named_when_loading(tmp_path, layout):
    tensors = {name: torch.zeros(2) for name in keys(layout)}
    torch.save({"model": tensors}, tmp_path / "x.pt")
    family = cards.CARDS[KEYS[layout]].family
    with pytest.raises(WheeltapperError, match=rf"x\.pt: .*; it looks like a checkpoint of the family {family}$"):
        Fisher.load(tmp_path / "x.pt")


def test_no_guess_where_the_family_is_right(tmp_path):
    state = checkpoints.load_file(FISHER_FILE)
    state["model"].popitem()
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(WheeltapperError, match="missing") as caught:
        Fisher.load(tmp_path / "x.pt")
    assert "looks like" not in str(caught.value)


# Finding.


def test_a_file_goes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("fisher-tiny").write_bytes(b"x")
    assert cards.find_checkpoint("fisher-tiny", "elsewhere") == Path("fisher-tiny")
    assert cards.find_checkpoint(FISHER_FILE, "elsewhere") == FISHER_FILE


def test_a_name_is_looked_up_in_the_folder(tmp_path):
    (tmp_path / "FISHER-tiny.pt").write_bytes(b"x")
    assert cards.find_checkpoint("fisher-tiny", tmp_path) == tmp_path / "FISHER-tiny.pt"


def test_what_is_not_there_says_how_to_come_by_it(tmp_path):
    with pytest.raises(
        WheeltapperError, match=r"fisher-mini: .* download-checkpoint fisher-mini --out .* --checkpoint F"
    ):
        cards.find_checkpoint("fisher-mini", tmp_path)
    with pytest.raises(WheeltapperError, match="found nothing; give --checkpoint FILE, put the file into"):
        cards.find_checkpoint("echo-tiny", tmp_path)
    with pytest.raises(WheeltapperError, match=r"fisher_mini: .* found neither; did you mean fisher-mini\?"):
        cards.find_checkpoint("fisher_mini", tmp_path)
    with pytest.raises(WheeltapperError, match="found a folder"):
        cards.find_checkpoint(tmp_path, tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_families_with_a_filter_bank_are_known_without_loading_them(family):
    assert has_filterbank(family) == bool(family_class(family).filterbanks)
