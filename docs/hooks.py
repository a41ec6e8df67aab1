"""For MkDocs: the config reference, made from the keys' own definitions, and links that leave docs/."""

import re

MARK = "<!-- keys -->"


def reference() -> str:
    """Markdown: a table a section for each of the two tasks, with default, meaning and range of every key."""
    from genseg import keys, recipes

    lines = []
    for task, config in recipes.TASKS.items():
        lines += [f"## {'Pre-training' if task == 'pretrain' else 'Segmentation'}", ""]
        section = None
        for name, key in keys.of(config).items():
            part = name.rpartition(".")[0]
            if part != section:
                lines += [
                    "",
                    f"### config.{part}" if part else "### config",
                    "",
                    "| key | default | meaning | give |",
                    "|---|---|---|---|",
                ]
                section = part
            default = "set by the job" if key.default is ... else f"`{key.default!r}`"
            cells = (f"`{name}`", default, key.comment, key.wanted)
            lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |")
        lines.append("")
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


def on_page_markdown(markdown: str, **_) -> str:
    """A link to a file of the repository outside docs/ becomes its path: the site does not hold it."""
    markdown = re.sub(
        r"\[([^\]]+)\]\(\.\./([^)]+)\)", lambda m: m[1] if m[2] in m[1] else f"{m[1]} (`{m[2]}`)", markdown
    )
    return markdown.replace(MARK, f"{reference()}\n{data_reference()}") if MARK in markdown else markdown
