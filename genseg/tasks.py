"""The two tasks. All that differs between pre-training and segmentation is here; the loop is one (`genseg.train`).

A task is a frozen dataclass with
  net, card, score           the network, the data's card, and the name of the score that picks the best checkpoint;
  weight(batch)              float32 []: what the loss is a mean over (valid images, or valid pixels);
  loss_sum(params, stats, batch, key) -> (float32 [], new stats): summed, so that the mean is over the global batch;
  network_input(image, key): what loss_sum with the same key makes of a batch's images, before mixup and CutMix;
  eval_step(params, stats, batch) -> dict of int32 counts, added up on the host in int64;
  summarize(counts) -> dict of scores.
`batch` is the dict of `genseg.data.batches.pipeline`: image [b h w c] as stored, label, valid bool [b], index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from genseg import bands, border_scores, csp, draws, losses, metrics, mixing, tree
from genseg.config import section
from genseg.data import doubts
from genseg.data.card import DatasetCard
from genseg.errors import UserError
from genseg.freezing import NOTHING_FROZEN, Freezing
from genseg.losses import terms
from genseg.losses.terms import Loss
from genseg.nets import attention_form, classifier, segmenter
from genseg.nets.functional import Net
from genseg.nets.resizing import cut_to, resize, whole_strides
from genseg.recipes.shared import Bands
from genseg.windows import Inference

Batch = dict[str, jax.Array]
OBJECTIVES = ("csp", "rgb")
ORDERS = ("fixed", "permuted", "reversed")
PERMUTATION_SEED = 4604  # evaluation's permutations are a function of the record's index alone, in any layout


@jax.named_scope("normalise")
def normalise(image: jax.Array, card: DatasetCard) -> jax.Array:
    """uint8 or float [b, h, w, c] as stored -> float32 with each band's mean 0 and standard deviation 1."""
    return (image.astype(jnp.float32) - card.mean) / card.std


