"""Values that fit a JSON schema: made from nothing, or made to fit.

Covers what OpenAI's structured output allows: object, array, string, number, integer, boolean, null, enum, const, anyOf,
$ref/$defs and the usual bounds.
"""

from typing import Any

from services.simulator.chance import Chance

Schema = dict[str, Any]

_MAXIMUM_DEPTH = 12
_TYPE_OF = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
}


def _resolve(schema: Schema, root: Schema) -> Schema:
    """Follow `$ref` within the schema (`#/…` only), as far as it leads."""
    for _ in range(_MAXIMUM_DEPTH):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            break
        target: Any = root
        for part in reference.lstrip("#").strip("/").split("/"):
            if part:
                target = target.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(target, dict) else {}
        schema = target if isinstance(target, dict) else {}
    if "allOf" in schema:
        merged: Schema = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            for key, value in _resolve(part, root).items():
                if key in ("properties", "$defs") and isinstance(merged.get(key), dict):
                    merged[key] = {**merged[key], **value}
                elif key == "required":
                    merged[key] = [*merged.get(key, []), *value]
                else:
                    merged.setdefault(key, value)
        return merged
    return schema


def _alternatives(schema: Schema) -> list[Schema]:
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return [{**schema, "type": kind} for kind in kinds]
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return list(schema[key])
    return []


def _kind(schema: Schema) -> str:
    if isinstance(schema.get("type"), str):
        return str(schema["type"])
    if "properties" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "string"


def make_value(schema: Schema, words: list[str], chance: Chance) -> Any:
    """A value that fits the schema, its texts made of `words`."""
    return _make(schema, schema, words, chance, 0)


def _make(schema: Schema, root: Schema, words: list[str], chance: Chance, depth: int) -> Any:
    schema = _resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return chance.choice(schema["enum"])
    alternatives = _alternatives(schema)
    if alternatives:
        # A schema that contains itself ends only where null, or another plain type, is chosen.
        plain = [one for one in alternatives if _kind(_resolve(one, root)) not in ("object", "array")]
        pool = plain if depth >= _MAXIMUM_DEPTH // 2 and plain else alternatives
        return _make(chance.choice(pool), root, words, chance, depth + 1)
    kind = _kind(schema)
    if kind == "object":
        properties = schema.get("properties", {})
        names = properties if depth < _MAXIMUM_DEPTH else [n for n in properties if n in schema.get("required", [])]
        return {name: _make(properties[name], root, words, chance, depth + 1) for name in names}
    if kind == "array":
        least = int(schema.get("minItems", 0))
        most = int(schema.get("maxItems", max(least, 3)))
        count = least if depth >= _MAXIMUM_DEPTH // 2 else chance.randint(max(least, min(1, most)), max(least, most))
        prefix = schema.get("prefixItems", [])
        items = schema.get("items", {})
        return [
            _make(
                prefix[i] if i < len(prefix) else items if isinstance(items, dict) else {},
                root,
                words,
                chance,
                depth + 1,
            )
            for i in range(count)
        ]
    if kind in ("integer", "number"):
        return _number(schema, kind, chance)
    if kind == "boolean":
        return chance.random() < 0.5
    if kind == "null":
        return None
    text = " ".join(chance.sample(words, min(len(words), chance.randint(2, 6)))) or "simulated"
    least = int(schema.get("minLength", 0))
    while len(text) < least:
        text += " " + (chance.choice(words) if words else "simulated")
    return text[: int(schema.get("maxLength", len(text)))]


def _number(schema: Schema, kind: str, chance: Chance) -> int | float:
    low = schema.get("minimum")
    high = schema.get("maximum")
    if low is None and "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + (1 if kind == "integer" else 0.5)
    if high is None and "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - (1 if kind == "integer" else 0.5)
    if low is None:
        low = 0 if high is None else high - 10
    if high is None:
        high = low + 10
    if kind == "integer":
        value = chance.randint(int(low), max(int(low), int(high)))
        step = schema.get("multipleOf")
        return value - value % step if step and value - value % step >= low else value
    return round(chance.uniform(low, high), 3) if high - low > 0.01 else float(low)


def fit_value(value: Any, schema: Schema, words: list[str], chance: Chance) -> Any:
    """`value` made to fit the schema: what fits is kept, what is missing is made, what is not allowed is left out."""
    return _fit(value, schema, schema, words, chance, 0)


def _fit(value: Any, schema: Schema, root: Schema, words: list[str], chance: Chance, depth: int) -> Any:
    schema = _resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return value if value in schema["enum"] else _make(schema, root, words, chance, depth)
    alternatives = _alternatives(schema)
    if alternatives:
        chosen = next((one for one in alternatives if _matches(value, _resolve(one, root))), None)
        if chosen is None:
            return _make(schema, root, words, chance, depth)
        return _fit(value, chosen, root, words, chance, depth + 1)
    if not _matches(value, schema):
        return _make(schema, root, words, chance, depth)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        fitted = {
            name: _fit(value[name], part, root, words, chance, depth + 1)
            for name, part in properties.items()
            if name in value
        }
        if schema.get("additionalProperties") is not False:
            fitted.update({name: part for name, part in value.items() if name not in properties})
        for name in schema.get("required", []):
            if name not in fitted:
                fitted[name] = _make(properties.get(name, {}), root, words, chance, depth + 1)
        return fitted
    if isinstance(value, list):
        items = schema.get("items", {})
        result = [_fit(one, items, root, words, chance, depth + 1) if items else one for one in value]
        result = result[: int(schema.get("maxItems", len(result)))]
        while len(result) < int(schema.get("minItems", 0)):
            result.append(_make(items, root, words, chance, depth + 1))
        return result
    if isinstance(value, str):
        if len(value) < int(schema.get("minLength", 0)):
            return _make(schema, root, words, chance, depth)
        return value[: int(schema.get("maxLength", len(value)))]
    if isinstance(value, int | float) and not isinstance(value, bool) and not _within_bounds(value, schema):
        return _make(schema, root, words, chance, depth)
    return value


def _within_bounds(value: float, schema: Schema) -> bool:
    infinity = float("inf")
    return bool(
        schema.get("minimum", -infinity) <= value <= schema.get("maximum", infinity)
        and schema.get("exclusiveMinimum", -infinity) < value < schema.get("exclusiveMaximum", infinity)
        and not ("multipleOf" in schema and value % schema["multipleOf"])
    )


def _matches(value: Any, schema: Schema) -> bool:
    """Whether the value is of the schema's type, looking no deeper."""
    kind = _kind(schema) if ("type" in schema or "properties" in schema or "items" in schema) else None
    if kind is None:
        return True
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, _TYPE_OF.get(kind, str))
