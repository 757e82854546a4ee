"""A user's own factors: what they change, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from marlin.errors import EstimationError
from marlin.estimation import Estimator, load_factor_set, shipped_factor_set
from marlin.estimation.overrides import overlay

CITED = 'source = "Our meters"\ndate = "2026-05"\nlicence = "own"\n'
OWN = f"""
[factors.host_overhead]
value = 1.3
low = 1.2
high = 1.5
unit = "1"
{CITED}
[models.acme-chat-34b]
active_params_b = 34
aliases = ["acme/chat-34b-v1"]
{CITED}
[hardware.MI355X]
memory_gb = 192
bandwidth_gb_s = 5300
tflops_16 = 1307
tflops_8 = 2615
tflops_4 = 2615
tdp_w = 750
{CITED}
[regions."onprem:berlin"]
location = "Berlin"
country = "DEU"
zone = "DE"
{CITED}
[[places]]
scope = "region"
key = "onprem:berlin"
quantity = "pue"
value = 1.31
unit = "1"
basis = "annual"
{CITED}
"""


def test_own_rows_stand_over_the_shipped_ones(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    own = load_factor_set(path)
    shipped = shipped_factor_set()
    assert own.value("host_overhead") == 1.3
    assert own.factor("host_overhead").citation.tier == "user"
    assert own.models["acme-chat-34b"].total_b == 34
    assert len(own.models) == len(shipped.models) + 1
    assert own.value("memory_headroom") == shipped.value("memory_headroom")

    one = Estimator(own).compile("acme/chat-34b-v1", region="onprem:berlin")
    assert "model_unknown" not in one.codes
    assert one.gpu_share == pytest.approx(1 / (1.3 * 1.31))
    assert one.intensity_g_per_kwh == 370.93
    assert one.factors == own.version


def test_the_version_names_the_files_content() -> None:
    shipped = shipped_factor_set()
    first, second = overlay(shipped, OWN, "a"), overlay(shipped, OWN + "\n# note\n", "a")
    assert first.version.startswith(f"{shipped.version}+")
    assert first.version != second.version
    assert first.version == overlay(shipped, OWN, "elsewhere").version


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("not toml", "not TOML"),
        ("[grids.x]\nvalue = 1\n", "table 'grids' is not known"),
        ("factors = 3\n", "factors is no table"),
        ("[factors]\nhost_overhead = 3\n", "expected a table of fields"),
        (f'[factors.host_overhead]\nvalue = 1\nunit = "1"\nvalu = 2\n{CITED}', "field 'valu'"),
        (f'[factors.host_overhead]\nvalue = -1\nunit = "1"\n{CITED}', "field 'value'"),
        (f'[factors.host_overhead]\nvalue = 1\nunit = "kWh"\n{CITED}', "is in 'kWh', expected '1'"),
        (f'[factors.hots_overhead]\nvalue = 1\nunit = "1"\n{CITED}', "no factor 'hots_overhead'"),
        ('[factors.host_overhead]\nvalue = 1\nunit = "1"\n', "'source' is empty"),
        (f"[models.m]\n{CITED}", "active_params_b"),
        (f"[models.m]\nactive_params_b = 3\ntotal_params_b = 2\n{CITED}", "0 < active"),
        (f'[regions."x:y"]\ncountry = "DEU"\n{CITED}', "'location' is empty"),
        (f'[[places]]\nscope = "region"\n{CITED}', "'key' is empty"),
        (f"[hardware.H100]\nmemory_gb = 80\n{CITED}", "bandwidth_gb_s"),
    ],
)
def test_unfit_files_are_refused_whole(text: str, match: str) -> None:
    with pytest.raises(EstimationError, match=match):
        overlay(shipped_factor_set(), text, "own.toml")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "own.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EstimationError, match="cannot be read"):
        load_factor_set(path)
