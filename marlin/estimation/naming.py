"""From a model's name to its size: exact, alias, decorated name, family, size in the name, class.

Names reach Marlin through gateways and clouds that decorate them: routes (`bedrock/us.anthropic.`),
dates (`-2024-08-06`), versions (`-v2:0`), deployments (`:free`), quantisation (`-fp8`). Both the
catalogue and the name asked for are brought to one key, and decorations are taken off one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from marlin.errors import EstimationError
from marlin.estimation.catalogue import ModelSpec
from marlin.estimation.factorset import FactorSet
from marlin.estimation.hardware import Precision

__all__ = ["LONGEST_NAME", "ModelFinder", "model_key"]

LONGEST_NAME = 256
"""Characters of a name that are looked at; contracts allow no more."""

_ROUTE = re.compile(
    r"^(?:(?:us|eu|apac|ap|jp|au|ca|global|us-gov)\.)?"
    r"(?:anthropic|meta|amazon|mistral|cohere|ai21|deepseek|qwen|openai|google|nvidia|minimax"
    r"|moonshot|moonshotai|writer|zai)\.(?=[a-z])"
)
_DECORATION = re.compile(
    r"-(?:20\d{2}-\d{2}-\d{2}|20\d{6}|\d{2}-20\d{2}|\d{2}-\d{2}|\d{4}|\d{3}|v-?\d+(?:-\d+)?|latest"
    r"|preview|exp|experimental|beta|free|instruct|chat|it|hf|base|thinking|reasoning|turbo"
    r"|versatile|instant|online|nitro|floor|extended|fast|maas|sft|dpo|high|medium|low|gguf|mlx"
    r"|block|dynamic|quantized|default|tee|lora|finetuned|ft"
    r"|(?P<precision>bf-?16|fp-?16|fp-?8|int-?8|int-?4|awq|gptq|nvfp-?4|mxfp-?4|fp-?4))$"
)
_MOE = re.compile(r"(?<![0-9.])(\d+(?:\.\d+)?)b-a-?(\d+(?:\.\d+)?)b(?![a-z0-9])")
_EXPERTS = re.compile(r"(?<![0-9.])(\d+)x-?(\d+(?:\.\d+)?)b(?![a-z0-9])")
_PLAIN = re.compile(r"(?<![0-9.])(\d+(?:\.\d+)?)b(?![a-z0-9])")


def model_key(name: str) -> str:
    """The one spelling under which a model is looked up.

    Lower case, without route and deployment suffix; separators become hyphens, and a hyphen stands
    between a word and the number after it: `meta.llama3-1-70b-instruct-v1:0` and
    `Llama-3.1-70B-Instruct-v1` are the same.
    """
    text = name.strip().lower()[:LONGEST_NAME]
    if text.startswith("ft:"):
        text = text[3:]
    text = text.rsplit("/", 1)[-1]
    text = _ROUTE.sub("", text)
    # Ollama names the size after a colon (llama3.1:70b); elsewhere it starts a deployment suffix.
    text = re.sub(r":(?!\d+(?:\.\d+)?b\b).*$", "", text)
    text = re.sub(r"(?<=\d)p(?=\d)", "-", text)
    # The point in a size (1.5b) is no separator.
    text = re.sub(r"\.(?!\d+b(?![a-z0-9]))|[\s_:@()]", "-", text)
    text = re.sub(r"(?<=[a-z])(?=\d)", "-", text)
    text = re.sub(r"^llama-v-", "llama-", text)
    text = re.sub(r"^(?:meta|nvidia|ai-21|c-4-ai|models)-(?=[a-z])", "", text)
    return re.sub(r"-{2,}", "-", text).strip("-")


class ModelFinder:
    """Resolves model names against one factor set. Holds no cache."""

    def __init__(self, factor_set: FactorSet) -> None:
        self._unknown = factor_set.models["unknown"]
        self._by_key: dict[str, ModelSpec] = {}
        for spec in factor_set.models.values():
            for name in (spec.name, *spec.aliases):
                for key in _undecorated(model_key(name)):
                    self._add(key.text, spec, exact=key.text == model_key(name))
        self._by_key.pop("unknown", None)

    def _add(self, key: str, spec: ModelSpec, *, exact: bool) -> None:
        """Register a key. Exact names win over undecorated ones; two exact owners are an error."""
        owner = self._by_key.get(key)
        if owner is None or owner is spec:
            self._by_key[key] = spec
            return
        owners = {model_key(name) for name in (owner.name, *owner.aliases)}
        if exact and key in owners:
            raise EstimationError(
                f"models {owner.name} and {spec.name} share the name {key!r}; the file is refused"
            )
        if exact:
            self._by_key[key] = spec

    def find(self, name: str) -> tuple[ModelSpec, tuple[str, ...]]:
        """The model that `name` means, with codes for what was assumed; never raises."""
        key = model_key(name)
        for stripped in _undecorated(key):
            if spec := self._by_key.get(stripped.text):
                return _at_precision(spec, stripped.precision), _kind_codes(spec)
        sized = _sized(key)
        if family := self._family(key, sized):
            return family, ("model_unknown", "model_family", *_kind_codes(family))
        if sized is not None:
            return sized, ("model_unknown", "model_size_from_name")
        return self._unknown, ("model_unknown", "model_class")

    def _family(self, key: str, sized: ModelSpec | None) -> ModelSpec | None:
        """The longest catalogued name that starts `key`, or ends it after a tuner's own words.

        Where the name tells a size, the family member must tell the same one.
        """
        words = key.split("-")
        # A one-word end (`-mini`, `-70b`) says too little; a one-word start is a family.
        starts = ["-".join(words[:end]) for end in range(len(words) - 1, 0, -1)]
        ends = ["-".join(words[start:]) for start in range(1, len(words) - 1)]
        for part in (*starts, *ends):
            for stripped in _undecorated(part):
                spec = self._by_key.get(stripped.text)
                if spec is not None and _same_size(spec, sized):
                    return _at_precision(spec, stripped.precision)
        return None


class _Stripped:
    __slots__ = ("precision", "text")

    def __init__(self, text: str, precision: str | None) -> None:
        self.text = text
        self.precision = precision


def _undecorated(key: str) -> Iterator[_Stripped]:
    """`key`, then `key` without its last decoration, and so on; the precision seen so far."""
    precision = None
    while True:
        yield _Stripped(key, precision)
        match = _DECORATION.search(key)
        if match is None or match.start() == 0:
            return
        precision = match["precision"] or precision
        key = key[: match.start()]


def _at_precision(spec: ModelSpec, precision: str | None) -> ModelSpec:
    if precision is None:
        return spec
    named = Precision.named(precision.replace("-", ""))
    return spec if named is None else replace(spec, precision=named.name)


def _sized(key: str) -> ModelSpec | None:
    """A model made of the size that its name tells, or None."""
    if match := _EXPERTS.search(key):
        # Attention is shared: eight experts of 7B store 47B, and two of them use 13B.
        count, each = int(match[1]), float(match[2])
        total, active = 0.83 * count * each, 1.85 * each
    elif match := _MOE.search(key):
        total, active = float(match[1]), float(match[2])
    elif match := _PLAIN.search(key):
        total = active = float(match[1])
    else:
        return None
    if not 0.01 <= active <= total <= 20_000:
        return None
    return ModelSpec(name=key, active_params_b=active, total_params_b=total, kind="class")


def _same_size(spec: ModelSpec, sized: ModelSpec | None) -> bool:
    return sized is None or abs(spec.total_b / sized.total_b - 1) < 0.15


def _kind_codes(spec: ModelSpec) -> tuple[str, ...]:
    return {"closed": ("parameters_undisclosed",), "class": ("model_class",)}.get(spec.kind, ())
