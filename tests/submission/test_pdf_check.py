"""Finished reports: what a program that writes PDF makes of a password, and what only looks like it."""

import io

import pytest
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from submission import pdf_check


def written(text: str, compressed: bool, **settings) -> bytes:
    target = io.BytesIO()
    canvas = Canvas(target, pageCompression=int(compressed), **settings)
    canvas.drawString(72, 72, text)
    canvas.save()
    return target.getvalue()


@pytest.mark.parametrize("user", ["", "secret"])
@pytest.mark.parametrize("strength", [40, 128])
def test_encrypted(user, strength, tmp_path):
    encryption = StandardEncryption(user, ownerPassword="owner", strength=strength)
    (tmp_path / "r.pdf").write_bytes(written("text", True, encrypt=encryption))
    level, message = pdf_check.fault(tmp_path / "r.pdf")
    assert level == "error"
    assert "found an encrypted one" in message


@pytest.mark.parametrize("compressed", [False, True])
def test_a_text_about_encryption_is_none(compressed, tmp_path):
    (tmp_path / "r.pdf").write_bytes(written("the entry /Encrypt 5 0 R of a trailer", compressed))
    assert pdf_check.fault(tmp_path / "r.pdf") is None
