"""Sets of samples as words of 64 bits in compiled code: counts, and sums of float32 rows over a set."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from qanneal_opt.simd import borrowing

Array = Any  # a numpy array in compiled code
WORD = 64
BLOCK = 8  # words that are counted at once: sets have a multiple of so many

_POINTER: Any = types.CPointer
_BUILD: Any = cgutils
_FLOATS = _POINTER(types.float32)
_WORDS = _POINTER(types.uint64)
_SET = ir.VectorType(ir.IntType(WORD), BLOCK)
_VECTOR, _MASK = ir.VectorType(ir.FloatType(), WORD), ir.VectorType(ir.IntType(1), WORD)
_LOOSE = ("reassoc", "nsz", "contract")


def _ones(context: Any, word: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.ctpop(values[0])

    return types.int64(types.uint64), lower


def _overlap(context: Any, column: Any, turn: Any, words: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        column, words = (builder.load(builder.bitcast(values[place], _SET.as_pointer()), align=8) for place in (0, 2))
        nothing, lane = ir.Constant(_SET, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        first = builder.insert_element(nothing, values[1], lane)
        turn = builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), [0] * BLOCK))
        kind = ir.FunctionType(_SET, [_SET])
        count = builder.module.declare_intrinsic(f"llvm.ctpop.v{BLOCK}i64", (), kind)
        counts = builder.call(count, [builder.and_(builder.xor(column, turn), words)])
        kind = ir.FunctionType(ir.IntType(WORD), [_SET])
        add = builder.module.declare_intrinsic(f"llvm.vector.reduce.add.v{BLOCK}i64", (), kind)
        return builder.call(add, [counts])

    return types.int64(_WORDS, types.uint64, _WORDS), lower


def _total(context: Any, row: Any, words: Any, count: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        row, words, count = values
        sums = _BUILD.alloca_once_value(builder, ir.Constant(_VECTOR, [0.0] * WORD))
        with _BUILD.for_range(builder, count) as loop:
            place = builder.gep(row, [builder.mul(loop.index, ir.Constant(loop.index.type, WORD))])
            numbers = builder.load(builder.bitcast(place, _VECTOR.as_pointer()), align=4)
            chosen = builder.bitcast(builder.load(builder.gep(words, [loop.index])), _MASK)
            old = builder.load(sums)
            builder.store(builder.select(chosen, builder.fadd(old, numbers), old), sums)
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), _VECTOR])
        add = builder.module.declare_intrinsic(f"llvm.vector.reduce.fadd.v{WORD}f32", (), kind)
        return builder.call(add, [ir.Constant(ir.FloatType(), -0.0), builder.load(sums)], fastmath=_LOOSE)

    return types.float32(_FLOATS, _WORDS, types.int64), lower


def _add(context: Any, row: Any, word: Any, value: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = builder.bitcast(values[0], _VECTOR.as_pointer())
        nothing, lane = ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        first = builder.insert_element(nothing, values[2], lane)
        spread = builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), WORD), [0] * WORD))
        old = builder.load(place, align=4)
        chosen = builder.bitcast(values[1], _MASK)
        builder.store(builder.select(chosen, builder.fadd(old, spread), old), place, align=4)
        return context.get_dummy_value()

    return types.void(_FLOATS, types.uint64, types.float32), lower


ones: Any = intrinsic(_ones)  # (word): how many bits are set
overlap: Any = intrinsic(_overlap)  # (column, turn, words): how many bits of a block column ^ turn and words share
masked_total: Any = intrinsic(_total)  # (row, words, count): the sum of the numbers of a row whose bit is set
masked_add: Any = intrinsic(_add)  # (row, word, value): add a value to them


@borrowing
def size(words: Array) -> int:
    """How many samples are in a set."""
    count = 0
    for w in range(len(words)):
        count += ones(words[w])
    return count


@borrowing
def shared(a: Array, b: Array) -> int:
    """How many samples are in both sets."""
    count = 0
    for w in range(len(a)):
        count += ones(a[w] & b[w])
    return count
