"""Weights of BEATs: all published layouts, our own files, and files that are refused."""

import copy

import checks
import pytest
import safetensors.torch
import torch
from checks import FIXTURES, RATE, relative, wave
from plain_beats import TABLE

from system.encoders import checkpoints
from system.encoders.beats import Beats, BeatsConfig
from system.encoders.eat import Eat
from system.encoders.fisher import Fisher
from system.errors import WheeltapperError

CHECKPOINT = FIXTURES / "encoders" / "beats" / "beats.pt"
FILE = torch.load(CHECKPOINT, weights_only=True)
TENSORS = FILE["model"]


@pytest.fixture(scope="module")
def official() -> Beats:
    return Beats.load(CHECKPOINT).requires_grad_(False)


def test_parameters_and_names_of_the_published_size():
    parameters, shapes = checks.meta_shapes(Beats, "base")
    assert parameters == 90_311_792
    assert shapes == checks.published_shapes("beats_iter3.txt")
    assert len(shapes) == 250


def test_untrained_weights():
    module = Beats.build("nano", 0)
    layer = module.encoder.layers[1]
    for linear, gain in ((layer.self_attn.q_proj, 1.0), (layer.self_attn.v_proj, 32**-0.25), (layer.fc2, 32**-0.25)):
        expected = gain * (2 / sum(linear.weight.shape)) ** 0.5
        assert linear.weight.std().item() == pytest.approx(expected, rel=0.03)
        assert not linear.bias.any()
    assert layer.self_attn.grep_a.eq(1).all()
    conv = module.encoder.pos_conv
    assert conv.weight_v.std().item() == pytest.approx((4 / (128 * 128)) ** 0.5, rel=0.03)
    torch.testing.assert_close(conv.weight_g[0, 0, 5], conv.weight_v[:, 5].norm())
    assert torch.equal(Beats.build("nano", 0).post_extract_proj.weight, module.post_extract_proj.weight)


@torch.inference_mode()
def test_save_and_load(official, tmp_path):
    checks.assert_saved(Beats.build("nano", 0), "encoder.pos_conv.0.weight_v", tmp_path / "own.safetensors")
    with pytest.raises(WheeltapperError, match="EAT config in its metadata, found BEATs"):
        Eat.load(tmp_path / "own.safetensors")
    official.save(tmp_path / "again.safetensors")
    written = checkpoints.load_file(tmp_path / "again.safetensors")["model"]
    assert written.keys() == TENSORS.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in TENSORS.items())


def save_renamed(path):
    """Names written by torch's newer weight norm."""
    names = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    tensors = {}
    for name, tensor in TENSORS.items():
        start, _, last = name.rpartition(".")
        tensors[f"{start}.{names.get(last, last)}"] = tensor
    torch.save({**FILE, "model": tensors}, path)
    return path


def save_fine_tuned(path):
    predictor = {"predictor.weight": torch.zeros(527, 64), "predictor.bias": torch.zeros(527)}
    torch.save({"cfg": {**FILE["cfg"], "finetuned_model": True}, "model": TENSORS | predictor}, path)
    return path


def save_flat(path):
    """Tensors alone, with the shared one stored once."""
    path = path.with_suffix(".safetensors")
    tensors = {name: tensor for name, tensor in TENSORS.items() if name != TABLE.format(0)}
    safetensors.torch.save_file(tensors | {"predictor.bias": torch.zeros(527)}, path)
    return path


def save_wrapped(path):
    torch.save({f"module.beats.{name}": tensor.half() for name, tensor in TENSORS.items()}, path)
    return path


@pytest.mark.parametrize("save", [save_renamed, save_fine_tuned, save_flat, save_wrapped])
@torch.inference_mode()
def test_layouts(official, tmp_path, save):
    loaded = Beats.load(save(tmp_path / "weights.pt"))
    assert loaded.config == official.config
    assert loaded.layer_norm.weight.dtype == torch.float32
    samples = wave(1.0)
    assert relative(loaded.embed(samples, RATE), official.embed(samples, RATE)) < 5e-3
    if save is not save_wrapped:  # in half precision
        assert torch.equal(loaded.embed(samples, RATE), official.embed(samples, RATE))


def test_furthest_distance(tmp_path):
    """The cfg decides; without it the caller or a config.json; otherwise the released code's default."""
    torch.save({**FILE, "cfg": {**FILE["cfg"], "max_distance": 800}}, tmp_path / "x.pt")
    assert Beats.load(tmp_path / "x.pt", {"max_distance": 900}).config.max_distance == 800
    path = save_flat(tmp_path / "y.pt")
    assert Beats.load(path).config.max_distance == 1280
    assert Beats.load(path, {"max_distance": 800}).config.max_distance == 800
    (tmp_path / "config.json").write_text('{"max_distance": 640, "embed_dim": 512}')
    assert Beats.load(path).config.max_distance == 640


@torch.inference_mode()
def test_no_projection_between_equal_widths(tmp_path):
    encoder = checks.toy(Beats, BeatsConfig(embed_dim=16, depth=2, num_heads=2, hidden_dim=32, patch_dim=16))
    assert not any(name.startswith("post_extract_proj") for name in encoder.state_dict())
    checks.assert_saved(encoder, "patch_embedding.weight", tmp_path / "x.safetensors")


BIAS = "encoder.layers.1.fc1.bias"


def drop(name):
    return lambda file: file["model"].pop(name)


