"""What sources call the zones of `regions.csv`. Keys are Electricity Maps zones."""

from __future__ import annotations

__all__ = ["EIA_RESPONDENTS", "ENTSOE_AREAS", "UKCI_ZONE", "WATTTIME_REGIONS"]

EIA_RESPONDENTS = {
    "US-CAL-CISO": "CISO",
    "US-CAR-SC": "SC",
    "US-MIDA-PJM": "PJM",
    "US-MIDW-MISO": "MISO",
    "US-NW-BPAT": "BPAT",
    "US-NW-GCPD": "GCPD",
    "US-NW-NEVP": "NEVP",
    "US-SW-AZPS": "AZPS",
    "US-TEX-ERCO": "ERCO",
}
"""Balancing authorities of Form EIA-930, whose codes end the names of the zones."""

ENTSOE_AREAS = {
    "BE": "10YBE----------2",
    "CH": "10YCH-SWISSGRIDZ",
    "DE": "10Y1001A1001A83F",
    "ES": "10YES-REE------0",
    "FI": "10YFI-1--------U",
    "FR": "10YFR-RTE------C",
    "IE": "10YIE-1001A00010",
    "IT-NO": "10Y1001A1001A73I",
    "NL": "10YNL----------L",
    "SE": "10YSE-1--------K",
}
"""EIC codes, from the area list of the Transparency Platform's API guide (appendix A.15) as in
EnergieID/entsoe-py `mappings.py` (MIT): the country (DE, SE), the control area (IE) or the bidding
zone. Great Britain left the platform in 2021."""

UKCI_ZONE = "GB"
"""The one zone of the UK Carbon Intensity API: Great Britain as a whole."""

WATTTIME_REGIONS = {
    "AU-NSW": "NEM_NSW",
    "BE": "BE",
    "BR-CS": "BRA",
    "CA-QC": "HQ",
    "CH": "CH",
    "DE": "DE",
    "ES": "ES",
    "FI": "FI",
    "FR": "FR",
    "GB": "UK",
    "ID": "IDN",
    "IE": "IE",
    "IL": "ISR",
    "IN-SO": "IND",
    "IN-WE": "IND",
    "IT-NO": "IT",
    "JP-KN": "JP_KN",
    "JP-TK": "JP_TK",
    "KR": "KOR",
    "NL": "NL",
    "SE": "SE",
    "SG": "SGP",
    "TW": "TWN",
    "US-CAL-CISO": "CAISO_NORTH",
    "US-CAR-SC": "SC",
    "US-MIDA-PJM": "PJM_DC",
    "US-MIDW-MISO": "MISO_MASON_CITY",
    "US-NW-BPAT": "BPA",
    "US-NW-GCPD": "BPA",
    "US-NW-NEVP": "NEVP",
    "US-SW-AZPS": "AZPS",
    "US-TEX-ERCO": "ERCOT_NORTHCENTRAL",
    "ZA": "ZAF",
}
"""WattTime regions, as Green-Software-Foundation/real-time-cloud gives them for the cloud regions
of a zone. Where a zone has several, the one in which most of its cloud regions lie."""
