"""Names that are spelt as other libraries spell them."""

from __future__ import annotations

import pytest

from mlcore.errors import did_you_mean

NAMES = ["gem", "average", "netvlad", "pml-nt-xent", "pml-triplet-margin", "soft-contrastive"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("GeM", "gem"),
        ("NetVLAD", "netvlad"),
        ("NTXentLoss", "pml-nt-xent"),
        ("soft_contrastive_loss", "soft-contrastive"),
        ("SoftContrastiveLoss", "soft-contrastive"),
        ("TripletMarginLoss", "pml-triplet-margin"),
    ],
)
def test_other_spellings_are_recognised(name, meant):
    assert did_you_mean(name, NAMES) == f"; did you mean '{meant}'?"


@pytest.mark.parametrize("name", ["xyz", "Loss", ""])
def test_what_resembles_nothing_gets_the_list(name):
    assert did_you_mean(name, NAMES).startswith("; known: average, gem, ")
