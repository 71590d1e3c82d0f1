"""A profile as one HTML file that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from lhcc.report.svg import bars, colour, roofline
from lhcc.report.text import layer_rows, summary

if TYPE_CHECKING:
    from lhcc.runtime.profile import Profile

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1000px; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
pre, td, th { font: 13px/1.5 ui-monospace, monospace; }
table { border-collapse: collapse; } .wide { overflow-x: auto; }
td, th { padding: 1px 9px; text-align: right; white-space: nowrap; border-bottom: 1px solid #8884; }
td:nth-child(-n+3), th:nth-child(-n+3) { text-align: left; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
.frame { fill: none; stroke: #8888; } .grid { stroke: #8883; } .roof { fill: none; stroke: #c53030; stroke-width: 1.5; }
svg .roof-label { fill: #c53030; } .over { paint-order: stroke; stroke: Canvas; stroke-width: 4; }
.key span { display: inline-block; width: .8em; height: .8em; margin: 0 .4em 0 1em; }
.note { opacity: .75; } .shapes { display: flex; flex-wrap: wrap; gap: 1.5rem; }
"""


def to_html(profile: Profile, pictures: Mapping[str, str] | None = None) -> str:
    """The report; `pictures` are SVGs of the kernel shapes of layers, by name, as an inspection makes them."""
    header, rows = layer_rows(profile)
    header = [*header, "schedule"]
    rows = [[*row, layer.schedule] for row, layer in zip(rows, profile.layers, strict=True)]
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    used = {layer.encoding for layer in profile.layers}
    key = "".join(
        f'<span style="background:{colour(name)}"></span>{escape(name or "no encoding")}' for name in sorted(used)
    )
    sections = [
        _section("Time per layer", f'<p class="key">Encoding:{key}</p>\n<div class="wide">{bars(profile)}</div>'
                 '\n<p class="note">The dark part of a bar is the least time that the measured peak allows.</p>'),
        _section("Roofline", f'<div class="wide">{roofline(profile)}</div>'),
        _section("Kernel shapes", _pictures(pictures or {})),
        _section("All figures", f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'),
    ]  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>lhcc profile</title>\n<style>{STYLE}</style>\n</head>\n<body>\n'
        f"<h1>Where the time goes</h1>\n<pre>{escape(summary(profile))}</pre>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def _pictures(pictures: Mapping[str, str]) -> str:
    if not pictures:
        return '<p class="note">No layer has kernel shapes to show, or an artifact was profiled, not a model.</p>'
    return '<div class="shapes">' + "\n".join(pictures.values()) + "</div>"


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{content}"
