"""The contact sheet is one file that needs nothing else, shows every image and breaks on no name."""

import base64
import io
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from PIL import Image

from devkit.contact_sheet import write_sheet


class Page(HTMLParser):
    """What a browser would find: tags with their attributes, and all text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "buckets" / "a & b #1"
    folder.mkdir(parents=True)
    paths = []
    for name, mode, size in (("1.jpg", "RGB", (1280, 720)), ("2.png", "RGBA", (300, 900)), ("3.avif", "RGB", (64, 64))):
        Image.new(mode, size, "red").save(folder / name)
        paths.append(folder / name)
    return paths


@pytest.fixture
def page(tmp_path, images):
    sections = [
        ("Cover <1>", "The frame at 5 s", [(images[0], "1 · 5.000 s · 10 kB"), (images[1], "2"), (images[2], "3")]),
        ("Elsewhere", "Not at hand", [("https://store.example/x?a=1&b=2", "far")]),
        ("Nothing", "An entry that failed", []),
    ]
    write_sheet(tmp_path / "sheet.html", "Frames & more", sections, lead="Seven tasks")
    return Page((tmp_path / "sheet.html").read_text(encoding="utf-8"))


def test_thumbnails_are_inside_the_file(page):
    thumbnails = [
        Image.open(io.BytesIO(base64.b64decode(img["src"].removeprefix("data:image/webp;base64,"))))
        for img in page.all("img")
    ]

    assert [thumbnail.size for thumbnail in thumbnails] == [(360, 203), (120, 360), (64, 64)]
    assert [(int(img["width"]), int(img["height"])) for img in page.all("img")] == [(360, 203), (120, 360), (64, 64)]


def test_each_thumbnail_links_to_its_image(page, tmp_path, images):
    links = [a["href"] for a in page.all("a") if not a["href"].startswith("#")]

    assert [(tmp_path / unquote(link)).resolve() for link in links[:3]] == images
    assert links[3] == "https://store.example/x?a=1&b=2"


def test_nothing_is_loaded_from_outside(page, tmp_path):
    assert all(img["src"].startswith("data:") for img in page.all("img"))
    assert not page.all("link")
    assert not page.all("script")
    assert not re.search(r"url\(|@import", (tmp_path / "sheet.html").read_text(encoding="utf-8"))


def test_texts_are_shown_as_they_are(page):
    for text in ("Frames & more", "Seven tasks", "Cover <1>", "The frame at 5 s", "1 · 5.000 s · 10 kB", "No images."):
        assert text in page.text
    assert "3 images" in page.text
    assert "1 image" in page.text
    assert [a["href"] for a in page.all("a")][:3] == ["#s1", "#s2", "#s3"]


def test_a_file_that_is_no_image_is_an_error(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"not an image")

    with pytest.raises(OSError, match="cannot identify image file"):
        write_sheet(tmp_path / "sheet.html", "t", [("h", "", [(tmp_path / "x.jpg", "x")])])
