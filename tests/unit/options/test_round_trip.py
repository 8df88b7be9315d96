"""A configuration written to TOML and read back is the same, whatever its values."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlcore.options import parse_run, run_from_toml, run_to_toml
from mlcore.options.engine import EvaluationOptions, SamplingOptions, TrainingOptions

LENGTHS = st.floats(min_value=1e-6, max_value=1e9)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# Paths that a user gives are kept absolute, and an optional text is never the word "none".
PATHS = st.builds(lambda name: Path("/") / name.replace("\0", ""), TEXT)
TOWN = {
    "root": st.none() | PATHS,
    "limit": st.none() | st.integers(-(2**63), 2**63 - 1),
    "split": st.sampled_from(["train", "none", 3]),
    "conditions": st.lists(TEXT, max_size=3).map(tuple),
    "size_px": st.tuples(st.integers(0, 999), st.integers(0, 999)),
    "label": st.none() | TEXT.filter(lambda text: text != "none"),
    "places": TEXT,
    "shift": FLOATS,
}
SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def configurations(draw, registry):
    from dataclasses import replace

    loss = draw(st.sampled_from(["soft", "triplet", "contrastive", "proxy"]))
    config = parse_run(["--loss", loss], registry)
    options = {name: draw(values) for name, values in TOWN.items()}
    return replace(
        config,
        seed=draw(st.integers(0, 2**63 - 1)),
        dataset=replace(config.dataset, options=replace(config.dataset.options, **options)),
        sampling=SamplingOptions(near_radius_m=draw(LENGTHS), far_radius_m=draw(LENGTHS)),
        training=TrainingOptions(
            augment=draw(st.booleans()), schedule=draw(st.sampled_from(["cosine", "constant"]))
        ),
        evaluation=EvaluationOptions(
            thresholds_m=tuple(draw(st.lists(LENGTHS, max_size=3))),
            recall_at=(draw(st.integers(1, 9)),),
        ),
    )


@SETTINGS
@given(data=st.data())
def test_toml_round_trip(registry, tmp_path, data):
    config = data.draw(configurations(registry))
    path = tmp_path / "config.toml"
    path.write_text(run_to_toml(config), encoding="utf-8")
    assert run_from_toml(path, registry) == config


@SETTINGS
@given(label=TEXT.filter(lambda text: text != "none"), places=TEXT, shift=FLOATS)
@example(label="[]", places="1.0", shift=0.0)
@example(label="null", places='"', shift=0.0)
def test_command_line_texts_arrive_as_they_are(registry, label, places, shift):
    argv = [
        f"--dataset.label={label}",
        f"--dataset.places={places}",
        f"--dataset.shift={shift}",
    ]
    options = parse_run(argv, registry).dataset.options
    assert (options.label, options.places, options.shift) == (label, places, shift)
