"""Secrets and decimals of pydantic models (semantics B1, J4)."""

import decimal
from typing import Annotated, Literal

import pydantic
import pytest
from typing_extensions import TypedDict

import cloaca
from cloaca._values.decoding import Decoder
from cloaca.testing import VirtualRunner


class Secret(pydantic.BaseModel):
    password: pydantic.SecretStr
    any: object = None
    names: set[pydantic.SecretStr] = set()


class RootSecret(pydantic.RootModel[pydantic.SecretStr]):
    pass


@pytest.mark.parametrize(
    ("secret", "path"),
    [
        ({"login": Secret(password="x")}, "login.password"),
        ([Secret(password="", any=[pydantic.SecretStr("x")])], "[0].any[0]"),
        (Secret(password="", names={pydantic.SecretStr("x")}), "names[...]"),
        (RootSecret(pydantic.SecretStr("x")), "it"),
    ],
)
def test_b1_secret_that_pydantic_masks_is_refused(secret, path):
    context = cloaca.Context()
    with pytest.raises(TypeError, match="SecretStr', which would be") as caught:
        context["k"] = secret
    told = path if path == "it" else f"`{path}`"
    assert str(caught.value).startswith(f"context key 'k': {told} is a ")
    assert "store the name of the secret" in str(caught.value)
    with pytest.raises(TypeError, match="store the name of the secret"):
        context["k"] = pydantic.SecretStr("x")
    context["k"] = [Secret(password=""), "**********"]
    assert context["k"][0]["password"] == ""


DIGITS = "1.1000000000000000000000000001"
EXACT = decimal.Decimal(DIGITS)


class Price(pydantic.BaseModel):
    price: decimal.Decimal
    factor: float = 1.5
    prices: list[decimal.Decimal | None] = []
    by_name: dict[str, "Price"] = {}
    pair: tuple[float, decimal.Decimal] = (0.0, decimal.Decimal(0))
    renamed: decimal.Decimal | None = pydantic.Field(default=None, alias="reNamed")


def test_j4_decimals_in_pydantic_models_keep_all_digits():
    text = (
        f'{{"price":{DIGITS},"factor":{DIGITS},"prices":[null,{DIGITS},1.50],"reNamed":{DIGITS},'
        f'"by_name":{{"a":{{"price":1e400}}}},"pair":[{DIGITS},{DIGITS}]}}'
    )
    seen = []

    def second(value: Price) -> Price:
        seen.append(value)
        return value

    with cloaca.WorkflowBuilder("exact_prices", input={"value": Price}, output="second"):
        cloaca.task(second)
    with VirtualRunner() as runner:
        context = cloaca.Context.from_json(f'{{"value":{text}}}')
        result = runner.execute("exact_prices", context).raise_for_status()
    for found in (*seen, result.output):
        assert isinstance(found, Price)
        assert (found.price, found.factor, found.renamed) == (EXACT, 1.1, EXACT)
        assert found.pair == (1.1, EXACT)
        assert found.prices[1:] == [EXACT, decimal.Decimal("1.5")]
        assert str(found.prices[2]) == "1.50"
        assert found.by_name["a"].price == decimal.Decimal("1e400")


class Strict(pydantic.BaseModel, strict=True):
    n: decimal.Decimal = pydantic.Field(ge=1, validation_alias=pydantic.AliasChoices("n", "N"))


class Cash(pydantic.BaseModel):
    kind: Literal["cash"]
    n: decimal.Decimal


class Card(pydantic.BaseModel):
    kind: Literal["card"]
    n: float


class Names(TypedDict):
    n: decimal.Decimal


@pydantic.dataclasses.dataclass
class Point:
    n: decimal.Decimal


class Root(pydantic.RootModel[tuple[decimal.Decimal, ...]]):
    pass


Paid = Annotated[Cash | Card, pydantic.Field(discriminator="kind")]
# An annotation of pydantic. `Decoder` uses pydantic to decode annotations that contain `Anything`.
Anything = Annotated[object, pydantic.Field()]


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (Strict, '{"N": %s}', Strict(n=EXACT)),
        (list[Paid], '[{"kind":"cash","n":%s}]', [Cash(kind="cash", n=EXACT)]),
        (list[Paid], '[{"kind":"card","n":%s}]', [Card(kind="card", n=1.1)]),
        (Annotated[Names, pydantic.Field()], '{"n":%s}', {"n": EXACT}),
        (Point, '{"n":%s}', Point(EXACT)),
        (Root, "[1,%s]", Root((decimal.Decimal(1), EXACT))),
        (dict[str, Root | None], '{"a":[%s],"b":null}', {"a": Root((EXACT,)), "b": None}),
        # The number stays a number, because a string could match the other type of the union.
        (Annotated[decimal.Decimal | str, pydantic.Field()], "%s", decimal.Decimal("1.1")),
        (Annotated[decimal.Decimal | float, pydantic.Field()], "%s", 1.1),
        (tuple[Anything, decimal.Decimal], "[%s,1.5]", (1.1, decimal.Decimal("1.5"))),
        # A validator that runs before pydantic's own decoding still receives a number.
        (
            Annotated[decimal.Decimal, pydantic.BeforeValidator(lambda n: n + 1)],
            "1.5",
            decimal.Decimal("2.5"),
        ),
    ],
)
def test_j4_pydantic_gets_numbers_as_strings_only_for_decimals(annotation, text, value):
    found = Decoder(annotation).decode(text.replace("%s", DIGITS))
    assert (found, type(found)) == (value, type(value))


def test_j4_values_beside_a_decimal_are_decoded_unchanged():
    class Mixed(pydantic.BaseModel):
        n: decimal.Decimal
        big: int
        text: str
        rest: dict[str, Anything]

    rest = '{"a": [], "b": {}, "c": [null, true, -1e-7]}'
    text = f'{{"n": {DIGITS}, "big": {10**40}, "text": "é\\n,1.5", "rest": {rest}}}'
    found = Decoder(Mixed).decode(text)
    assert (found.n, found.big, found.text) == (EXACT, 10**40, "é\n,1.5")
    assert found.rest == {"a": [], "b": {}, "c": [None, True, -1e-7]}
