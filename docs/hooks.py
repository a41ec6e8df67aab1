"""For MkDocs: the functions that `import genseg` gives, from their docstrings; executed notebooks as pages; and links that leave
docs/. `python docs/hooks.py` writes the tables of config.md from the keys' own definitions: they are committed, so that the page
is whole in a clone too."""

import base64
import html
import inspect
import json
import re
from pathlib import Path

CONFIG_PAGE = Path(__file__).parent / "config.md"
MARK = "<!-- keys: written by python docs/hooks.py -->"
FUNCTIONS = "<!-- functions -->"
NOTEBOOKS = Path(__file__).parent / "notebooks"


def reference() -> str:
    """Markdown: a table a section for each of the two tasks, with default, meaning and range of every key."""
    from genseg import keys, recipes

    lines = []
    for task, config in recipes.TASKS.items():
        lines += [f"## {'Pre-training' if task == 'pretrain' else 'Segmentation'}", ""]
        sections: dict[str, list[str]] = {}
        for name, key in keys.of(config).items():
            left_out = recipes.segment.DERIVED.get(name, "set by the job") if task == "segment" else "set by the job"
            default = left_out if key.default is ... else f"`{key.default!r}`"
            cells = (f"`{name}`", default, key.comment, key.wanted)
            row = "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"
            sections.setdefault(name.rpartition(".")[0], []).append(row)
        for section, rows in sections.items():
            title = f"### config.{section}" if section else "### config"
            lines += [title, "", "| key | default | meaning | give |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def data_reference() -> str:
    """Markdown: the keys that each data set adds to config.data."""
    from genseg import keys
    from genseg.data import DATASETS

    lines = ["## Data sets", ""]
    for name, kind in sorted(DATASETS.items()):
        lines += [f"### {name}", "", "| key | default | meaning |", "|---|---|---|"]
        for field, key in keys.of(kind).items():
            default = "to be given" if key.default is ... else f"`{key.default!r}`"
            cells = (f"`data.{field}`", default, key.comment)
            lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def config_page() -> str:
    """config.md: what stands above MARK as it is, and the present definitions' tables below."""
    head, mark, _ = CONFIG_PAGE.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        raise ValueError(f"{CONFIG_PAGE.name} lacks the line {MARK}, below which the tables belong")
    return f"{head}{MARK}\n\n{reference()}\n{data_reference().rstrip()}\n"


def function_reference() -> str:
    """Markdown: signature and docstring of each function that `import genseg` gives."""
    import genseg

    lines = []
    for name in genseg._FUNCTIONS:
        function = getattr(genseg, name)
        parameters = list(inspect.signature(function).parameters.values())
        arguments = [re.sub(r": '([^']*)'", r": \1", str(parameter)) for parameter in parameters]
        by_name = [parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters]
        if any(by_name):
            arguments.insert(by_name.index(True), "*")
        body = "\n".join(f"    {argument}," for argument in arguments)
        gives = str(inspect.signature(function).return_annotation).replace("'", "")
        lines += [f"## genseg.{name}", "", "```python", f"genseg.{name}(", body, f") -> {gives}", "```", ""]
        lines += ["```text", inspect.getdoc(function), "```", ""]
    return "\n".join(lines)


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """(Markdown of an executed notebook, its pictures by name): code, what it printed, and the log folded away."""
    cells, pictures = json.loads(path.read_text())["cells"], {}
    lines = [f"*An executed notebook: [{path.name}]({path.name}) opens in Jupyter and Colab.*", ""]
    for number, cell in enumerate(cells):
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            text = re.sub(r"\((\d\d_\w+)\.ipynb\)", r"(\1.md)", text)
            head, _, rest = text.partition("\n")
            lines += [f"{head}\n\n{lines.pop(0)}\n{rest}" if number == 0 else text, ""]
            continue
        lines += ["```python", text, "```", ""]
        for output in cell.get("outputs", []):
            if "text" in output:
                shown = html.escape("".join(output["text"]).rstrip())
                block = f'<pre class="output"><code>{shown}</code></pre>'
                log = output.get("name") == "stderr"
                lines += [f"<details><summary>the log</summary>{block}</details>" if log else block, ""]
            elif png := output.get("data", {}).get("image/png"):
                name = f"{path.stem}-{len(pictures)}.png"
                pictures[name] = base64.b64decode("".join(png))
                lines += [f"![Output of the cell above]({name})", ""]
    return "\n".join(lines), pictures


def on_files(files, config):
    """Adds a page and its pictures for each executed notebook."""
    from mkdocs.structure.files import File

    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        text, pictures = notebook_page(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, **_) -> str:
    """What code writes is put in its place; a link to a file outside docs/ becomes its path: the site does not hold it."""
    markdown = re.sub(
        r"\[([^\]]+)\]\(\.\./([^)]+)\)", lambda m: m[1] if m[2] in m[1] else f"{m[1]} (`{m[2]}`)", markdown
    )
    markdown = re.sub(r"\((notebooks/\w+)\.ipynb\)", r"(\1.md)", markdown)  # the page, not the file to download
    if FUNCTIONS in markdown:
        markdown = markdown.replace(FUNCTIONS, function_reference())
    return markdown


if __name__ == "__main__":
    CONFIG_PAGE.write_text(config_page(), encoding="utf-8")
