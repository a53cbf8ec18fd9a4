"""The typed configuration of a recipe: yaml with only the differences, plus overrides, to checked dataclasses.

Nothing here imports torch: a stage that has nothing to do must be able to say so at once.
"""

from system.config.loading import check_systems, load, save
from system.config.schema import (
    EMBED_PRECISIONS,
    POOLS,
    VIEWS,
    AugmentConfig,
    BenchmarkConfig,
    BranchConfig,
    Config,
    DataConfig,
    EmbedConfig,
    EncoderConfig,
    EvaluateConfig,
    HeadConfig,
    LoraConfig,
    ScorerConfig,
    SystemConfig,
)
from system.config.training import (
    PRECISIONS,
    DecoderConfig,
    LoopConfig,
    MaskConfig,
    PretrainConfig,
    ProbeConfig,
    SourceConfig,
    TargetConfig,
)

__all__ = [
    "EMBED_PRECISIONS",
    "POOLS",
    "PRECISIONS",
    "VIEWS",
    "AugmentConfig",
    "BenchmarkConfig",
    "BranchConfig",
    "Config",
    "DataConfig",
    "DecoderConfig",
    "EmbedConfig",
    "EncoderConfig",
    "EvaluateConfig",
    "HeadConfig",
    "LoopConfig",
    "LoraConfig",
    "MaskConfig",
    "PretrainConfig",
    "ProbeConfig",
    "ScorerConfig",
    "SourceConfig",
    "SystemConfig",
    "TargetConfig",
    "check_systems",
    "load",
    "save",
]
