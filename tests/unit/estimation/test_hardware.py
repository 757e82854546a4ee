"""Accelerators found in free text, precisions by their many names, operating points."""

from __future__ import annotations

import pytest

from marlin.errors import EstimationError
from marlin.estimation import OperatingPoint, shipped_factor_set
from marlin.estimation.hardware import Precision, find_accelerator

KNOWN = dict(shipped_factor_set().accelerators)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("H100", "H100"),
        ("H100 80GB", "H100"),
        ("8x A100-80GB node", "A100"),
        ("b200 trt dp_attn", "B200"),
        ("gb200 dynamo-trt", "GB200"),
        ("NVIDIA-H200-SXM", "H200"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("AMD MI300X", "MI300X"),
    ],
)
def test_hardware_is_found_in_free_text(text: str, name: str) -> None:
    found = find_accelerator(text, KNOWN)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("text", ["", "TPU (mix)", "H1000", "XH100", "Gaudi 3", "🦙"])
def test_unknown_hardware_is_none(text: str) -> None:
    assert find_accelerator(text, KNOWN) is None


@pytest.mark.parametrize(
    ("text", "name", "size"),
    [
        ("bfloat16", "bf16", 2.0),
        ("FP16", "bf16", 2.0),
        ("fp8", "fp8", 1.0),
        ("INT8", "fp8", 1.0),
        ("MXFP4", "fp4", 0.55),
        ("awq", "int4", 0.55),
        ("float32", "fp32", 4.0),
    ],
)
def test_precisions_by_name(text: str, name: str, size: float) -> None:
    precision = Precision.named(text)
    assert precision is not None
    assert (precision.name, precision.bytes_per_parameter) == (name, size)


def test_an_unknown_precision_is_none() -> None:
    assert Precision.named("fp3") is None


def test_weights_without_units_of_their_own_run_at_16_bit() -> None:
    int4, fp8 = Precision.named("int4"), Precision.named("fp8")
    assert int4 is not None
    assert fp8 is not None
    # An A100 has no 8-bit floating point; a 4-bit weight is widened before it is multiplied.
    assert KNOWN["A100"].flops(fp8) == KNOWN["A100"].tflops_16 * 1e12
    assert KNOWN["B200"].flops(int4) == KNOWN["B200"].tflops_16 * 1e12
    assert KNOWN["H100"].flops(fp8) == 1979e12


@pytest.mark.parametrize("batch", [0.0, -1.0, float("inf"), float("nan")])
def test_a_batch_must_be_positive(batch: float) -> None:
    with pytest.raises(EstimationError, match="batch is"):
        OperatingPoint(batch=batch)


@pytest.mark.parametrize("gpus", [0, -8])
def test_an_accelerator_count_must_be_positive(gpus: int) -> None:
    with pytest.raises(EstimationError, match="gpus is"):
        OperatingPoint(gpus=gpus)
