"""Checks settings and tables against their JSON schemas; the first mistake becomes one line."""

from difflib import get_close_matches
from pathlib import Path

from realdeal.errors import InputError


def check(content, schema, source):
    """Raise InputError for the most telling mistake of `content` (a dict) against `schema`.

    `schema` is a dict (JSON Schema 2020-12), `source` the name that the message starts with.
    """
    # Imported late, so that the library runs without jsonschema.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(schema).iter_errors(content))
    if error is not None:
        raise InputError(f"{source}: {_describe(error)}")


def check_table(path, schema_path):
    """Raise InputError for the first bad row of a .tsv file whose missing values are `n/a`.

    `schema_path` is a YAML file with the schema of a row.
    """
    import pandas as pd
    import yaml

    schema = yaml.safe_load(Path(schema_path).read_text())
    # Only n/a is missing: an ID or diagnosis may well be called NA or None.
    table = pd.read_csv(path, sep="\t", na_values=["n/a"], keep_default_na=False)
    text = [key for key, rules in schema["properties"].items() if rules.get("type") == "string"]
    table = table.astype({key: "string" for key in text if key in table})
    for number, row in enumerate(table.to_dict("records"), 2):
        content = {key: value for key, value in row.items() if not pd.isna(value)}
        check(content, schema, f"{path}, line {number}")


def _describe(error):
    key = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", ()))
        unknown = next(name for name in error.instance if name not in known)
        close = get_close_matches(str(unknown), known, 1)
        hint = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(known)}"
        return f"unknown key '{_join(key, unknown)}'; {hint}"
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"the key '{_join(key, missing)}' is missing"
    if error.validator == "type":
        hint = ""
        if isinstance(error.instance, str) and _is_number(error.instance):
            number = float(error.instance)
            number = int(number) if number.is_integer() and number < 1e15 else number
            # YAML reads 1e-3 as text, and --config hands everything over as text
            hint = f"; it was read as text, write {number!r} in a config file"
        return f"'{key}' is {error.instance!r}, must be of type {_types(error)}{hint}"
    return f"'{key}': {error.message}"


def _join(key, name):
    return f"{key}.{name}" if key else str(name)


def _types(error):
    types = error.validator_value
    return types if isinstance(types, str) else " or ".join(types)


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True
