"""Converts records of schema 2 to schema 3.

Schema 3 has fields for the entry that a test is about and for the mode of its calls; in schema 2, the name of the test
contains both. Tests in schema 2 have a message instead of failures. The message is kept as it is.
"""

_LEDGERS = ("test_ledger.py", "test_wrong_masks.py")
_WAYS = ("test_modes.py", "test_low_precision.py")
_EAGER = (
    "test_equivalences.py",
    "test_hidden_content.py",
    "test_multihead_attention.py",
    "test_transformer.py",
    "test_scaled_dot_product_attention.py",
)
_OF_LEDGERS = ("test_pinned_case_does_what_the_ledger_says", "test_known_deviation_is_where_the_ledger_says")


def as_schema_3(plain: dict) -> dict:
    """The record in schema 3. Both records are plain data.

    Schema 2 did not mark a run of only the tests of the ledgers as partial; the result does.
    """
    tests = {id: test | about(id) for id, test in plain["tests"].items()}
    is_part = not plain.get("part") and all(_split(id)[0] in _LEDGERS for id in tests)
    part = {"part": ["the tests of the ledgers"]} if is_part else {}
    return plain | {"schema": 3, "tests": tests} | part


def about(id: str) -> dict[str, str]:
    """{"entry": id of an entry} or {"way": mode, low precision or "eager"} of a test; empty if neither is known.

    id: of the test in pytest.
    """
    file, name, parameter = _split(id)
    if name in _OF_LEDGERS:
        return {"entry": parameter}
    if file in _WAYS and not parameter.startswith("NOTSET"):
        return {"way": parameter.partition("-")[0]}
    return {"way": "eager"} if file in (*_EAGER, *_LEDGERS) else {}


def _split(id):
    """(file, name of the test, parameter)"""
    path, _, test = id.partition("::")
    name, _, parameter = test.partition("[")
    return path.rpartition("/")[2], name, parameter.removesuffix("]")
