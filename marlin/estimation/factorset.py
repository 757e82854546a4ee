"""The factor set: every table, loaded once, named by its date and the hash of its content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from typing import TypeVar

from marlin.errors import EstimationError
from marlin.estimation.catalogue import ModelSpec, parse_model
from marlin.estimation.factors import Factor, parse_factor
from marlin.estimation.hardware import Accelerator, parse_accelerator
from marlin.estimation.places import (
    PlaceFactor,
    Region,
    parse_place_factor,
    parse_region,
)
from marlin.estimation.roofline import Roofline
from marlin.estimation.tables import Row, read_rows

__all__ = [
    "FILES",
    "RELEASED",
    "FactorSet",
    "build_factor_set",
    "columns_of",
    "shipped_factor_set",
    "shipped_texts",
]

RELEASED = "2026-11-23"
"""Date of the shipped factor set."""

FILES = ("fit.csv", "factors.csv", "hardware.csv", "models.csv", "regions.csv", "places.csv")

PlaceKey = tuple[str, str, str, str]
"""(scope, key, quantity, basis)."""

T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class FactorSet:
    """All factors of one version. Immutable: changing a factor makes another set."""

    version: str
    """`date-hash`; the same for the same content on every machine."""
    factors: Mapping[str, Factor]
    accelerators: Mapping[str, Accelerator]
    models: Mapping[str, ModelSpec]
    regions: Mapping[str, Region]
    """By `provider:region`."""
    places: Mapping[PlaceKey, PlaceFactor]

    def value(self, name: str) -> float:
        """A scalar factor's central value; raises EstimationError where there is none."""
        return self.factor(name).value

    def factor(self, name: str) -> Factor:
        """A scalar factor; raises EstimationError where there is none."""
        try:
            return self.factors[name]
        except KeyError:
            raise EstimationError(
                f"factor set {self.version} has no factor {name!r}; nothing is estimated with it"
            ) from None

    def roofline(self) -> Roofline:
        """The fitted constants."""
        return Roofline(**{field.name: self.value(field.name) for field in fields(Roofline)})


def _keyed(rows: list[Row], parse: Callable[[Row], T], key: Callable[[T], K]) -> dict[K, T]:
    table: dict[K, T] = {}
    for row in rows:
        item = parse(row)
        if key(item) in table:
            raise EstimationError(f"{row.place}: {key(item)} stands twice; the file is refused")
        table[key(item)] = item
    return table


def build_factor_set(texts: Mapping[str, str], date: str = RELEASED) -> FactorSet:
    """A factor set from the texts of `FILES`; raises EstimationError where a row is unfit."""
    digest = blake2b(digest_size=4)
    rows: dict[str, list[Row]] = {}
    for name in FILES:
        digest.update(name.encode() + b"\0" + texts[name].encode() + b"\0")
        rows[name] = list(read_rows(name, texts[name]))
    built = FactorSet(
        version=f"{date}-{digest.hexdigest()}",
        factors=_keyed([*rows["fit.csv"], *rows["factors.csv"]], parse_factor, lambda f: f.name),
        accelerators=_keyed(rows["hardware.csv"], parse_accelerator, lambda a: a.name),
        models=_keyed(rows["models.csv"], parse_model, lambda m: m.name),
        regions=_keyed(rows["regions.csv"], parse_region, lambda r: r.key),
        places=_keyed(
            rows["places.csv"],
            parse_place_factor,
            lambda p: p.identity,
        ),
    )
    built.roofline()
    return built


@lru_cache(maxsize=len(FILES))
def columns_of(name: str) -> frozenset[str]:
    """The columns of a shipped file."""
    return frozenset(shipped_texts()[name].partition("\n")[0].split(","))


@lru_cache(maxsize=1)
def shipped_texts() -> dict[str, str]:
    """The texts of the shipped files, by name."""
    data = files("marlin.estimation") / "data"
    return {name: (data / name).read_text(encoding="utf-8") for name in FILES}


@lru_cache(maxsize=1)
def shipped_factor_set() -> FactorSet:
    """The factor set this version ships; read once per process."""
    return build_factor_set(shipped_texts())
