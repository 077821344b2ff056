"""Writes one HTML file that shows captured images: thumbnails inside it, links to the full images, nothing else needed.

Knows no tasks and no stores: it is given headings, texts, and images as files or URLs with captions.
"""

import base64
import io
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from PIL import Image

SheetImage = tuple[Path | str, str]  # a file, or the URL of an image that is not at hand; its caption
Section = tuple[str, str, Sequence[SheetImage]]  # heading, text, images

THUMBNAIL_SIDE = 360

STYLE = """
:root { color-scheme: light dark; --ground: #f6f7f9; --card: #fff; --ink: #1c2330; --soft: #667085; --line: #e3e7ee; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #12151b; --card: #1b2029; --ink: #e8ebf1; --soft: #98a2b3; --line: #2b323e; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1400px; padding: 2.5rem 2rem 4rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { margin: 0; font-size: 1.9rem; letter-spacing: -0.02em; }
h2 { margin: 0; font-size: 1.2rem; }
.lead, .text { color: var(--soft); margin: 0.2rem 0 0; max-width: 75ch; white-space: pre-line; }
nav { display: flex; flex-wrap: wrap; gap: 0.5rem; margin: 1.25rem 0 0; }
nav a { padding: 0.2rem 0.8rem; border: 1px solid var(--line); border-radius: 99px; background: var(--card);
  color: inherit; font-size: 0.875rem; text-decoration: none; }
section { margin-top: 2.5rem; padding-top: 1.5rem; border-top: 1px solid var(--line); scroll-margin-top: 1rem; }
.count { color: var(--soft); font-weight: 400; font-size: 0.95rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 1rem; margin-top: 1rem; }
figure { margin: 0; overflow: hidden; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
figure a { display: flex; align-items: center; justify-content: center; height: 9.5rem; padding: 0.5rem;
  color: var(--soft); background: color-mix(in srgb, var(--ink) 6%, var(--card)); }
img { display: block; width: auto; height: auto; max-width: 100%; max-height: 100%; border-radius: 3px; }
figcaption { padding: 0.55rem 0.75rem 0.65rem; font-size: 0.8125rem; font-variant-numeric: tabular-nums;
  white-space: pre-line; overflow-wrap: anywhere; }
.none { margin-top: 1rem; color: var(--soft); font-style: italic; }
"""


def write_sheet(path: Path, title: str, sections: Sequence[Section], *, lead: str = "") -> None:
    """Write the sheet. Files are shown as thumbnails that link to them, relative to the sheet; URLs as links."""
    numbered = list(enumerate(sections, 1))
    links = "".join(f'<a href="#s{number}">{escape(heading)}</a>' for number, (heading, _, _) in numbered)
    bodies = "\n".join(_section(number, section, path.parent) for number, section in numbered)
    page = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
<header>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
<nav>{links}</nav>
</header>
<main>
{bodies}
</main>
</html>
"""
    path.write_text(page, encoding="utf-8")


def _section(number: int, section: Section, folder: Path) -> str:
    heading, text, images = section
    figures = "\n".join(_figure(image, caption, folder) for image, caption in images)
    grid = f'<div class="grid">\n{figures}\n</div>' if images else '<p class="none">No images.</p>'
    count = f"{len(images)} image{'' if len(images) == 1 else 's'}"
    return f"""<section id="s{number}">
<h2>{escape(heading)} <span class="count">{count}</span></h2>
<p class="text">{escape(text)}</p>
{grid}
</section>"""


def _figure(image: Path | str, caption: str, folder: Path) -> str:
    if isinstance(image, Path):
        link = quote(os.path.relpath(image, folder))
        width, height, data = _thumbnail(image)
        shown = f'<img src="{data}" width="{width}" height="{height}" alt="{escape(caption)}">'
    else:
        link, shown = image, "open the image"
    return f'<figure><a href="{escape(link)}">{shown}</a><figcaption>{escape(caption)}</figcaption></figure>'


def _thumbnail(path: Path) -> tuple[int, int, str]:
    """Make a data URI of at most `THUMBNAIL_SIDE` pixels a side, and tell its width and height."""
    with Image.open(path) as image:
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        file = io.BytesIO()
        image.convert("RGBA" if image.has_transparency_data else "RGB").save(file, "WEBP", quality=80)
        data = base64.b64encode(file.getvalue()).decode("ascii")
        return *image.size, f"data:image/webp;base64,{data}"
