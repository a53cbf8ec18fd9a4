"""``wheeltapper explain`` of an encoder over recordings: what the page holds, and what is refused."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from system.bin import main
from system.encoders.ast import Ast, AstConfig
from system.encoders.cnn import ResNeXt
from system.encoders.fisher import Fisher
from system.encoders.subband import SubbandConfig
from system.report import heatmap

RATE = 16000
ODD = "a<b>&'c.wav"


class Page(HTMLParser):
    """Text by tag, alternative texts, addresses, pictures; tags must nest."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.found: dict[str, list[str]] = {}
        self.labels: list[str] = []
        self.addresses: list[str] = []
        self.pictures: list[np.ndarray] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in ("meta", "br"):
            self.open.append(tag)
            self.found.setdefault(tag, []).append("")
        if tag == "svg" and "aria-hidden" not in values:
            self.labels.append(values["aria-label"])
        self.addresses += [values[name] for name in ("src", "href") if name in values]
        if tag == "image":
            content = base64.b64decode(values["href"].removeprefix("data:image/png;base64,"))
            self.pictures.append(np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), int))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in set(self.open):
            self.found[tag][-1] += data


def wave(path, seconds: float = 1.3, scale: float = 0.1, rate: int = RATE, channels: int = 1):
    noise = scale * np.random.default_rng(0).normal(size=(round(seconds * rate), channels))
    soundfile.write(path, noise, rate, subtype="FLOAT")
    return str(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Toy checkpoints by family."""
    folder = tmp_path_factory.mktemp("weights")
    sizes = {"embed_dim": 16, "depth": 3, "num_heads": 2}
    toys = {
        "ast": Ast.untrained(AstConfig(**sizes), 0),
        "fisher": Fisher.untrained(SubbandConfig(**sizes, max_freq=6), 0),
        "cnn": ResNeXt.build("nano", 0),
    }
    for name, encoder in toys.items():
        encoder.save(folder / f"{name}.safetensors")
    return {name: str(folder / f"{name}.safetensors") for name in toys}


def explain(family: str, checkpoint: str, out, *files: str) -> int:
    audio = [part for file in files for part in ("--audio", file)]
    return main(["explain", "--encoder", family, "--checkpoint", checkpoint, *audio, "--out", str(out)])


@pytest.mark.parametrize("family", ["ast", "fisher"])
def test_attention_of_a_transformer(family, weights, tmp_path):
    files = [wave(tmp_path / ODD, rate=22050, channels=2), wave(tmp_path / "second.wav", 2.0)]
    out = tmp_path / "page.html"
    assert explain(family, weights[family], out, *files) == 0
    text = out.read_text()
    page = Page(text)
    assert page.found["h3"] == [ODD, "second.wav"]
    captions = [caption.strip() for caption in page.found["figcaption"]]
    titles = ["Spectrogram", "Attention, layer 1 of 3", "Attention, layer 3 of 3", "Attention rollout"]
    assert [caption.split(":")[0] for caption in captions[1:]] == titles * 2
    for caption in captions[1:]:
        assert caption == "Spectrogram" or re.fullmatch(r".*: \d\.\d\d to \d+\.\d\d × even", caption)
    assert len(page.labels) == len(page.pictures) + 1 == 9
    assert len([label for label in page.labels if label.startswith(ODD)]) == 4
    assert "mean attention distance of the 2 heads of each of 3 layers" in page.labels[0]
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in page.addresses)
    assert ("Each of the 2 bands" in text) == (family == "fisher")  # 16 kHz
    grey = page.pictures[0]
    assert (grey.max(-1) - grey.min(-1)).max() == 0
    assert (page.pictures[1][..., 0] - page.pictures[1][..., 2]).max() > 60  # orange somewhere
    again = tmp_path / "again.html"
    assert explain(family, weights[family], again, *files) == 0
    assert again.read_text() == text


def test_gradcam_of_the_cnn(weights, tmp_path):
    out = tmp_path / "page.html"
    assert explain("cnn", weights["cnn"], out, wave(tmp_path / "a.wav")) == 0
    page = Page(out.read_text())
    titles = [caption.strip() for caption in page.found["figcaption"]]
    assert titles == ["Spectrogram", *(f"Grad-CAM, stage {stage} of 4" for stage in (2, 3, 4))]
    assert "squared length" in " ".join(" ".join(page.found["p"]).split())
    assert "distance" not in "".join(page.found["h2"])


def test_random_weights_are_a_function_of_the_seed(tmp_path):
    file, pages = wave(tmp_path / "a.wav", 0.5), []
    for number, seed in enumerate((1, 1, 2)):
        out = tmp_path / f"{number}.html"
        arguments = ["--encoder", "cnn-nano", "--checkpoint", "random", "--seed", str(seed), "--audio", file]
        assert main(["explain", *arguments, "--out", str(out)]) == 0
        pages.append(re.sub("random, seed .", "", out.read_text()))
    assert pages[0] == pages[1] != pages[2]


def test_silent_short_and_long_recordings(weights, tmp_path):
    silent, short = wave(tmp_path / "silent.wav", scale=0.0), wave(tmp_path / "short.wav", 0.001)
    long_ = wave(tmp_path / "long.wav", 61.0)
    for family, files in (("fisher", [silent, short, long_]), ("cnn", [silent, short])):
        out = tmp_path / f"{family}.html"
        assert explain(family, weights[family], out, *files) == 0
        text = out.read_text()
        assert text.count("This recording is silent") == 1
        assert text.count("Its first 60 s") == (family == "fisher")
        assert len(Page(text).pictures) == 4 * len(files)


def test_what_is_refused(weights, tmp_path, capsys):
    good = wave(tmp_path / "good.wav", 0.3)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan, 0.1]), RATE, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("no sound")
    content = Path(weights["ast"]).read_bytes()
    (tmp_path / "broken").write_bytes(content[: len(content) // 2])
    out = tmp_path / "page.html"
    out.write_text("an earlier page")
    for family, checkpoint, file, message in (
        ("ast", weights["ast"], tmp_path / "nan.wav", "nan.wav: expected finite samples, found 1"),
        ("ast", weights["ast"], tmp_path / "none.wav", "none.wav: expected a sound file, found nothing"),
        ("ast", weights["ast"], tmp_path / "text.wav", "text.wav: expected a readable wav"),
        ("ast", tmp_path / "broken", good, "broken: damaged"),
        ("cnn", weights["ast"], good, "it looks like a checkpoint of the family ast"),
        ("vgg", "random", good, "encoder family: expected one of"),
    ):
        assert explain(family, str(checkpoint), out, good, str(file)) == 1
        assert message in capsys.readouterr().err
    assert out.read_text() == "an earlier page"
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []
    assert explain("ast", weights["ast"], tmp_path / "page.txt", good) == 1
    assert "expected a name that ends in .html" in capsys.readouterr().err
    for arguments in ([], ["--exp", str(tmp_path), "--audio", good]):
        assert main(["explain", "--out", str(out), *arguments]) == 1
        assert "expected --exp DIR of a study, or --audio FILE" in capsys.readouterr().err


def test_a_map_lies_where_its_frequency_and_time_are():
    """A spot at 2 kHz and three quarters of the time, in bins of any scale, colours those pixels."""
    under = heatmap.ground(0.1 * np.random.default_rng(0).normal(size=2 * RATE), RATE)
    hertz = np.linspace(0, 8000, 201)
    values = np.zeros((200, 201))
    values[145:155, 45:56] = 1.0  # 1.45 to 1.55 s, 1.8 to 2.2 kHz
    spread = heatmap.spread(values, hertz, under)
    rows, columns = np.nonzero(spread > 0.5)
    mels = (rows + 0.5) / spread.shape[0] * 2595 * np.log10(1 + 8000 / 700)
    found = 700 * (10 ** (mels / 2595) - 1)
    assert 1700 < found.min() < found.max() < 2300
    seconds = (columns + 0.5) / spread.shape[1] * 2
    assert 1.43 < seconds.min() < seconds.max() < 1.57


def test_shades_run_from_white_to_strong_and_loud_is_dark():
    shades = heatmap.colours(np.linspace(0, 1, 50))
    light = shades @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) < 0).all()  # told apart without seeing colours
    assert light[0] == pytest.approx(255)
    tone = np.sin(2 * np.pi * 1000 / RATE * np.arange(RATE)) + 1e-3 * np.random.default_rng(0).normal(size=RATE)
    picture = np.asarray(Image.open(io.BytesIO(heatmap.tinted(heatmap.ground(tone, RATE)))).convert("L"), int)
    darkest = picture.mean(1).argmin()
    mel = (len(picture) - darkest - 0.5) / len(picture) * 2595 * np.log10(1 + 8000 / 700)
    assert 700 * (10 ** (mel / 2595) - 1) == pytest.approx(1000, rel=0.05)