@dataclass(frozen=True)
class Pretrain:
    """Classification of n-channel images made from the data's source channels.

    counts: the channel count n, or several: then the network has max(counts) channels and each image draws its n (see
      `csp.draw_mixed_orders`).
    objective: "csp" (Channel Shuffling Pre-training) or "rgb" (IM-RGB: the source channels as they are).
    mix, bands: what else is done to bands in training (`genseg.bands`); nothing at evaluation.
    orders: channel orders to evaluate in, of ORDERS; "fixed" is the score.
    permutations: how many random orders of each evaluation image "permuted" is averaged over.
    """

    net: Net
    card: DatasetCard
    counts: tuple[int, ...]
    objective: str
    fill: str
    per: str
    mixing: mixing.Mixing
    erasing: mixing.Erasing
    smoothing: float
    orders: Sequence[str]
    permutations: int = 1
    mix: float = 0.0
    bands: Bands = bands.OFF

    def __post_init__(self):
        source = self.card.channels
        if not self.counts or min(self.counts) < 1 or len(set(self.counts)) < len(self.counts):
            raise UserError(f"config.csp.channels is {self.counts}; give one count of at least 1, or several different")
        if self.objective == "rgb" and self.counts != (source,):
            raise UserError(
                f"config.csp.objective 'rgb' keeps the data's {source} channels but config.csp.channels is "
                f"{_plain(self.counts)}; set it to {source} (fine-tuning inflates the stem), or use objective 'csp'"
            )
        if self.objective == "rgb" and self.mix:
            raise UserError(
                f"config.csp.mix is {self.mix} but config.csp.objective 'rgb' keeps the data's channels; set one of them"
            )
        bands.check(self.bands, self.card, mix=self.mix)

    @property
    def score(self) -> str:
        return "top1"

    @property
    def freezing(self) -> Freezing:
        return NOTHING_FROZEN

    def weight(self, batch: Batch) -> jax.Array:
        return jnp.sum(batch["valid"]).astype(jnp.float32)

    def loss_sum(self, params: Any, stats: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        keys = draws.PretrainKeys.of(key)
        image = self.network_input(batch["image"], key)
        target = losses.soft_targets(batch["label"], len(self.card.classes), self.smoothing)
        if self.mixing.on:
            image, target = mixing.mix(image, target, keys.mixing, self.mixing)
        logits, stats = self.net.apply(params, stats, image, train=True, key=keys.net)
        return losses.soft_cross_entropy_sum(logits, target, batch["valid"]), stats

    def network_input(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """[b, h, w, m] as stored -> normalised float32 [b, h, w, max(counts)]: shuffled, changed and erased."""
        keys = draws.PretrainKeys.of(key)
        image, order = self._shuffled(image, keys.order, keys.bands)
        if self.erasing.prob > 0:
            image = mixing.erase(image, keys.erasing, self.erasing)
        if len(self.counts) > 1:  # behind erasing, whose noise would fill the unused channels
            image *= csp.channel_weight(order)[:, None, None]
        return bands.drop(image, keys.drop, order >= 0) if self.bands.drop else image

    def _shuffled(self, image: jax.Array, key: jax.Array, bands_key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Normalised float32 [b, h, w, max(counts)], and int32 [b, max(counts)]: what each channel is of
        (csp.draw_mixed_orders)."""
        batch, source = image.shape[0], self.card.channels
        if self.objective == "rgb":
            order = jnp.broadcast_to(jnp.arange(source), (batch, source))
        elif len(self.counts) > 1:
            order = csp.draw_mixed_orders(key, batch, source, self.counts, fill=self.fill, per=self.per)
        else:
            order = csp.draw_orders(key, batch, source, self.counts[0], fill=self.fill, per=self.per)
        if not self.mix and not self.bands.on:
            image = normalise(image, self.card)
            return (image if self.objective == "rgb" else csp.apply_order(image, order)), order
        weight_key, see_key = jax.random.split(bands_key)
        if self.mix:
            weights = bands.draw_weights(weight_key, order, source, self.mix)
        else:
            weights = jax.nn.one_hot(order, source, axis=1, dtype=jnp.float32)
        return bands.see(
            image.astype(jnp.float32) / 255, see_key, self.bands, mean=self.card.mean / 255, std=self.card.std / 255,
            weights=weights,
        ), order  # fmt: skip

    def in_order(self, image: jax.Array, order: jax.Array) -> jax.Array:
        """float [b, h, w, m] and int32 [b, n] -> the network's input [b, h, w, max(counts)]."""
        order = csp.pad_order(order, max(self.counts))
        return csp.apply_order(image, order) * csp.channel_weight(order)[:, None, None]

    def eval_orders(self, index: jax.Array) -> dict[str, jax.Array]:
        """ "ORDER/N" -> int32 [draws, b, max(counts)]: the channel orders in which records `index` int [b] are evaluated.

        A record's random orders are functions of its index alone, whatever batch and device it is in.
        """
        source, widest = self.card.channels, max(self.counts)
        key = jax.random.key(PERMUTATION_SEED)

        def drawn(draw: int, n: int) -> jax.Array:
            keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, draw), i))(index.astype(jnp.uint32))
            return jax.vmap(lambda k: csp.draw_order(k, source, n, self.fill))(keys)

        def orders(name: str, n: int) -> jax.Array:
            if name == "permuted":
                return jnp.stack([drawn(draw, n) for draw in range(self.permutations)])
            one = csp.fixed_order(source, n) if name == "fixed" else csp.reversed_order(source, n)
            return jnp.broadcast_to(one, (1, index.shape[0], n))

        return {f"{name}/{n}": csp.pad_order(orders(name, n), widest) for name in self.orders for n in self.counts}

    def eval_step(self, params: Any, stats: Any, batch: Batch) -> dict[str, jax.Array]:
        """{"images": int32 [], "ORDER/N": int32 [draws, 2]}: counts of right top-1 and top-5, a row a draw."""
        image = normalise(batch["image"], self.card)

        def right(order: jax.Array) -> jax.Array:
            logits, _ = self.net.apply(params, stats, self.in_order(image, order), train=False)
            return metrics.top_k_counts(logits, batch["label"], batch["valid"])

        named = self.eval_orders(batch["index"])
        # A loop in the program: the network is compiled once for all orders.
        counts = jax.lax.map(right, jnp.concatenate(list(named.values())))
        ends = np.cumsum([len(orders) for orders in named.values()])
        parts = dict(zip(named, jnp.split(counts, ends[:-1]), strict=True))
        return {"images": jnp.sum(batch["valid"], dtype=jnp.int32)} | parts

    def summarize(self, counts: dict[str, np.ndarray]) -> dict[str, float]:
        """{"top1", "top5"} in the fixed order, {"top1_permuted", ...} in the others; shares in [0, 1].

        With several channel counts these are means over them, and {"top1_n3", "top1_permuted_n3", ...} are added.
        """
        scores = {}
        for order in self.orders:
            suffix = "" if order == "fixed" else f"_{order}"
            for k, name in enumerate(("top1", "top5")):
                each = {n: float(counts[f"{order}/{n}"][:, k].mean() / counts["images"]) for n in self.counts}
                scores[name + suffix] = sum(each.values()) / len(each)
                if len(each) > 1:
                    scores |= {f"{name}{suffix}_n{n}": share for n, share in each.items()}
        return scores


