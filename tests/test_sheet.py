"""A contact sheet: every picture once, with its name and alt text."""

import base64
import re

import cv2
import numpy as np
import pytest
import torch

from sal360.figures import Sheet


def test_every_picture_is_there_with_its_words():
    red = np.zeros((8, 16, 3), np.uint8)
    red[..., 0] = 200
    sheet = Sheet({"a <b>": red, "grey": torch.full((8, 16), 0.5), "c": torch.ones(3, 8, 16)},
                  {"a <b>": 'the "red" one'})  # fmt: skip
    page = sheet._repr_html_()
    assert re.findall('alt="([^"]*)"', page) == ["the &quot;red&quot; one", "grey", "c"]
    assert "a &lt;b&gt;" in page and sheet.alt == 'the "red" one; grey; c'
    stored = [base64.b64decode(b) for b in re.findall('base64,([^"]*)', page)]
    shown = [cv2.imdecode(np.frombuffer(b, np.uint8), 1)[..., ::-1].mean((0, 1)) for b in stored]
    assert np.allclose(shown, [[200, 0, 0], [128] * 3, [255] * 3], atol=3)


def test_what_is_no_picture_is_named():
    with pytest.raises(ValueError, match=r"image: shape \(4, 4, 2\)"):
        Sheet({"x": np.zeros((4, 4, 2))})
