"""Models: what the equations need to know of one, and how a row of `models.csv` becomes that."""

from __future__ import annotations

from dataclasses import dataclass

from marlin.errors import EstimationError
from marlin.estimation.hardware import Precision
from marlin.estimation.tables import Citation, Row

__all__ = ["ModelSpec", "parse_model"]

_OWN = Citation("given by the caller", "now", "own", "user")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model's size and shape. Only `active_params_b` is required; the rest is derived from it.

    Raises EstimationError where sizes contradict each other.
    """

    name: str = "custom"
    active_params_b: float
    """Parameters used per token [10^9]."""
    total_params_b: float | None = None
    """Parameters stored [10^9]; None means dense, as many as are active."""
    params_low: float = 1.0
    """Low end of the size over its central value [1]; 1 where the size is published."""
    params_high: float = 1.0
    precision: str = "bf16"
    """Weight precision it is usually served at."""
    layers: float | None = None
    """Blocks that run one after the other [count]. None: by a power law of the size."""
    kv_elements: float | None = None
    """Numbers kept per token of context, over all layers [count]: 2 x attention layers x KV heads x
    head size, or the latent's width x layers (MLA). None: by a power law of the size."""
    attention_width: float | None = None
    """Sum over attention layers of heads x head size [count]. None: four times `kv_elements`, as in
    models with eight heads to a KV head."""
    state_elements: float = 0.0
    """Recurrent state per sequence (Mamba) [count]."""
    expert_share: float | None = None
    """Routed experts used per token over those stored [1]; None: from the two sizes."""
    context_tokens: int | None = None
    vendor: str = ""
    kind: str = "open"
    """`open` (published size), `closed` (undisclosed, a size class) or `class` (generic)."""
    status: str = "active"
    aliases: tuple[str, ...] = ()
    citation: Citation = _OWN
    note: str = ""

    def __post_init__(self) -> None:
        total = self.total_b
        if not 0 < self.active_params_b <= total < float("inf"):
            raise EstimationError(
                f"model {self.name}: expected 0 < active ({self.active_params_b:g}) <= total "
                f"({total:g}) billion parameters"
            )
        if not 0 < self.params_low <= 1 <= self.params_high < float("inf"):
            raise EstimationError(
                f"model {self.name}: expected params_low ({self.params_low:g}) <= 1 <= params_high "
                f"({self.params_high:g})"
            )
        if Precision.named(self.precision) is None:
            raise EstimationError(f"model {self.name}: precision {self.precision!r} is not known")

    @property
    def total_b(self) -> float:
        """Parameters stored [10^9]."""
        return self.active_params_b if self.total_params_b is None else self.total_params_b

    @property
    def is_moe(self) -> bool:
        """Whether only a part of the parameters is used per token."""
        return self.total_b > self.active_params_b * 1.001


def parse_model(row: Row) -> ModelSpec:
    """A row of `models.csv`; raises EstimationError where it is unfit.

    `kv_elements` is derived from the layers, KV heads and head size unless given (MLA).
    """
    layers = row.optional_number("layers")
    attention_layers = row.optional_number("attention_layers")
    if attention_layers is None:
        attention_layers = layers
    heads = row.optional_number("heads")
    kv_heads = row.optional_number("kv_heads")
    head_dim = row.optional_number("head_dim")
    kv_elements = row.optional_number("kv_elements")
    width = None
    if attention_layers is not None and heads is not None and head_dim is not None:
        width = attention_layers * heads * head_dim
        if kv_elements is None and kv_heads is not None:
            kv_elements = 2 * attention_layers * kv_heads * head_dim
    context = row.optional_number("context_tokens")
    return ModelSpec(
        name=row.text("id"),
        active_params_b=row.number("active_params_b", above=1e-6),
        total_params_b=row.number("total_params_b", above=1e-6),
        params_low=row.number("params_low", 1.0),
        params_high=row.number("params_high", 1.0),
        precision=row.text("precision"),
        layers=layers,
        kv_elements=kv_elements,
        attention_width=width,
        state_elements=row.number("state_elements", 0.0),
        expert_share=row.optional_number("expert_share"),
        context_tokens=None if context is None else int(context),
        vendor=row.text("vendor"),
        kind=row.text("kind"),
        status=row.text("status"),
        aliases=row.names("aliases"),
        citation=row.citation(),
        note=row.optional_text("note"),
    )
