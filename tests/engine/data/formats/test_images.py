"""Images in an archive: a folder a class, and what has no place there."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from engine.data.formats import images
from engine.data.formats.kinds import Limits
from tests.engine.data.formats.files import types, values, zipped


def picture(values, kind="PNG"):
    out = io.BytesIO()
    Image.fromarray(np.asarray(values, np.uint8)).save(out, kind)
    return out.getvalue()


GREY = [np.full((2, 3), 60 * row) for row in range(4)]
NAMES = ["cats/0.png", "dogs/1.png", "cats/2.PNG", "cats/deep/dogs/3.png"]
FOUR = {name: picture(grey) for name, grey in zip(NAMES, GREY, strict=True)}


def test_grey_images_become_matrices_with_their_folder_as_class(folder):
    others = {"__MACOSX/cats/._0.png": b"x", "cats/.DS_Store": b"x", "cats/": b""}
    table = folder.read(zipped({**others, **FOUR}), "images")
    assert types(table) == {"image": "tensor", "class": "category"}
    np.testing.assert_array_equal(table.column("image").values, GREY)
    assert values(table, "class") == ["cats", "dogs", "cats", "dogs"]


def test_images_with_colours_have_three_channels_first(folder, monkeypatch):
    monkeypatch.setattr(images, "PIECE_BYTES", 20)
    colours = np.arange(18).reshape(2, 3, 3)
    kinds = {"a/0.png": "PNG", "b/1.bmp": "BMP", "b/2.webp": "PNG", "a/3.gif": "PNG"}
    content = zipped({name: picture(colours, kind) for name, kind in kinds.items()})
    table = folder.read(content, "images")
    assert table.column("image").shape == (3, 2, 3)
    for image in table.column("image").values:
        np.testing.assert_array_equal(image, colours.transpose(2, 0, 1))


REFUSED = {
    "nothing": ({}, "holds no images; expected a folder for each class"),
    "text": ({**FOUR, "a/x.txt": b"x"}, "'a/x.txt' is no image; expected .png, .jpg"),
    "archive": ({**FOUR, "a/x.zip": zipped(FOUR)}, "'a/x.zip' is no image"),
    "not an image": ({**FOUR, "a/x.png": b"x"}, "'a/x.png' cannot be read"),
    "cut": ({**FOUR, "a/x.png": FOUR[NAMES[0]][:-30]}, "'a/x.png' cannot be read"),
    "no folder": ({**FOUR, "x.png": FOUR[NAMES[0]]}, "'x.png' is in no folder"),
    "up": ({**FOUR, "../a/x.png": FOUR[NAMES[0]]}, "'../a/x.png' leads out of the archive"),
    "root": ({**FOUR, "/a/x.png": FOUR[NAMES[0]]}, "'/a/x.png' leads out of the archive"),
    "back": ({**FOUR, "a\\..\\x.png": b""}, "leads out of the archive"),
    "another size": (
        {**FOUR, "a/x.png": picture(np.zeros((3, 3)))},
        "'a/x.png' has the shape [3, 3], the first [2, 3]; bring all to one size",
    ),
    "another format": ({"a/x.png": picture(np.zeros((2, 2)), "TIFF")}, "cannot be read"),
}


@pytest.mark.parametrize(("members", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_place_there_is_refused(folder, members, reason):
    assert reason in str(folder.refusal(zipped(members), "images"))


def test_links_and_encrypted_members_are_refused(folder):
    link = zipfile.ZipInfo("a/x.png")
    link.external_attr = 0o120777 << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as opened:
        opened.writestr(link, "/etc/passwd")
    assert "is a link" in str(folder.refusal(out.getvalue(), "images"))
    content = bytearray(zipped({"a/x.png": FOUR[NAMES[0]]}))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert "is encrypted" in str(folder.refusal(bytes(content), "images"))


def test_a_bomb_is_refused_unread(folder, monkeypatch):
    content = zipped({"a/x.png": bytes(10**6)}, zipfile.ZIP_DEFLATED)
    error = folder.refusal(content, "images", Limits(unpacked_bytes=10**5))
    assert "unpacks to more than the 100,000 bytes" in str(error)
    monkeypatch.setattr(images, "PIXEL_LIMIT", 5)
    assert "has 3 by 2 pixels; at most 5" in str(folder.refusal(zipped(FOUR), "images"))


@pytest.mark.parametrize("content", [b"", b"x,y\n1,2\n", zipped(FOUR)[:-1], zipped(FOUR)[40:]])
def test_another_file_is_refused(folder, content):
    folder.refusal(content, "images")
