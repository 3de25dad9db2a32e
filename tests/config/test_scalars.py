import math

import pytest

from builder.config.scalars import MisreadScalar, plain_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("Null", None), ("NULL", None),
        ("true", True), ("True", True), ("TRUE", True), ("false", False),
        ("0", 0), ("-0", 0), ("+7", 7), ("-12", -12), ("0x1F", 31), ("0o17", 15), ("9223372036854775807", 2**63 - 1),
        ("1e-3", 1e-3), ("1E5", 1e5), ("1.", 1.0), (".5", 0.5), ("-2.5e+3", -2500.0), ("0.1", 0.1), ("00.5", 0.5),
    ],
)  # fmt: skip
def test_values_of_the_core_schema(text, value):
    found = plain_value(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    ["on", "yes", "no", "off", "y", "tRUE", "12:30", "1:2:3", "2020-01-01", "nan", "inf", "-inf", "-", "+", ".", "-.", "1e", "e3",
     "0x", "0o8", "=n", "1,000", "1 2", "1_a", "v1_0", "..", "1.2.3", "-foo", "+bar", "0b", "0b12"],
)  # fmt: skip
def test_what_other_readers_take_for_something_else_is_text(text):
    assert plain_value(text) == text


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("010", "a number with a leading zero", "write 10 for the number, 0o10 for octal, '010' for text"),
        ("-007", "a number with a leading zero", "write -7 for the number, '-007' for text"),
        ("08", "a number with a leading zero", "write 8 for the number, '08' for text"),
        ("1_000", "a number with underscores", "write 1000, or '1_000' for text"),
        ("1_0.5", "a number with underscores", "write 10.5, or '1_0.5' for text"),
        ("0b101", "a binary number", "write it in decimal, or '0b101' for text"),
        (".nan", "not a finite number", "a config holds finite numbers that fit 64 bits"),
        ("-.inf", "not a finite number", "a config holds finite numbers that fit 64 bits"),
        ("1e999", "not a finite number", "a config holds finite numbers that fit 64 bits"),
        ("9223372036854775808", "too large a number", "a config holds finite numbers that fit 64 bits"),
        ("9" * 100_000, "too large a number", "a config holds finite numbers that fit 64 bits"),
        ("0x" + "f" * 100_000, "too large a number", "a config holds finite numbers that fit 64 bits"),
    ],
)
def test_misread_numbers_are_refused(text, message, hint):
    with pytest.raises(MisreadScalar) as error:
        plain_value(text)
    assert (error.value.message, error.value.hint) == (message, hint)


def test_floats_read_as_python_reads_them():
    for value in (1e-3, 3e-4, 0.1 + 0.2, 1e22, 1.7976931348623157e308, 5e-324, math.pi):
        assert plain_value(repr(value)) == value
