"""From a model's name to its size: exact, alias, decorated name, size in the name, wide class."""

from __future__ import annotations

import re

from marlin.errors import EstimationError
from marlin.estimation.catalogue import ModelSpec
from marlin.estimation.factorset import FactorSet

__all__ = ["ModelFinder"]

_DATE = re.compile(r"[-@](20\d{2}-?\d{2}-?\d{2}|\d{4}|latest|preview)(-v\d+(:\d+)?)?$")
_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)b(?:-a(\d+(?:\.\d+)?)b)?(?![a-z0-9])")
_EXPERTS = re.compile(r"(?<![a-z0-9.])(\d+)x(\d+(?:\.\d+)?)b(?![a-z0-9])")


class ModelFinder:
    """Resolves model names against one factor set. Holds no cache."""

    def __init__(self, factor_set: FactorSet) -> None:
        self._models = factor_set.models
        self._names: dict[str, ModelSpec] = {}
        for spec in factor_set.models.values():
            for name in (spec.name, *spec.aliases):
                key = normalised(name)
                other = self._names.setdefault(key, spec)
                if other is not spec:
                    raise EstimationError(
                        f"models {other.name} and {spec.name} share the name {name!r}; "
                        "the file is refused"
                    )

    def find(self, name: str) -> tuple[ModelSpec, tuple[str, ...]]:
        """The model that `name` means, with codes for what was assumed; never raises."""
        for candidate in candidates(name):
            if spec := self._names.get(candidate):
                return spec, _kind_codes(spec)
        key = normalised(name)
        if spec := self._sized(key):
            return spec, ("model_unknown", "model_size_from_name")
        return self._models["unknown"], ("model_unknown", "model_class")

    def _sized(self, key: str) -> ModelSpec | None:
        if match := _EXPERTS.search(key):
            experts, size = int(match[1]), float(match[2])
            total, active = experts * size * 0.83, size * 1.8
        elif match := _SIZE.search(key):
            total = float(match[1])
            active = float(match[2]) if match[2] else total
        else:
            return None
        if not 0.01 <= active <= total <= 20_000:
            return None
        return ModelSpec(name=key, active_params_b=active, total_params_b=total, kind="class")


def normalised(name: str) -> str:
    """Lower case without surrounding space."""
    return name.strip().lower()


def candidates(name: str) -> list[str]:
    """Names to look up, most exact first: as given, without route, without date."""
    key = normalised(name)
    found = [key]
    bare = key.rsplit("/", 1)[-1]
    found.append(bare)
    undated = bare
    while (shorter := _DATE.sub("", undated)) != undated:
        undated = shorter
        found.append(undated)
    return list(dict.fromkeys(found))


def _kind_codes(spec: ModelSpec) -> tuple[str, ...]:
    if spec.name == "unknown":
        return ("model_unknown", "model_class")
    return {
        "closed": ("parameters_undisclosed",),
        "class": ("model_class",),
    }.get(spec.kind, ())
