"""Data sets by name. Each entry is a frozen dataclass whose fields are the options it reads from `config.data`."""

from genseg.data.sets.demo import DemoClassification, DemoSegmentation
from genseg.data.sets.dfc2020 import DFC2020
from genseg.data.sets.imagenet import ImageNet2012
from genseg.data.sets.isaid import ISAID
from genseg.data.sets.loveda import LoveDA
from genseg.data.sets.mfnet import MFNet
from genseg.data.sets.own import FolderSegmentation
from genseg.data.sets.photographs import FolderClassification
from genseg.data.sets.potsdam import Potsdam
from genseg.data.sets.pst900 import PST900
from genseg.data.sets.vaihingen import Vaihingen

DATASETS = {
    "demo_classification": DemoClassification,
    "demo_segmentation": DemoSegmentation,
    "dfc2020": DFC2020,
    "folder_classification": FolderClassification,
    "folder_segmentation": FolderSegmentation,
    "imagenet2012": ImageNet2012,
    "isaid": ISAID,
    "loveda": LoveDA,
    "mfnet": MFNet,
    "potsdam": Potsdam,
    "pst900": PST900,
    "vaihingen": Vaihingen,
}
