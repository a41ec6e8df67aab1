"""What pyproject.toml cannot say: configs/ of the repository is carried along as genseg.configs, so that `--config=pretrain`
is found where genseg is installed."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["genseg*"]), "genseg.configs"], package_dir={"genseg.configs": "configs"})