def _plain(counts: tuple[int, ...]) -> int | tuple[int, ...]:
    """As config.csp.channels has it."""
    return counts[0] if len(counts) == 1 else counts


@dataclass(frozen=True)
class Segment:
    """Semantic segmentation: a loss over valid pixels, plus `aux_weight` times the auxiliary head's.

    bands, named: augmentation of bands in training, of those `named` or, where it is empty, of all (`genseg.bands`).
    """

    net: Net
    card: DatasetCard
    inference: Inference
    loss: Loss = losses.pixel_cross_entropy_sum
    aux_loss: Loss = losses.pixel_cross_entropy_sum
    aux_weight: float = 0.0
    freezing: Freezing = NOTHING_FROZEN
    bands: Bands = bands.OFF
    named: tuple[str, ...] = ()

    def __post_init__(self):
        known = [band.name for band in self.card.bands]
        if unknown := [name for name in self.named if name not in known]:
            raise UserError(
                f"config.csp.names has '{unknown[0]}', which {self.card.name} lacks; its bands are {', '.join(known)}"
            )
        bands.check(self.bands, self.card)

    @property
    def score(self) -> str:
        return "miou"

    def valid_pixels(self, batch: Batch) -> jax.Array:
        """bool [b, h, w]: pixels of real images that do not carry the ignore label."""
        valid = jnp.broadcast_to(batch["valid"][:, None, None], batch["label"].shape)
        return valid if self.card.ignore_label is None else valid & (batch["label"] != self.card.ignore_label)

    def weight(self, batch: Batch) -> jax.Array:
        return jnp.sum(self.valid_pixels(batch), dtype=jnp.float32)

    def loss_sum(self, params: Any, stats: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        # Without a gradient the compiler leaves the frozen layers' backward pass out.
        params = tree.map_paths(lambda p, x: jax.lax.stop_gradient(x) if self.freezing.never_trained(p) else x, params)
        image = whole_strides(self.network_input(batch["image"], key))
        out, stats = self.net.apply(params, stats, image, train=True, key=key)
        valid, sizes = self.valid_pixels(batch), (image.shape[1:3], batch["label"].shape[1:])
        loss = self.loss(cut_to(out["logits"], *sizes), batch["label"], valid)
        if "aux" in out:
            loss += self.aux_weight * self.aux_loss(cut_to(out["aux"], *sizes), batch["label"], valid)
        return loss, stats

    def network_input(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """[b, h, w, c] as stored -> normalised float32 [b, h, w, c], augmented."""
        see_key, drop_key = jax.random.split(draws.bands_key(key))
        chosen = np.array([not self.named or band.name in self.named for band in self.card.bands])
        if self.bands.on:
            scaled, mean, std = (x / 255 for x in (image.astype(jnp.float32), self.card.mean, self.card.std))
            image = bands.see(scaled, see_key, self.bands, mean=mean, std=std, chosen=chosen)
        else:
            image = normalise(image, self.card)
        if self.bands.drop:
            image = bands.drop(image, drop_key, jnp.ones((image.shape[0], image.shape[-1]), bool), chosen)
        return image

    def scores(self, params: Any, stats: Any, image: jax.Array) -> jax.Array:
        """[b, h, w, c] as stored -> float32 [b, h, w, classes]: logits; with flips or scales the mean of softmaxes.

        As mmsegmentation's aug_test: each view's logits are brought back to the image's size before the softmax.
        """
        image, size = normalise(image, self.card), image.shape[1:3]
        if self.inference.mode == "slide":  # whole images are padded by `eval_multiple`
            image = whole_strides(image)
        padded = image.shape[1:3]

        def seen(view: jax.Array) -> jax.Array:
            out, _ = self.net.apply(params, stats, view, train=False)
            return resize(out["logits"], *padded)

        if not self.inference.augmented:
            return seen(image)[:, : size[0], : size[1]]
        views = []
        for scale in self.inference.scales:
            scaled = image if scale == 1 else resize(image, *(max(1, round(side * scale / 32)) * 32 for side in padded))
            views.append(jax.nn.softmax(seen(scaled)))
            if self.inference.flip:
                views.append(jax.nn.softmax(seen(scaled[:, :, ::-1]))[:, :, ::-1])
        return (sum(views) / len(views))[:, : size[0], : size[1]]

    def predict(self, params: Any, stats: Any, image: jax.Array) -> jax.Array:
        """[b, h, w, c] as stored -> int32 [b, h, w] class ids, each image seen whole."""
        return jnp.argmax(self.scores(params, stats, image), axis=-1).astype(jnp.int32)

    def record_counts(self, params: Any, stats: Any, batch: Batch) -> dict[str, jax.Array]:
        """int32 "confusion" [b, classes, classes] and "borders" [b, 7, 3, classes] (`border_scores`) of each record.

        "own" in the batch, int32 [b, 4]: first row, last row + 1, first column, last column + 1 of a part. Then "owned"
        is the confusion of this part, and "borders" are those inside it, seen with what lies around.
        """
        prediction, label, valid = self.predict(params, stats, batch["image"]), batch["label"], self.valid_pixels(batch)
        count = jax.vmap(lambda p, t, v: metrics.confusion(p, t, v, len(self.card.classes)))
        counts, inside = {"confusion": count(prediction, label, valid)}, None
        if "own" in batch:
            top, bottom, left, right = (batch["own"][:, i, None, None] for i in range(4))
            rows, columns = jnp.arange(label.shape[1])[:, None], jnp.arange(label.shape[2])
            inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
            counts["owned"] = count(prediction, label, valid & inside)
        counts["borders"] = border_scores.border_counts(prediction, label, valid, len(self.card.classes), inside)
        return counts

    def eval_step(self, params: Any, stats: Any, batch: Batch) -> dict[str, jax.Array]:
        return {"confusion": jnp.sum(self.record_counts(params, stats, batch)["confusion"], axis=0)}

    def border_detail(self, counts: np.ndarray) -> border_scores.BorderScores:
        """Border scores, per class too, of summed "borders" counts."""
        return border_scores.border_scores(counts, self.card.scored, self.card.absent)

    def detail(self, confusion: np.ndarray) -> metrics.SegmentationScores:
        """All scores, per class too, of a summed confusion matrix."""
        return metrics.segmentation_scores(confusion, self.card.scored, self.card.absent)

    def summarize(self, counts: dict[str, np.ndarray]) -> dict[str, float]:
        """{"miou", "mf1", "macc", "oa"} and `border_scores.named_scores`, shares in [0, 1]; of a part's counts
        "confusion_PART" and "borders_PART" {"miou_PART", ...}. Scores that nothing counts for, such as those of a part without
        a valid pixel, are left out. Raises: UserError where nothing counts at all."""
        doubts.refuse_uncounted(counts["confusion"], self.card.scored, self.card.classes)
        scores: dict[str, float] = {}
        for name, of_part in counts.items():
            if name.split("_")[0] == "confusion":
                detail, part = self.detail(of_part), name.removeprefix("confusion")
                scores |= {f"{k}{part}": getattr(detail, k) for k in ("miou", "mf1", "macc", "oa")}
            elif name.split("_")[0] == "borders":
                named = border_scores.named_scores(self.border_detail(of_part))
                scores |= {f"{k}{name.removeprefix('borders')}": v for k, v in named.items()}
        return {name: score for name, score in scores.items() if not np.isnan(score)}


Task = Pretrain | Segment


def build_pretrain(config: ConfigDict, card: DatasetCard, platform: str = "") -> Pretrain:
    """The pre-training task of a config (sections model, csp, mixing, erasing, loss, eval)."""
    if card.task != "classification":
        raise UserError(f"config.task is 'pretrain' but data set '{card.name}' holds {card.task} labels")
    model, mixed = config.model, section(mixing.Mixing, config.mixing, "mixing")
    if mixed.on and config.train.batch_size // config.train.accumulation % 2:
        raise UserError(
            f"mixup and CutMix pair images, but config.train.batch_size {config.train.batch_size} in "
            f"{config.train.accumulation} microbatches leaves an odd number; make it even, or set config.mixing.prob=0"
        )
    channels = config.csp.channels
    counts = (channels,) if isinstance(channels, int) else tuple(channels)
    net = classifier(
        model.backbone, channels=max(counts, default=1), classes=len(card.classes), drop_path=model.drop_path,
        dtype=model.dtype, remat=model.remat, attention=attention_form(model.attention, platform), head_init_scale=model.head_init_scale,
    )  # fmt: skip
    return Pretrain(
        net=net, card=card, counts=counts, objective=config.csp.objective, fill=config.csp.fill,
        per=config.csp.per, mixing=mixed,
        erasing=section(mixing.Erasing, config.erasing, "erasing"), smoothing=config.loss.smoothing,
        orders=tuple(config.eval.orders), permutations=config.eval.permutations,
        mix=config.csp.mix, bands=bands.of(config.csp),
    )  # fmt: skip


def build_segment(config: ConfigDict, card: DatasetCard, platform: str = "") -> Segment:
    """The segmentation task of a config (sections model, loss, eval, augment); its channels are the card's bands."""
    if card.task != "segmentation":
        raise UserError(f"config.task is 'segment' but data set '{card.name}' holds {card.task} labels")
    model = config.model
    freezing = Freezing(model.freeze, model.thaw_every)
    net = segmenter(
        model.backbone, channels=card.channels, classes=len(card.classes),
        drop_path=0.0 if freezing.backbone_is_fixed else model.drop_path,
        dtype=model.dtype, remat=model.remat, attention=attention_form(model.attention, platform), head=model.head, fusion=model.fusion, head_channels=model.head_channels,
        aux_channels=model.aux_channels, aux=config.loss.aux_weight > 0 and model.head != "linear",
        dropout=model.dropout, project=model.project,
    )  # fmt: skip
    seen = {key: config.eval[key] for key in ("mode", "crop", "stride", "blend", "flip", "scales")}
    inference = Inference(**seen, multiple=config.augment.eval_multiple)
    parts = terms.terms(config.loss.to_dict(), len(card.classes))
    return Segment(
        net, card, inference, terms.weighted(parts, terms.main_weights(config.loss), "config.loss"),
        terms.weighted(parts, config.loss.aux, "config.loss.aux"), config.loss.aux_weight, freezing,
        bands=bands.of(config.csp), named=tuple(config.csp.names),
    )  # fmt: skip


BUILDERS = {"pretrain": build_pretrain, "segment": build_segment}


def build(config: ConfigDict, card: DatasetCard, platform: str = "") -> Task:
    """The task that `config.task` names, for data described by `card`, on devices of a platform such as "tpu"."""
    if config.task not in BUILDERS:
        raise UserError(f"config.task is '{config.task}'; it must be one of {', '.join(BUILDERS)}")
    return BUILDERS[config.task](config, card, platform)
