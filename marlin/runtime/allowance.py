"""What a run may still start: its budget, less what is spent and what is under way. Pure."""

from __future__ import annotations

__all__ = ["Allowance"]


class Allowance:
    """Grams that calls under way have reserved, beside a budget. Not thread-safe.

    While every call takes what it reserved, spent and reserved together never exceed the budget,
    however many are under way; by as much as calls take more than they reserved, they may.
    """

    __slots__ = ("_calls", "budget_g", "reserved_g")

    def __init__(self, budget_g: float | None) -> None:
        self.budget_g = budget_g
        """The budget [gCO2e]; None where everything fits."""
        self.reserved_g = 0.0
        """Reserved by calls under way [gCO2e]."""
        self._calls = 0

    def fits(self, spent_g: float, call_g: float) -> bool:
        """Whether a call of `call_g` may start. Filling the budget exactly is within it."""
        return self.budget_g is None or spent_g + self.reserved_g + call_g <= self.budget_g

    def reserve(self, call_g: float) -> None:
        """A call starts."""
        self._calls += 1
        self.reserved_g += call_g

    def give_back(self, call_g: float) -> None:
        """A call that reserved `call_g` is over. Called once for each `reserve`."""
        self._calls -= 1
        # Floats do not add up and down to zero: without calls there is nothing left, exactly.
        self.reserved_g = self.reserved_g - call_g if self._calls else 0.0
