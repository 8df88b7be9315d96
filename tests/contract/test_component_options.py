"""Every option of every loss, miner and influence function changes what it returns.

An option may need another to be set: each is tried with the defaults, and with every other
choice of one option that is a choice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_origin

import pytest
import torch

from mlcore.errors import MlcoreError
from mlcore.factories import InfluenceFactory, LossFactory, MinerFactory
from mlcore.geometry import takes_headings
from mlcore.option_types import members, options_of
from mlcore.registry.discovery import Registry
from mlcore.testing.cases import CONTEXT, standard, tuples_for

UNSEEN_HERE = {
    "save_similarity": "changes speed and memory alone",
    "gradient_filter": "of large batches: tests/plugins/soft_contrastive/test_far_tiles.py",
    "tile_precision": "of GPUs: tests/plugins/soft_contrastive/test_kernels.py",
}
FACTORS = (2.0, 0.5, 0.1, 10.0, 1.5)
NUMBERS = (0.0, 0.3, 1.0, 3.0, 12.0, 40.0)


def cases():
    for _, factory in Registry.discover()._provided:
        if isinstance(factory, LossFactory | MinerFactory | InfluenceFactory):
            for option in options_of(factory.config):
                if option.name in UNSEEN_HERE:
                    continue
                name = f"{type(factory).__name__}-{factory.name}-{option.name}"
                yield pytest.param(factory, option, id=name)


def others_of(option):
    """Return other values of an option, of which some may be refused."""
    default = option.default
    if isinstance(default, bool):
        return [not default]
    found = []
    for member in members(option.hint):
        if get_origin(member) is Literal:
            found += [value for value in member.__args__ if value != default]
        elif member in (int, float):
            number = default if isinstance(default, int | float) else 1.0
            found += [member(number * factor) for factor in FACTORS]
            found += [member(value) for value in NUMBERS]
        elif get_origin(member) is tuple:
            items = default or (0.2,)
            found += [default[:1]] if default else [(0.2, 0.4)]
            found += [tuple(type(item)(2 * item) for item in items)]
    return [value for value in found if value != default]


def bases_of(factory, option):
    """Return the defaults, and the defaults with another choice of another option."""
    default = factory.config()
    found = [default]
    for other in options_of(factory.config):
        is_choice = any(get_origin(m) is Literal for m in members(other.hint))
        if other.name != option.name and (is_choice or isinstance(other.default, bool)):
            for value in others_of(other):
                try:
                    found.append(replace(default, **{other.name: value}))
                except (ValueError, MlcoreError):
                    continue
    return found


def outcome(factory, config):
    """Return what a component makes of a few batches; an error is an outcome too."""
    torch.manual_seed(0)
    try:
        component = factory.build(config, CONTEXT)
        if isinstance(factory, InfluenceFactory):
            at = torch.linspace(0, 60, 241, dtype=torch.float64)
            found = [component.support_m, component.repulsion_start_m, component(at).tolist()]
            if takes_headings(component):
                turned = component(at, torch.linspace(0, 3, 241, dtype=torch.float64)).tolist()
                found += [component.support_rad, component.without_headings, turned]
            return found
        return [of_batch(factory, component, rows) for rows in batches()]
    except (ValueError, MlcoreError) as error:
        return str(error)


def batches():
    """Yield embeddings all over the sphere, close to each other, and some of them equal."""
    for seed in range(3):
        rows = standard(num_tuples=3, near=3, far=4, seed=seed)
        for shared in (0.0, 1.0, 4.0):
            close = torch.nn.functional.normalize(rows.embeddings + shared * torch.eye(6)[0])
            yield rows._replace(embeddings=close)
        yield rows._replace(embeddings=close[torch.arange(len(close)) // 2])


def of_batch(factory, component, rows):
    embeddings, batch, form = rows.embeddings, rows.batch, getattr(factory, "accepts", None)
    if isinstance(factory, MinerFactory):
        return [found.tolist() for found in component(embeddings, batch)]
    embeddings = embeddings.clone().requires_grad_()
    found = component(embeddings, batch, tuples_for(batch, form))
    found.loss.backward()
    stats = {name: str(value) for name, value in found.stats.items()}
    return (found.loss.item(), embeddings.grad.tolist(), stats)


@pytest.mark.filterwarnings("ignore:Values of Tp or Tn")
@pytest.mark.parametrize(("factory", "option"), list(cases()))
def test_an_option_changes_what_is_returned(factory, option):
    assert any(changes(factory, option, base) for base in bases_of(factory, option))


def changes(factory, option, base):
    """Return whether some value of the option gives something else than ``base`` does."""
    before = outcome(factory, base)
    for value in others_of(option):
        try:
            changed = replace(base, **{option.name: value})
        except (ValueError, MlcoreError):
            continue
        if outcome(factory, changed) != before:
            return True
    return False
