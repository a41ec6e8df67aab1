"""Runs side by side as one HTML file that needs no other: tables, charts, pictures; light or dark as the reader has it."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from genseg.report import charts, runs
from genseg.report.runs import Run

STYLE = """
:root { color-scheme: light dark; --line: #8886; --faint: #8881; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 76rem; margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
tr:first-child th { background: var(--faint); } td, th { max-width: 22rem; overflow-wrap: break-word; } .numbers th { white-space: nowrap; }
.numbers tr:last-child td { overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1rem; }
.charts svg { width: 100%; height: auto; } figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; }
.key span { display: inline-block; margin-right: 1.2rem; } .key i { display: inline-block; width: .8rem; height: .8rem;
  margin-right: .4rem; border-radius: 2px; } .note { opacity: .75; }
"""


def table(rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """The first row is the header. kind: "numbers" for names that are not to be broken."""
    head, *body = rows
    lines = ["<tr>" + "".join(f"<th scope='col'>{html.escape(c)}</th>" for c in head) + "</tr>"]
    for row in body:
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        lines.append(f"<tr><th scope='row'>{html.escape(row[0])}</th>{cells}</tr>")
    return f"<div class='wide {kind}'><table>{''.join(lines)}</table></div>"


def scene_rows(run: Run) -> list[list[str]]:
    """Header, and the best, the median and the worst scene by its own mIoU."""
    places = {"best": -1, "median": len(run.scenes) // 2, "worst": 0}
    return [
        ["", "scene", "mIoU, %"],
        *([k, run.scenes[i][0], f"{100 * run.scenes[i][1]:.1f}"] for k, i in places.items()),
    ]


def picture(path: Path, title: str) -> str:
    """An image file inside the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<figure><figcaption>{html.escape(title)}</figcaption><img alt='{html.escape(title, quote=True)}' src='data:image/png;base64,{data}'></figure>"


def page(chosen: Sequence[Run], *, refresh: int = 0) -> str:
    """The whole page. refresh: seconds after which a browser loads it again; 0 = never."""
    again = f"<meta http-equiv='refresh' content='{refresh}'>" if refresh else ""
    key = "".join(
        f"<span><i style='background:{charts.COLOURS[i % 8]}'></i>{html.escape(run.name)}</span>"
        for i, run in enumerate(chosen)
    )
    parts = [f"<h1>{len(chosen)} {'run' if len(chosen) == 1 else 'runs'}</h1>", f"<p class='key'>{key}</p>"]
    rows = runs.score_rows(chosen)
    if len(rows[0]) > len(rows):  # more scores than runs: a run a column, so that a narrow window cuts nothing
        rows = [list(column) for column in zip(*rows, strict=True)]
    parts += ["<h2>Scores, %</h2>", table(rows, "numbers")]
    parts += [f"<p class='note'>{html.escape(line)}</p>" for line in runs.protocols(chosen)]
    parts += [f"<p><strong>{html.escape(line)}</strong></p>" for line in runs.unlike(chosen)]
    parts += [f"<p class='note'>{html.escape(note)}</p>" for note in runs.notes(chosen)]
    drawn = "".join(f"<div>{charts.svg(*chart)}</div>" for chart in charts.panels(chosen))
    parts += ["<h2>Curves, classes, confusion</h2>", f"<div class='charts'>{drawn}</div>"]
    if len(chosen) > 1:
        rows = runs.config_rows(chosen)
        parts += ["<h2>What differs in the configs</h2>", table(rows) if len(rows) > 1 else "<p>Nothing.</p>"]
    for run in chosen:
        if run.scenes:
            parts += [f"<h2>{html.escape(run.name)}: best, median and worst image</h2>", table(scene_rows(run))]
        if "ranked" in run.pictures:
            parts.append(
                picture(
                    run.pictures["ranked"], f"{run.name}: bands, truth and prediction; best, median, worst from above"
                )
            )
        if "samples" in run.pictures:
            parts.append(picture(run.pictures["samples"], f"{run.name}: bands, truth and prediction"))
    body = "\n".join(parts)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width, initial-scale=1'>{again}<title>genseg runs</title>"
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )
