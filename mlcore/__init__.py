"""mlcore: train image embeddings against geometry instead of class labels.

What a plugin author needs is importable from here and costs no import of torch.
"""

from mlcore.errors import (
    ConfigError,
    DataError,
    MissingLibraryError,
    MlcoreError,
    NonFiniteLossError,
    PluginError,
    UnknownNameError,
    require_library,
)
from mlcore.factories import (
    BackboneFactory,
    BuildContext,
    DatasetFactory,
    Finding,
    InfluenceFactory,
    LossFactory,
    MinerFactory,
    ModelFactory,
    PoolingFactory,
    Report,
    SamplingRadii,
    Weights,
)
from mlcore.hookspecs import HOOK_API_VERSION, hookimpl
from mlcore.protocols import (
    Batch,
    DeviceCode,
    Features,
    FeatureShape,
    LossOutput,
    Pairs,
    PlaceTable,
    Role,
    Split,
    Triplets,
)

__version__ = "0.1.0"

__all__ = [
    "HOOK_API_VERSION",
    "BackboneFactory",
    "Batch",
    "BuildContext",
    "ConfigError",
    "DataError",
    "DatasetFactory",
    "DeviceCode",
    "FeatureShape",
    "Features",
    "Finding",
    "InfluenceFactory",
    "LossFactory",
    "LossOutput",
    "MinerFactory",
    "MissingLibraryError",
    "MlcoreError",
    "ModelFactory",
    "NonFiniteLossError",
    "Pairs",
    "PlaceTable",
    "PluginError",
    "PoolingFactory",
    "Report",
    "Role",
    "SamplingRadii",
    "Split",
    "Triplets",
    "UnknownNameError",
    "Weights",
    "hookimpl",
    "require_library",
]