def put(name, value):
    return lambda file: file["model"].update({name: value})


def setting(**values):
    return lambda file: file["cfg"].update(values)


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (drop(BIAS), "does not fit Beats: missing encoder.layers.1.fc1.bias"),
        (drop(TABLE.format(1)), f"does not fit Beats: missing {TABLE.format(1)}"),
        (drop("encoder.pos_conv.0.weight_g"), "missing encoder.pos_conv.weight_g"),
        (drop("patch_embedding.weight"), "expected a BEATs checkpoint .* the keys post_extract_proj.weight"),
        (put(TABLE.format(1), torch.zeros(320, 4)), rf"{TABLE.format(1)} \(shared .* equal to {TABLE.format(0)}\)"),
        (put(TABLE.format(1), torch.zeros(32, 4)), rf"{TABLE.format(1)} \(shared by all layers"),
        (put(TABLE.format(2), torch.zeros(320, 4)), rf"unexpected {TABLE.format(2)}"),
        (put(BIAS, torch.zeros(129)), r"fc1.bias \(129,\) instead of \(128,\)"),
        (put(BIAS, torch.full((128,), torch.nan)), "fc1.bias holds NaN or infinity"),
        (put(BIAS, [0.0]), "not an ordinary tensor"),
        (put("encoder.pos_conv.0.weight_v", torch.zeros(64, 4, 64)), "pos_conv.weight_v .* instead of"),
        (put("encoder.pos_conv.0.weight_v", torch.zeros(64, 5, 128)), "pos_conv.weight_v .* instead of"),
        (put("encoder.pos_conv.0.weight_v", torch.tensor(1.0)), "pos_conv.weight_v .* instead of"),
        (put("encoder.layer_norm.weight", 3), "expected a BEATs checkpoint"),
        (lambda file: file.update(cfg=[1]), "expected a BEATs checkpoint with a cfg"),
        (lambda file: file.update(model=3), "expected a BEATs checkpoint .* the keys cfg, model"),
        (setting(layer_norm_first=True), "cfg.layer_norm_first: expected False, found True"),
        (setting(activation_fn="relu"), "cfg.activation_fn: expected gelu, found 'relu'"),
        (setting(conv_bias=True), "cfg.conv_bias: expected False, found True"),
        (setting(gru_rel_pos=False), "cfg.gru_rel_pos: expected True, found False"),
        (setting(relative_position_embedding=False), "cfg.relative_position_embedding: expected True, found False"),
        (
            lambda file: file["cfg"].pop("deep_norm"),
            "cfg.deep_norm: expected True, found False, the default of the released code",
        ),
        (setting(encoder_layers=3), "missing encoder.layers.2"),
        (setting(encoder_layers=1), "unexpected encoder.layers.1"),
        (setting(encoder_attention_heads=5), "impossible sizes"),
        (setting(encoder_attention_heads=2), "instead of"),
        (setting(num_buckets=160), r"relative_attention_bias.weight \(320, 4\) instead of \(160, 4\)"),
        (setting(max_distance=80), "impossible sizes"),
        (setting(conv_pos_groups=7), "impossible sizes"),
        (setting(input_patch_size=129), "impossible sizes"),
        (setting(encoder_embed_dim=8192), "impossible sizes|instead of|does not fit"),
        (setting(encoder_layers="many"), "cfg.depth: expected int, found 'many'"),
    ],
)
def test_bad_checkpoints(tmp_path, edit, text):
    file = copy.deepcopy(FILE)
    edit(file)
    torch.save(file, tmp_path / "bad.pt")
    with pytest.raises(WheeltapperError, match=rf"bad\.pt: .*({text})") as caught:
        Beats.load(tmp_path / "bad.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("encoder.layers.0.fc1.weight", None, "missing encoder.layers.0.fc1.weight"),
        (TABLE.format(0), None, "missing encoder.relative_attention_bias.weight"),
        ("encoder.layer_norm.weight", torch.zeros(0), "impossible sizes"),
        ("patch_embedding.weight", torch.tensor(1.0), r"patch_embedding.weight \(\) instead of"),
        ("encoder.pos_conv.0.weight_v", torch.zeros(64, 0, 128), "impossible sizes|instead of"),
        ("encoder.pos_conv.0.weight_v", torch.zeros(64, 5, 128), "impossible sizes|instead of"),
    ],
)
def test_bad_tensors_without_a_cfg(tmp_path, name, value, text):
    tensors = {key: tensor for key, tensor in TENSORS.items() if key not in (name, TABLE.format(1))}
    tensors |= {} if value is None else {name: value}
    safetensors.torch.save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(WheeltapperError, match=rf"bad\.safetensors: .*({text})"):
        Beats.load(tmp_path / "bad.safetensors")


def test_other_files(tmp_path):
    (tmp_path / "cut.pt").write_bytes(CHECKPOINT.read_bytes()[:100_000])
    with pytest.raises(WheeltapperError, match=r"cut\.pt: damaged, expected a torch checkpoint"):
        Beats.load(tmp_path / "cut.pt")
    with pytest.raises(WheeltapperError, match=r"fisher\.pt: expected a BEATs checkpoint"):
        Beats.load(FIXTURES / "encoders" / "fisher" / "fisher.pt")
    with pytest.raises(WheeltapperError, match=r"beats\.pt: expected a FISHER checkpoint"):
        Fisher.load(CHECKPOINT)
