"""Conditions on the rows of a table, such as ``"C < 1e21 and P >= 1e8"``: parsed, never evaluated as code."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limitlib.scaling.errors import BadCondition

COMPARE: dict[type[ast.cmpop], Any] = {
    ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater, ast.GtE: np.greater_equal, ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], Any] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.Pow: np.power,
}  # fmt: skip
SIGN: dict[type[ast.unaryop], Any] = {ast.UAdd: np.positive, ast.USub: np.negative}
KINDS = {"f": "numbers", "O": "words", "b": "true or false"}
ALLOWED = "allowed are column names, numbers, 'words', comparisons, + - * / **, and, or, not, brackets"


def holds(condition: str, column: Callable[[str], NDArray[Any]], length: int) -> NDArray[np.bool_]:
    """Which of ``length`` rows meet the condition.

    column: gives the values of a name, shape (length,), as float64, as an object array of strings, or as bool; it raises
    for an unknown name. A comparison with NaN is false (``!=`` is true). Raises BadCondition naming the token that is not
    understood, TypeError if the condition is no string.

    >>> holds("1 < x <= 3 and not x == 2", {"x": np.array([1.0, 2.0, 3.0])}.__getitem__, 3).tolist()
    [False, False, True]
    """
    if not isinstance(condition, str):
        raise TypeError(f"where={condition!r} must be a condition such as 'C < 1e21', or use select(mask)")
    try:
        parsed = ast.parse(condition.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = getattr(error, "offset", None)
        near = f" near {condition.strip()[place - 1 :][:20]!r}" if place and place <= len(condition.strip()) else ""
        raise BadCondition(f"where={condition!r} cannot be read{near}: {ALLOWED}") from None

    def fail(node: ast.AST, why: str) -> BadCondition:
        token = ast.get_source_segment(condition.strip(), node) or condition
        return BadCondition(f"where={condition!r}: {token!r} {why}")

    def kind(value: NDArray[Any]) -> str:
        return KINDS[value.dtype.kind]

    def value_of(node: ast.expr, wanted: str = "") -> NDArray[Any]:
        found = evaluate(node)
        if wanted and kind(found) != wanted:
            hint = "; compare it with something, for instance with > 0" if wanted == "true or false" else ""
            raise fail(node, f"holds {kind(found)} where {wanted} must stand{hint}")
        return found

    def compare(node: ast.Compare) -> NDArray[Any]:
        result = np.ones((), dtype=bool)
        left_node, left = node.left, value_of(node.left)
        for operator, right_node in zip(node.ops, node.comparators, strict=True):
            right = value_of(right_node)
            if type(operator) not in COMPARE:
                raise fail(node, f"uses an operator that is not allowed: {ALLOWED}")
            if kind(left) != kind(right):
                raise fail(
                    node, f"compares {ast.unparse(left_node)} ({kind(left)}) with {ast.unparse(right_node)} ({kind(right)}); "
                    "quote words, and leave numbers without quotes"
                )  # fmt: skip
            if kind(left) != "numbers" and not isinstance(operator, ast.Eq | ast.NotEq):
                raise fail(node, "puts words in an order; words can be compared by == and != alone")
            result = result & COMPARE[type(operator)](left, right).astype(bool)
            left_node, left = right_node, right
        return result

    def evaluate(node: ast.expr) -> NDArray[Any]:
        match node:
            case ast.Name(id=name):
                return column(name)
            case ast.Constant(value=bool() as truth):
                return np.asarray(truth)
            case ast.Constant(value=int() | float() as number):
                try:
                    return np.asarray(float(number))
                except OverflowError:
                    raise fail(node, "is above the largest float, 1.8e308") from None
            case ast.Constant(value=str() as text):
                return np.asarray(text, dtype=object)
            case ast.BoolOp(op=operator, values=parts):
                joined = np.logical_and if isinstance(operator, ast.And) else np.logical_or
                return joined.reduce(np.broadcast_arrays(*[value_of(part, "true or false") for part in parts]))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~value_of(operand, "true or false")
            case ast.UnaryOp(op=operator, operand=operand) if type(operator) in SIGN:
                return SIGN[type(operator)](value_of(operand, "numbers"))
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in ARITHMETIC:
                return np.asarray(ARITHMETIC[type(operator)](value_of(left, "numbers"), value_of(right, "numbers")))
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr()):
                raise fail(node, "uses & or |; write and, or")
            case ast.Compare():
                return compare(node)
        raise fail(node, f"is not understood: {ALLOWED}")

    with np.errstate(all="ignore"):  # 0 ** -1 or 1 / 0 in a row is inf there, and compares as inf
        try:
            mask = value_of(parsed, "true or false")
        except RecursionError:
            raise BadCondition(f"where={condition[:40]!r}...: nested too deeply; select(mask) takes any mask") from None
    return np.array(np.broadcast_to(mask, (length,)))
