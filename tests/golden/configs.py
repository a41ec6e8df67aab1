"""What every config file of the project resolves to, stored as plain text beside this script.

    python tests/golden/configs.py          compares, and prints what differs
    python tests/golden/configs.py --write  stores what the files resolve to now: only where a value is meant to change

`configs.json`: {file: {variant: {key: repr of its value}}}. A file's first variant is stored whole, of the others only the
keys that differ from it. The values are those from before the keys' definitions moved out of the files into
genseg/recipes/. A key that came later is not in it: its definition says by `before=` which value means what genseg did
without it, and that value is what these files must have.
"""

import importlib.util
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIGS = HERE.parents[1] / "configs"
UPERNET = [
    f"backbone={name}"
    for name in ("convnext_small", "convnext_base", "convnext_large", "swin_tiny", "swin_small", "swin_base")
]
VARIANTS = {
    "pretrain": [
        "", "convnext_small", "convnext_base", "convnext_large", "swin_tiny", "swin_small", "swin_base",
        "objective=rgb,channels=3", "channels=(3,4,5)", "swin_tiny,channels=5",
    ],
    "convert": ["", "swin_tiny,channels=(3,4,5)"],
    "small_pretrain": ["", "objective=rgb,channels=3", "channels=(3,4,5)"],
    "demo_pretrain": ["", "objective=rgb,channels=3", "channels=5"],
    "segment_isaid": ["", *UPERNET, "protocol=rsp", "swin_tiny,protocol=rsp"],
    "segment_loveda": ["", "domain=urban"],
    "segment_mfnet": ["", *UPERNET, "protocol=foreground", "protocol=crm"],
    "segment_pst900": ["", *UPERNET],
    "segment_vaihingen": ["", "protocol=mmseg"],
    "segment_dfc2020": ["", "split=reversed"],
    "segment_potsdam": ["", *UPERNET, "protocol=geoseg", "protocol=mmseg", "protocol=aerialformer"],
    "small_segment": ["naip", "mfnet"],
    "demo_segment": [""],
}  # fmt: skip


def flat(part: dict, prefix: str = "") -> dict[str, str]:
    """{"section.key": repr of its value}; {} stands for a mapping without entries."""
    found = {}
    for key, value in sorted(part.items()):
        found |= (
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": repr(value)}
        )
    return found


def load(name: str, arguments: str):
    """The config of configs/NAME.py:ARGUMENTS."""
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(arguments) if arguments else module.get_config()


def table() -> dict[str, dict[str, dict[str, str]]]:
    """configs.json as it is."""
    return json.loads((HERE / "configs.json").read_text())


def stored() -> dict[tuple[str, str], dict[str, str]]:
    """(file, variant) -> every key as it is in configs.json."""
    found = {}
    for name, variants in table().items():
        whole = next(iter(variants.values()))
        found |= {(name, v): values if "task" in values else whole | values for v, values in variants.items()}
    return found


def write() -> None:
    values_of = {}
    for name, variants in VARIANTS.items():
        whole = flat(load(name, variants[0]).to_dict())
        values_of[name] = {variants[0]: whole}
        for variant in variants[1:]:
            values = flat(load(name, variant).to_dict())
            if values.keys() == whole.keys():
                values = {key: value for key, value in values.items() if value != whole[key]}
            values_of[name][variant] = values
    (HERE / "configs.json").write_text(json.dumps(values_of, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    for (name, variant), old in stored().items():
        new = flat(load(name, variant).to_dict())
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                print(f"{name}:{variant} {key}: {old.get(key)} -> {new.get(key)}")
