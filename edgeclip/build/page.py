"""report.html: one file with the report's table, what the search found, and its pictures inside."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #1b1e28 }
table { border-collapse: collapse; margin: 1em 0; font-size: 14px } td, th { border-bottom: 1px solid #d5d8e0 }
td, th { padding: .3em .7em; text-align: left; vertical-align: top } tr.marked { background: #eef3fa }
td { white-space: nowrap } td:last-child { white-space: normal }
p, li { overflow-wrap: anywhere } img { max-width: 100% } code { background: #f1f2f6 } h2 { margin-top: 1.6em }
"""


def as_html(markdown: str, pictures: Mapping[str, bytes]) -> str:
    """The page of a report.md as report.py writes it: headings, tables, lists, paragraphs. pictures: PNG by caption."""
    body: list[str] = []
    lines = markdown.splitlines()
    index = 0
    while index < len(lines):
        line = lines[index]
        if line.startswith("|"):
            end = index
            while end < len(lines) and lines[end].startswith("|"):
                end += 1
            body.append(table(lines[index:end]))
            index = end
            continue
        if line.startswith("- "):
            end = index
            while end < len(lines) and lines[end].startswith("- "):
                end += 1
            body.append("<ul>" + "".join(f"<li>{inline(item[2:])}</li>" for item in lines[index:end]) + "</ul>")
            index = end
            continue
        if line.startswith("#") and line.lstrip("# ") in pictures:
            pass  # it comes with its picture, below
        elif line.startswith("#"):
            level = len(line) - len(line.lstrip("#"))
            body.append(f"<h{level}>{inline(line.lstrip('# '))}</h{level}>")
        elif line and not line.startswith("!["):
            body.append(f"<p>{inline(line)}</p>")
        index += 1
    for caption, picture in pictures.items():
        data = base64.b64encode(picture).decode("ascii")
        heading = html.escape(caption)
        body.append(f'<h2>{heading}</h2>\n<img alt="{heading}" src="data:image/png;base64,{data}">')
    title = html.escape(lines[0].lstrip("# ")) if lines else "report"
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def table(lines: list[str]) -> str:
    rows = [[cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")] for line in lines]
    made = [row("th", rows[0]), *(row("td", cells) for cells in rows[2:])]
    return "<table>" + "".join(made) + "</table>"


def row(tag: str, cells: list[str]) -> str:
    """One that begins in bold is marked: an engine that is kept."""
    begin = '<tr class="marked">' if cells[0].startswith("**") else "<tr>"
    return begin + "".join(f"<{tag}>{inline(cell)}</{tag}>" for cell in cells) + "</tr>"


def inline(text: str) -> str:
    """Escaped, with `code` and **bold** marked."""
    escaped = html.escape(text)
    for sign, tag in (("`", "code"), ("**", "strong")):
        escaped = "".join(f"<{tag}>{p}</{tag}>" if i % 2 else p for i, p in enumerate(escaped.split(sign)))
    return escaped
