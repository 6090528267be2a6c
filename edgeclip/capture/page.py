"""The coverage report as one HTML file that needs nothing beside it: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from edgeclip.capture.shown import Shown

STYLE = """
:root { color-scheme: light dark; --ink: #1e242e; --soft: #6b7585; --line: #e3e7ec; --card: #fff; --page: #f6f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebf0; --soft: #98a2b3; --line: #2c333d; --card: #1b2027; --page: #13171c; } }
body { overflow-wrap: anywhere; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 10px; }
p { margin: 4px 0; color: var(--soft); } p.verdict { color: var(--ink); font-size: 17px; margin: 12px 0 20px; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: 10px; margin: 0; }
dl div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 14px; }
dt { color: var(--soft); font-size: 13px; } dd { margin: 0; font-size: 20px; font-variant-numeric: tabular-nums; }
img.plot { width: 100%; border: 1px solid var(--line); border-radius: 10px; }
.frames { display: grid; grid-template-columns: repeat(auto-fill, minmax(148px, 1fr)); gap: 10px; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
figure img { display: block; width: 100%; aspect-ratio: 4 / 3; object-fit: contain; background: #0003; }
figcaption { display: flex; justify-content: space-between; padding: 4px 8px; font-size: 12px; color: var(--soft);
  font-variant-numeric: tabular-nums; }
"""


def coverage_page(
    title: str,
    verdict: str,
    figures: Sequence[tuple[str, str]],
    plot_png: bytes,
    shown: Sequence[Shown],
    order: Sequence[int],
) -> str:
    """figures: (name, value). order: of the frames in the gallery."""
    cards = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in figures)
    frames = "".join(_figure(shown[index]) for index in order)
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n<main>\n<h1>{escape(title)}</h1>\n"
        f'<p class="verdict">{escape(verdict)}</p>\n<dl>{cards}</dl>\n'
        f'<h2>Coverage</h2>\n<img class="plot" alt="Coverage: map, distances over time, counts" '
        f'src="{_data("image/png", plot_png)}">\n'
        f"<h2>Frames, the most different first</h2>\n"
        f"<p>Number, and distance to the nearest frame kept when it came. Remove a file from frames/ to take a picture "
        f"out of the set.</p>\n"
        f'<div class="frames">{frames}</div>\n</main>\n</html>\n'
    )


def _figure(frame: Shown) -> str:
    row = frame.row
    distance = "first" if row.distance is None else f"{row.distance:.3f}"
    hover = f"{row.file}: {row.time}, {row.source}, frame {row.frame}, sharpness {row.sharpness:g}"
    return (
        f'<figure title="{escape(hover)}"><img loading="lazy" alt="{escape(row.file)}" '
        f'src="{_data("image/jpeg", frame.jpeg)}">'
        f"<figcaption><span>{escape(row.file.partition('.')[0])}</span><span>{distance}</span></figcaption></figure>\n"
    )


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
