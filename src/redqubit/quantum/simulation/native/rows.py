"""SIMD vectors for Numba: a `Row` is 32 bytes of floats, one AVX2 register, worked on without a loop.

Numba vectorises loops only where LLVM can prove that they are independent, which it cannot for rows of one array
at computed places. These few operations say it outright: 8 samples at once in float32, 4 in float64.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

BYTES = 32


class Row(types.Type):
    """The type of `BYTES` of floats of one type."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"Row({dtype})")


def _scalar(dtype: types.Float) -> Any:
    return ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()


def _vector(dtype: types.Float) -> Any:
    return ir.VectorType(_scalar(dtype), 8 * BYTES // dtype.bitwidth)


@register_model(Row)
class _RowModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Row) -> None:
        super().__init__(manager, kind, _vector(kind.dtype))


@intrinsic
def pointer(typingctx, like, address):
    """Return an address as a pointer to numbers of the type of `like`."""

    def code(context, builder, signature, args):
        return builder.inttoptr(args[1], context.get_value_type(signature.return_type))

    return types.CPointer(like)(like, types.intp), code


@intrinsic
def part(typingctx, array, begin):
    """Return a pointer to element `begin`."""

    def code(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return array(array, types.intp), code


def _address(builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    return builder.bitcast(builder.gep(array, [at]), _vector(array_type.dtype).as_pointer())


@intrinsic
def lanes(typingctx, array):
    """Return the length of the rows behind a pointer, known when it is compiled."""

    def code(context, builder, signature, args):
        return context.get_constant(types.intp, _vector(array.dtype).count)

    return types.intp(array), code


@intrinsic
def load(typingctx, array, at):
    """Return the row that begins at element `at` behind a pointer."""

    def code(context, builder, signature, args):
        value = builder.load(_address(builder, array, *args))
        value.align = array.dtype.bitwidth // 8
        return value

    return Row(array.dtype)(array, types.intp), code


@intrinsic
def store(typingctx, array, at, row):
    """Write a row to element `at` and on behind a pointer."""

    def code(context, builder, signature, args):
        target = _address(builder, array, *args[:2])
        builder.store(args[2], target).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.none(array, types.intp, row), code


@intrinsic
def splat(typingctx, array, at):
    """Return a row of copies of element `at` behind a pointer."""

    def code(context, builder, signature, args):
        value = builder.load(builder.gep(args[0], [args[1]]))
        kind = _vector(array.dtype)
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.IntType(32)(0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
        return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), mask)

    return Row(array.dtype)(array, types.intp), code


def _three(multiply_negated: bool) -> Any:
    def typed(typingctx, a, b, c):
        def code(context, builder, signature, args):
            x, y, z = args
            kind = _vector(a.dtype)
            if multiply_negated:
                x = builder.fneg(x)
            name = f"llvm.fmuladd.v{kind.count}f{a.dtype.bitwidth}"
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind, kind, kind]), name)
            return builder.call(function, [x, y, z])

        return a(a, b, c), code

    return typed


fma = intrinsic(_three(False))  # a b + c
fnma = intrinsic(_three(True))  # c - a b


def _two(operation: str) -> Any:
    def typed(typingctx, a, b):
        def code(context, builder, signature, args):
            return getattr(builder, operation)(*args)

        return a(a, b), code

    return typed


mul, add, sub = (intrinsic(_two(operation)) for operation in ("fmul", "fadd", "fsub"))


@intrinsic
def total(typingctx, a):
    """Return the sum of a row, as a number, by halves."""

    def code(context, builder, signature, args):
        value, kind = args[0], _vector(a.dtype)
        half = kind.count // 2
        while half:
            order = [(i + half) % kind.count for i in range(kind.count)]
            mask = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), order)
            value = builder.fadd(value, builder.shuffle_vector(value, value, mask))
            half //= 2
        return builder.extract_element(value, ir.IntType(32)(0))

    return a.dtype(a), code


@intrinsic
def zero(typingctx, array):
    """Return a row of zeros."""

    def code(context, builder, signature, args):
        return ir.Constant(_vector(array.dtype), None)

    return Row(array.dtype)(array), code
