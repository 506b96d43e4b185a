# ruff: noqa
# fmt: off
"""Functions whose fingerprints are stored in test_fingerprint.py. Do not change the functions."""

import functools


def simple(context):
    """A docstring."""
    context["a"] = 1 + 2  # a comment


async def everything(context, handle=None, *rest, key: int = 3, **more) -> None:
    global counter
    number, text = -1, f"{context!r:>{key}} and {key=} joined{{}}"
    with open(text) as one, open("b") as two:
        async with one as three:
            async for line in three:
                yield_of = [x async for x in line if x] + [*rest]
    try:
        match number:
            case {"a": [1, *others], **kw} if others:
                pass
            case str() | None:
                raise ValueError(text) from None
            case _ as whole:
                del whole
    except* (OSError, KeyError) as group:
        assert group, "message"
    else:
        counter = lambda a, /, b=2: (a @ b) ** -b
    finally:
        nothing = ...
    if ((n := key) > 0x10 and not n) or 1e400 < 2j:
        return {**more, "k": {1, 2}, b"\x00": "é\ud800"[1:None:2], None: True}
    while key:
        break
    else:
        await yield_of

    class Local(dict):
        """Another docstring."""

        x: int = 5
        y: str

        @property
        def z(self):
            return self.x if self else (yield)


def with_default(context, value=(1, "a", None), *, other={"b": [2.5]}):
    return {"value": value, "other": other}


def decorate(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@decorate
@decorate
def decorated(
    context,
):
    text = """
text at the left edge
"""
    return {"text": text}


class Holder:
    def method(self, context):
        return None

    def __call__(self, context):
        return {"called": 1}


the_lambda = lambda context: {"lambda": 1}
partial = functools.partial(with_default, value=5)
