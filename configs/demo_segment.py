"""`make demo`, second half: fine-tuning on RGB + thermal scenes drawn by code.

Lab note
  data      demo_segmentation: SYNTHETIC, 80 + 80 scenes of 64 x 64 pixels by day and night, 4 bands, 5 classes
  network   UperNet with narrow heads on convnext_micro
  cost      under a minute on 2 CPU cores
  command   python -m genseg.main --config=configs/demo_segment.py --workdir=demo/segment-csp \
                --config.init.checkpoint=demo/csp
"""

from ml_collections import ConfigDict

from genseg.recipes import segment


def get_config() -> ConfigDict:
    return segment.config(
        data=dict(name="demo_segmentation", threads=1),
        augment=dict(size=(64, 64), scale=(0.75, 1.5), vertical_flip=0.5, turns=True),
        model=dict(backbone="convnext_micro", drop_path=0.1, head_channels=32, aux_channels=16),
        train=dict(batch_size=8, steps=300, warmup_steps=20),
        optim=dict(learning_rate=4e-3, warmup_learning_rate=5e-7, schedule="poly", layer_decay=0.9),
        eval=dict(batch_size=20, crop=(64, 64), stride=(32, 32)),
        report=dict(log_every=25, panels=4),
    )
