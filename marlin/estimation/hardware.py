"""Accelerators and operating points: what a model runs on, and how loaded it is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from marlin.errors import EstimationError
from marlin.estimation.tables import Citation, Row

__all__ = ["Accelerator", "OperatingPoint", "Precision", "find_accelerator", "parse_accelerator"]


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One accelerator: data-sheet values, dense rates."""

    name: str
    memory_gb: float
    bandwidth_gb_s: float
    tflops_16: float
    tflops_8: float
    tflops_4: float
    tdp_w: float
    aliases: tuple[str, ...]
    citation: Citation

    def flops(self, precision: Precision) -> float:
        """Peak dense rate [FLOP/s] when weights are of `precision`."""
        tera = {16: self.tflops_16, 8: self.tflops_8, 4: self.tflops_4}[precision.compute_bits]
        return tera * 1e12


@dataclass(frozen=True, slots=True)
class Precision:
    """How weights are stored and multiplied."""

    name: str
    bytes_per_parameter: float
    """Weight bytes with their scales [B/parameter]."""
    compute_bits: int
    """Width of the multiplication units used: 16, 8 or 4."""

    @classmethod
    def named(cls, name: str) -> Precision | None:
        """The precision that `name` means (`bfloat16`, `FP8`, `mxfp4`, …), None where unknown."""
        return _PRECISIONS.get(_ALIASES.get(key := name.strip().lower().replace("-", "_"), key))


_PRECISIONS = {
    "fp32": Precision("fp32", 4.0, 16),
    "bf16": Precision("bf16", 2.0, 16),
    "fp8": Precision("fp8", 1.0, 8),
    # 4-bit weights with one 8-bit scale for 16 to 32 of them; weight-only kernels multiply in 16.
    "int4": Precision("int4", 0.55, 16),
    "fp4": Precision("fp4", 0.55, 4),
}
_ALIASES = {
    "float32": "fp32",
    "bfloat16": "bf16",
    "float16": "bf16",
    "fp16": "bf16",
    "half": "bf16",
    "16": "bf16",
    "float8": "fp8",
    "fp8_e4m3": "fp8",
    "w8a8": "fp8",
    "int8": "fp8",
    "8": "fp8",
    "mxfp4": "fp4",
    "nvfp4": "fp4",
    "float4": "fp4",
    "4": "fp4",
    "awq": "int4",
    "gptq": "int4",
    "w4a16": "int4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """What is known of how a call was served; None means unknown and is assumed, with a code.

    Raises EstimationError where a given number is not positive.
    """

    hardware: str | None = None
    """Accelerator name, for instance `H100`."""
    gpus: int | None = None
    """Accelerators that share one copy of the model [count]."""
    batch: float | None = None
    """Sequences decoded together, on average [count]."""
    precision: str | None = None
    """Weight precision, for instance `bf16`, `fp8`, `fp4`."""

    def __post_init__(self) -> None:
        for name, value in (("gpus", self.gpus), ("batch", self.batch)):
            if value is not None and not 0 < value < float("inf"):
                raise EstimationError(
                    f"operating point: {name} is {value}, expected a positive number"
                )


def parse_accelerator(row: Row) -> Accelerator:
    """A row of `hardware.csv`; raises EstimationError where it is unfit."""
    return Accelerator(
        name=row.text("name"),
        memory_gb=row.number("memory_gb", above=1e-9),
        bandwidth_gb_s=row.number("bandwidth_gb_s", above=1e-9),
        tflops_16=row.number("tflops_16", above=1e-9),
        tflops_8=row.number("tflops_8", above=1e-9),
        tflops_4=row.number("tflops_4", above=1e-9),
        tdp_w=row.number("tdp_w", above=1e-9),
        aliases=row.names("aliases"),
        citation=row.citation(),
    )


def find_accelerator(name: str, known: dict[str, Accelerator]) -> Accelerator | None:
    """The accelerator that a free text names (`8x A100 node`, `gb200 dynamo-trt`), or None.

    The longest name or alias that stands in the text as a word of its own wins, so `gb200` is not
    taken for `b200`.
    """
    text = name.lower()
    found: tuple[int, Accelerator] | None = None
    for accelerator in known.values():
        for alias in (accelerator.name.lower(), *accelerator.aliases):
            if (found is None or len(alias) > found[0]) and re.search(
                rf"(?<![a-z0-9]){re.escape(alias)}(?![a-z0-9])", text
            ):
                found = (len(alias), accelerator)
    return None if found is None else found[1]
