"""A model of timm as a backbone: maps of its last stage, and the class token."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import timm
import torch
from torch import Tensor, nn

from mlcore import ConfigError, Features, UnknownNameError
from mlcore.models import Backbone, ColourNormalisation


def timm_backbone(
    name: str, *, stride: int | None = None, size_px: tuple[int, int] | None = None
) -> TimmBackbone:
    """Return a model of timm with random weights.

    A transformer takes images of any size: they are padded to whole patches, and timm
    resamples its position embeddings; one that cannot is built for ``size_px``.

    Raises:
        UnknownNameError: timm has no model of that name; the nearest is named.
        ConfigError: The model gives no maps, none at that stride, or takes no images of that
            size.
    """
    network = create(name, size_px)
    if not hasattr(network, "forward_intermediates"):
        raise ConfigError(
            f"--backbone.model {name}: timm offers no maps of this model's features; choose "
            "another model"
        )
    backbone = TimmBackbone(network, name=name, stage=stage_of(network, name, stride))
    if size_px is not None:
        _require_size(backbone, name, size_px)
    return backbone


def _require_size(backbone: TimmBackbone, name: str, size_px: tuple[int, int]) -> None:
    """Raise ConfigError unless the backbone takes images of a size; some have but one."""
    try:
        backbone.feature_shape(size_px)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        own = "{} x {}".format(*backbone.input_size_px or ())
        raise ConfigError(
            f"--backbone.model {name} cannot embed images of {size_px[0]} x {size_px[1]} px "
            f"(height x width); it was made for {own} (--model.input_height_px, "
            f"--model.input_width_px). timm's error: {error}"
        ) from error


def create(name: str, size_px: tuple[int, int] | None = None) -> Any:
    """Return timm's model without its classifier.

    Raises:
        UnknownNameError: There is none of that name.
        ConfigError: It cannot be built for images of that size.
    """
    _require_known(name)
    sized = {} if size_px is None else {"img_size": size_px}
    for options in ({"dynamic_img_size": True, "dynamic_img_pad": True}, sized, {}):
        try:
            return timm.create_model(name, pretrained=False, num_classes=0, **options)
        except TypeError:
            continue  # the model has no such option
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = str(error) or "timm gives no reason"
            size = "" if size_px is None else " for images of {} x {} px".format(*size_px)
            raise ConfigError(
                f"--backbone.model {name} cannot be built{size} (height x width): {reason}"
            ) from error
    raise ConfigError(f"--backbone.model {name}: timm cannot build this model")


def _require_known(name: str) -> None:
    """Raise UnknownNameError unless timm has the model, and the tag if there is one."""
    model, _, tag = name.partition(".")
    if not timm.is_model(model):
        known = timm.list_models()
        nearest = get_close_matches(model.rpartition("/")[2].lower(), known, n=1)
        hint = (
            "" if nearest else "(timm.list_models('*vit*') lists those whose name holds a word)"
        )
        raise UnknownNameError(
            "timm model (--backbone.model)", name, known, hint, nearest=nearest
        )
    if tag and name not in (known := timm.list_pretrained(f"{model}.*")):
        raise UnknownNameError("timm weights (--backbone.model)", name, known)


def weights_address(name: str) -> str:
    """Return where timm's weights of a model can be downloaded.

    Raises:
        ConfigError: timm publishes none.
    """
    published = timm.get_pretrained_cfg(name)
    if published is not None and published.hf_hub_id:
        from huggingface_hub import hf_hub_url

        return str(hf_hub_url(published.hf_hub_id, "model.safetensors"))
    if published is not None and published.url:
        return str(published.url)
    raise ConfigError(
        f"timm publishes no weights of {name!r}; give --model.weights none or a file, or a "
        "name with another tag"
    )


def stage_of(network: Any, name: str, stride: int | None) -> int:
    """Return the number of the stage at a stride: the last of that stride."""
    strides = [stage["reduction"] for stage in _stages(network)]
    wanted = strides[-1] if stride is None else stride
    if wanted not in strides:
        known = ", ".join(str(number) for number in sorted(set(strides)))
        raise ConfigError(
            f"--backbone.stride {stride}: {name} has features at strides of {known} px"
        )
    return len(strides) - 1 - strides[::-1].index(wanted)


def _stages(network: Any) -> Sequence[Mapping[str, Any]]:
    info = network.feature_info
    return list(getattr(info, "info", info))


def _gives_tokens(network: Any) -> bool:
    """Return whether a model is a plain transformer: tokens of patches of any number."""
    arguments = inspect.signature(network.forward_intermediates).parameters
    patches = getattr(network, "patch_embed", None)
    return (
        "return_prefix_tokens" in arguments
        and hasattr(patches, "dynamic_feat_size")
        and hasattr(network, "norm")
        and "num_prefix_tokens" in vars(network)
    )


class TimmBackbone(Backbone):
    """A model of timm up to one of its stages.

    Args:
        network: timm's model; what comes after the stage is cut off.
        name: Its name.
        stage: Number of the stage.
    """

    def __init__(self, network: Any, *, name: str, stage: int) -> None:
        super().__init__()
        info = _stages(network)[stage]
        published = network.pretrained_cfg
        self.num_channels = int(info["num_chs"])
        self.normalisation = ColourNormalisation(published["mean"], published["std"])
        self.input_size_px = tuple(published["input_size"][1:])
        self._prefix = int(getattr(network, "num_prefix_tokens", 0))
        self._is_transformer = _gives_tokens(network)
        self.has_token = self._is_transformer and self._prefix > 0
        self.has_token &= bool(getattr(network, "has_class_token", False))
        self.patch_size = int(info["reduction"]) if self._is_transformer else 1
        network.prune_intermediate_layers([stage], prune_norm=False, prune_head=True)
        self.network = network
        self._name, self._stage = name, stage
        self.tokens_as_maps = nn.Identity()
        self._grid = (0, 0)
        if self._is_transformer:
            self.blocks[-1].register_forward_pre_hook(self._through_maps)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The residual or transformer blocks, first to last."""
        stages = [
            getattr(self.network, name)
            for name in ("blocks", "stages", "layer1", "layer2", "layer3", "layer4")
            if isinstance(getattr(self.network, name, None), nn.Module)
        ]
        found: list[nn.Module] = []
        for stage in stages:
            for part in stage.children():
                inner = getattr(part, "blocks", part)
                nested = isinstance(inner, nn.Sequential | nn.ModuleList)
                found += list(inner.children()) if nested else [part]
        return found

    @property
    def explained(self) -> nn.Module | None:
        """Of a transformer, what enters its last block: the token's own output has no maps."""
        return self.tokens_as_maps if self._is_transformer else None

    @property
    def published(self) -> nn.Module:
        """Timm's model."""
        network: nn.Module = self.network
        return network

    def convert(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return weights in timm's names, position embeddings resampled to the model's."""
        from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

        if isinstance(self.network, VisionTransformer):
            converted: Mapping[str, Tensor] = checkpoint_filter_fn(dict(state), self.network)
            return converted
        return state

    def forward(self, images: Tensor) -> Features:
        """Return the features of images in [0, 1]."""
        normalised = self.normalisation(images)
        if not self._is_transformer:
            maps = self.network.forward_intermediates(
                normalised, indices=[self._stage], intermediates_only=True
            )[-1]
            return Features(maps)
        self._grid = self.network.patch_embed.dynamic_feat_size(images.shape[2:])
        found = self.network.forward_intermediates(
            normalised,
            indices=[self._stage],
            intermediates_only=True,
            return_prefix_tokens=self._prefix > 0,
            norm=True,
        )[-1]
        if self._prefix == 0:
            return Features(found)
        maps, prefix = found
        return Features(maps, prefix[:, 0] if self.has_token else None)

    def _through_maps(self, _: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Let the tokens ``(B, P + h w, C)`` pass as maps, where Grad-CAM can see them."""
        tokens: Tensor = arguments[0]
        prefix, local = tokens[:, : self._prefix], tokens[:, self._prefix :]
        maps = local.transpose(1, 2).reshape(local.shape[0], local.shape[2], *self._grid)
        local = self.tokens_as_maps(maps).flatten(2).transpose(1, 2)
        return torch.cat([prefix, local], dim=1), *arguments[1:]
