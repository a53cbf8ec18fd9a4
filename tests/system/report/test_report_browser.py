"""The report in headless Chromium: it renders, its scripts run, nothing is loaded, and it fits a phone."""

import html
import json
import re
import shutil
import subprocess

import pytest
from report_runs import build

from system.report import write_report

BROWSER = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), "")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update"
)
FLAGS += " --disable-sync --disable-quic --enable-logging=stderr --v=0 --virtual-time-budget=4000 --dump-dom"
PHONE, DESK = 390, 1280  # px
# Appended to a copy of the page: reports its state to the enclosing page.
PROBE = """<script>addEventListener("load", () => {
  const widest = [...document.querySelectorAll("main *")].filter((e) => !e.closest(".table, .board, pre, svg, nav"))
    .reduce((most, e) => Math.max(most, e.getBoundingClientRect().right), 0);
  document.getElementById("by-domain").click();
  const shown = [...document.querySelectorAll(".view")].filter((e) => e.getBoundingClientRect().height > 0);
  parent.postMessage({name: NAME, width: innerWidth, scroll: document.documentElement.scrollWidth, widest,
    hint: document.getElementById("hint").textContent, height: document.body.scrollHeight,
    loaded: performance.getEntriesByType("resource").map((e) => e.name).filter((name) => !name.startsWith("data:")),
    shown: [...new Set(shown.map((e) => e.className))],
    pictures: [...document.querySelectorAll("svg[role=img]")].filter((e) => e.clientWidth > 60).length}, "*");
});</script></body>"""
FRAMES = """<!doctype html><body><script>
addEventListener("message", (event) => {
  const found = document.createElement("pre");
  found.className = "found";
  found.textContent = JSON.stringify(event.data);
  document.body.append(found);
});
</script>%s</body>"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> tuple[dict[str, dict], dict[str, list[str]]]:
    """Results and console lines of three copies of one report, from one start of the browser."""
    if not BROWSER:
        pytest.skip("neither chromium nor google-chrome is on PATH")
    folder = tmp_path_factory.mktemp("browser")
    text = write_report(build(folder / "exp")).read_text(encoding="utf-8")
    planted = text.replace('"use strict";', '"use strict"; noSuchThing.fail();').replace(
        "<main>", '<main><img src="http://127.0.0.1:9/planted.png" alt="">'
    )
    assert planted.count("noSuchThing") == planted.count("planted.png") == 1
    frames = ""
    for name, page, width in (("desk", text, DESK), ("phone", text, PHONE), ("planted", planted, DESK)):
        probe = PROBE.replace("NAME", json.dumps(name))
        (folder / f"{name}.html").write_text(page.replace("</body>", probe), encoding="utf-8")
        frames += f'<iframe src="{name}.html" style="border: 0; width: {width}px; height: 800px"></iframe>'
    (folder / "frames.html").write_text(FRAMES % frames, encoding="utf-8")
    profile = f"--user-data-dir={folder / 'profile'}"
    address = (folder / "frames.html").as_uri()
    done = subprocess.run([BROWSER, *FLAGS.split(), profile, address], capture_output=True, text=True, timeout=900)
    found = [json.loads(html.unescape(row)) for row in re.findall(r'<pre class="found">(.*?)</pre>', done.stdout)]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert {row["name"] for row in found} == {"desk", "phone", "planted"}, done.stderr[-2000:]
    return {row["name"]: row for row in found}, {
        name: [line for line in console if f"{name}.html" in line] for name in ("desk", "phone", "planted")
    }


@pytest.mark.parametrize("name", ["desk", "phone"])
def test_it_renders_and_its_scripts_run_without_an_error(opened, name):
    found, console = opened
    assert console[name] == []
    assert found[name]["hint"].startswith("Click a picture")
    assert found[name]["pictures"] > 20
    assert found[name]["height"] > 3000
    assert found[name]["shown"] == ["view domain"]


def test_an_error_and_a_foreign_address_would_be_seen(opened):
    """A page with a script that throws and an external image: both are detected, so the tests can fail."""
    found, console = opened
    assert any("noSuchThing is not defined" in line for line in console["planted"])
    assert any("Content Security Policy" in line and "planted.png" in line for line in console["planted"])
    assert found["planted"]["hint"] == ""


@pytest.mark.parametrize(("name", "width"), [("desk", DESK), ("phone", PHONE)])
def test_it_fits_the_width_and_loads_nothing(opened, name, width):
    found = opened[0][name]
    assert found["width"] == width
    assert found["scroll"] <= width
    assert found["widest"] <= width + 0.5
    assert found["loaded"] == []


def test_no_address_of_the_page_leads_elsewhere(tmp_path):
    text = write_report(build(tmp_path)).read_text(encoding="utf-8")
    addresses = re.findall(r'(?:src|href|srcset|action|poster|data)\s*=\s*"([^"]*)"', text)
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "default-src 'none'" in text
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|WebSocket", text)
