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
    BuildContext,
    DatasetFactory,
    Finding,
    InfluenceFactory,
    LossFactory,
    MinerFactory,
    Report,
    SamplingRadii,
)
from mlcore.hookspecs import HOOK_API_VERSION, hookimpl
from mlcore.protocols import (
    Batch,
    DeviceCode,
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
    "Batch",
    "BuildContext",
    "ConfigError",
    "DataError",
    "DatasetFactory",
    "DeviceCode",
    "Finding",
    "InfluenceFactory",
    "LossFactory",
    "LossOutput",
    "MinerFactory",
    "MissingLibraryError",
    "MlcoreError",
    "NonFiniteLossError",
    "Pairs",
    "PlaceTable",
    "PluginError",
    "Report",
    "Role",
    "SamplingRadii",
    "Split",
    "Triplets",
    "UnknownNameError",
    "hookimpl",
    "require_library",
]
