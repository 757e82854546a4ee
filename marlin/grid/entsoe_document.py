"""A generation document of ENTSO-E (IEC 62325-451-6 `GL_MarketDocument`), read strictly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from xml.etree.ElementTree import Element, ParseError

from marlin.errors import ConfigurationError, GridDataError
from marlin.grid.readings import instant, number

__all__ = ["Series", "parse_generation"]

_RESOLUTIONS = {
    "PT15M": timedelta(minutes=15),
    "PT30M": timedelta(minutes=30),
    "PT60M": timedelta(minutes=60),
    "PT1H": timedelta(minutes=60),
}
_NO_DATA: Final = "999"
"""Reason code of an acknowledgement: nothing matches the question."""
_CARRIED_FORWARD: Final = "A03"
"""Curve type that leaves out points equal to the one before."""
_LONGEST_PERIOD: Final = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Series:
    """The power of one production type, from one period of a time series."""

    production_type: str
    """Such as `B04`."""
    interval: timedelta
    power_mw: dict[datetime, float]
    """Mean power [MW] of the interval that starts there (UTC)."""


def parse_generation(body: bytes, area: str, *, provider: str) -> list[Series]:
    """The generation in a document; empty where it says that there is no such data.

    Series of consumption (pumping) are left out. Raises GridDataError for anything else than such
    a document of `area`, and for one with entities or external references.
    """
    root = _parsed(body, provider)
    if _tag(root) == "Acknowledgement_MarketDocument":
        code, text = _text(root, "Reason", "code"), _text(root, "Reason", "text")
        if code == _NO_DATA:
            return []
        raise _unfit(provider, f"generation was expected, got the refusal {code}: {text!r}")
    if _tag(root) != "GL_MarketDocument":
        raise _unfit(provider, f"a GL_MarketDocument was expected, got {_tag(root)!r}")
    found: list[Series] = []
    for series in _children(root, "TimeSeries"):
        if _text(series, "outBiddingZone_Domain.mRID") is None:
            found += _generation(series, area, provider)
    return found


def _generation(series: Element, area: str, provider: str) -> Iterator[Series]:
    for name, expected in (
        ("inBiddingZone_Domain.mRID", area),
        ("quantity_Measure_Unit.name", "MAW"),
    ):
        if (told := _text(series, name)) != expected:
            raise _unfit(provider, f"{name} {expected} was expected, got {told!r}")
    production_type = _text(series, "MktPSRType", "psrType")
    if not production_type:
        raise _unfit(provider, "a psrType was expected in each TimeSeries")
    carried = _text(series, "curveType") == _CARRIED_FORWARD
    for period in _children(series, "Period"):
        interval, power_mw = _points(period, carried, provider)
        yield Series(production_type, interval, power_mw)


def _points(
    period: Element, carried: bool, provider: str
) -> tuple[timedelta, dict[datetime, float]]:
    resolution = _text(period, "resolution")
    interval = _RESOLUTIONS.get(resolution or "")
    if interval is None:
        raise _unfit(
            provider, f"a resolution of {', '.join(_RESOLUTIONS)} was expected, got {resolution!r}"
        )
    start = instant(_text(period, "timeInterval", "start"), provider=provider)
    end = instant(_text(period, "timeInterval", "end"), provider=provider)
    if not timedelta(0) < end - start <= _LONGEST_PERIOD:
        raise _unfit(provider, f"a period of up to {_LONGEST_PERIOD.days} days was expected")
    count = (end - start) // interval
    given: dict[int, float] = {}
    for point in _children(period, "Point"):
        position = number(_text(point, "position"), provider=provider)
        quantity = number(_text(point, "quantity"), provider=provider)
        if position is None or not 1 <= position <= count:
            raise _unfit(provider, f"a position of 1 to {count} was expected, got {position}")
        if quantity is not None:
            given[int(position)] = quantity
    power_mw: dict[datetime, float] = {}
    last: float | None = None
    for position in range(1, count + 1):
        if position in given or not carried:
            last = given.get(position)
        if last is not None:
            power_mw[start + (position - 1) * interval] = last
    return interval, power_mw


def _parsed(body: bytes, provider: str) -> Element:
    try:
        from defusedxml import DefusedXmlException
        from defusedxml.ElementTree import fromstring
    except ImportError as exc:
        raise ConfigurationError(
            "ENTSO-E needs defusedxml, which is not installed; pip install 'marlin-carbon[grid]', "
            "or take entsoe out of MARLIN_GRID__PROVIDER"
        ) from exc
    try:
        return fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as exc:
        raise _unfit(provider, f"an XML document was expected ({type(exc).__name__})") from exc


def _tag(element: Element) -> str:
    """The name without its namespace, which has the version of the schema in it."""
    return element.tag.rpartition("}")[2]


def _children(element: Element, name: str) -> Iterator[Element]:
    return (child for child in element if _tag(child) == name)


def _text(element: Element, *path: str) -> str | None:
    found: Element | None = element
    for name in path:
        found = None if found is None else next(_children(found, name), None)
    return None if found is None or found.text is None else found.text.strip()


def _unfit(provider: str, what: str) -> GridDataError:
    return GridDataError(f"{provider}: {what}; nothing of this answer is used", provider=provider)
