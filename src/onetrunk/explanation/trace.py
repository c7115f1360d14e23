"""A small dense network forward and backward, number by number: what every weight does to an answer, what the answer's
error says of every weight (the chain rule), and what one step of gradient descent makes of them.

The worked example is one of ours: two inputs, two hidden units of which one is silent, one output.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from onetrunk.core.config import Config

_MOST = 16  # units of a layer, or inputs: of more nobody reads every number
_MOST_LAYERS = 8
_DIGITS = 6

Activation = Literal["identity", "relu", "sigmoid", "tanh", "softmax"]


class Layer(Config):
    """`weight` has a row for each unit, with a number for each input of the layer."""

    weight: list[list[float]] = Field(min_length=1, max_length=_MOST)
    bias: list[float]
    activation: Activation = "identity"


class Network(Config):
    """What is traced: inputs, layers from the first to the last, what the answer should be, and how the step is made.
    The loss is half the sum of squared errors or, after a softmax, the cross entropy in nats."""

    input: list[float] = Field(min_length=1, max_length=_MOST)
    target: list[float]
    layers: list[Layer] = Field(min_length=1, max_length=_MOST_LAYERS)
    loss: Literal["squared_error", "cross_entropy"] = "squared_error"
    rate: float = Field(0.1, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        width = len(self.input)
        for k, layer in enumerate(self.layers, 1):
            if len(layer.bias) != len(layer.weight):
                raise ValueError(f"layer {k} should have a bias for each of its {len(layer.weight)} units")
            if any(len(row) != width for row in layer.weight):
                raise ValueError(
                    f"each unit of layer {k} should have {width} weights, one for each number that it gets"
                )
            if layer.activation == "softmax" and k < len(self.layers):
                raise ValueError("a softmax should be the activation of the last layer alone")
            width = len(layer.weight)
        if len(self.target) != width:
            raise ValueError(f"the target should have {width} numbers, one for each unit of the last layer")
        if (self.loss == "cross_entropy") != (self.layers[-1].activation == "softmax"):
            raise ValueError("cross_entropy and a softmax in the last layer should stand together")
        if self.loss == "cross_entropy" and (min(self.target) < 0 or abs(sum(self.target) - 1) > 1e-9):
            raise ValueError("the target of cross_entropy should be shares that add up to 1")
        return self


EXAMPLE = Network(
    input=[2, 3],
    target=[1],
    layers=[
        Layer(weight=[[1.4, 3], [-1, 0.5]], bias=[0.6, 0.2], activation="relu"),
        Layer(weight=[[0.05, 0.4]], bias=[0], activation="identity"),
    ],
    rate=0.005,
)


@dataclass(frozen=True)
class Line:
    """`name = formula = numbers = value`"""

    name: str
    formula: str
    numbers: str
    value: float

    def __str__(self) -> str:
        steps = [self.formula, self.numbers, number(self.value)]
        return " = ".join([self.name, *dict.fromkeys(filter(None, steps))])


@dataclass(frozen=True)
class Trace:
    """All of it, in the order in which it is computed. `after` are the weights after the step, and their loss."""

    forward: list[Line]
    backward: list[Line]
    update: list[Line]
    loss: float
    loss_after: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def trace(network: Network) -> Trace:
    """Forward, backward, one step of gradient descent, and forward again."""
    forward, values, sums = _forward(network)
    backward, gradients = _backward(network, values, sums)
    update, stepped = _updated(network, gradients)
    again, _, _ = _forward(stepped)
    return Trace(forward, backward, update, forward[-1].value, again[-1].value)


# -- forward -----------------------------------------------------------------------------------------------------------
def _forward(network: Network) -> tuple[list[Line], list[list[float]], list[list[float]]]:
    """Lines; the values that enter each layer and the answer, [layers + 1]; the weighted sums of each layer."""
    lines, values, sums = [], [list(network.input)], []
    for k, layer in enumerate(network.layers, 1):
        before, z = values[-1], []
        for i, (row, bias) in enumerate(zip(layer.weight, layer.bias, strict=True), 1):
            names = [f"{_weight(k, i, j)} {_value(network, k - 1, j)}" for j in range(1, len(row) + 1)]
            numbers = [f"{_in(w)} × {_in(x)}" for w, x in zip(row, before, strict=True)]
            z.append(bias + math.fsum(w * x for w, x in zip(row, before, strict=True)))
            formula, of = " + ".join([*names, f"b{k}.{i}"]), " + ".join([*numbers, _in(bias)])
            lines.append(Line(f"z{k}.{i}", formula, of, z[-1]))
        sums.append(z)
        values.append(_activated(layer.activation, z))
        for i, (x, y) in enumerate(zip(z, values[-1], strict=True), 1):
            formula, of = _activation_in_words(layer.activation, f"z{k}.{i}", k), ""
            if layer.activation != "identity":
                of = _activation_in_numbers(layer.activation, x, z)
            lines.append(Line(_value(network, k, i), formula, of, y))
    return [*lines, _loss(network, values[-1])], values, sums


def _loss(network: Network, answer: list[float]) -> Line:
    pairs = list(zip(answer, network.target, strict=True))
    if network.loss == "squared_error":
        numbers = " + ".join(f"({number(y)} − {_in(t)})²" for y, t in pairs)
        return Line("L", "½ Σ (y − t)²", f"½ × ({numbers})", 0.5 * math.fsum((y - t) ** 2 for y, t in pairs))
    told = [(y, t) for y, t in pairs if t]
    numbers = " − ".join(f"{_in(t)} × ln {number(y)}" for y, t in told)
    return Line("L", "−Σ t ln y", f"−{numbers}", -math.fsum(t * math.log(max(y, 5e-324)) for y, t in told))


# -- backward ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Gradients:
    weight: list[list[list[float]]]  # [layer][unit][input]
    bias: list[list[float]]


def _backward(network: Network, values: list[list[float]], sums: list[list[float]]) -> tuple[list[Line], _Gradients]:
    lines: list[Line] = []
    gradients = _Gradients([[] for _ in network.layers], [[] for _ in network.layers])
    of_value: list[float] = []  # dL / d of what the layer gives
    for k in range(len(network.layers), 0, -1):
        layer, last = network.layers[k - 1], k == len(network.layers)
        of_sum = []
        for i, (z, y) in enumerate(zip(sums[k - 1], values[k], strict=True), 1):
            name, inner = f"dL/dz{k}.{i}", f"dL/d{_value(network, k, i)}"
            if last:
                error, t = y - network.target[i - 1], network.target[i - 1]
                lines.append(
                    Line(
                        name if network.loss == "cross_entropy" else inner,
                        f"y{i} − t{i}",
                        f"{_in(y)} − {_in(t)}",
                        error,
                    )
                )
                if network.loss == "cross_entropy":
                    of_sum.append(error)
                    continue
                of_value.append(error)
            slope = _slope(layer.activation, z, y)
            formula = inner if layer.activation == "identity" else f"{inner} × {layer.activation}′(z{k}.{i})"
            numbers = "" if layer.activation == "identity" else f"{_in(of_value[i - 1])} × {_in(slope)}"
            of_sum.append(of_value[i - 1] * slope)
            lines.append(Line(name, formula, numbers, of_sum[-1]))
        for i, d in enumerate(of_sum, 1):
            own = [d * x for x in values[k - 1]]
            for j, (x, g) in enumerate(zip(values[k - 1], own, strict=True), 1):
                formula = f"dL/dz{k}.{i} × {_value(network, k - 1, j)}"
                lines.append(Line(f"dL/d{_weight(k, i, j)}", formula, f"{_in(d)} × {_in(x)}", g))
            lines.append(Line(f"dL/db{k}.{i}", f"dL/dz{k}.{i}", "", d))
            gradients.weight[k - 1].append(own)
            gradients.bias[k - 1].append(d)
        if k > 1:
            of_value = []
            for j in range(1, len(values[k - 1]) + 1):
                terms = [(d, layer.weight[i][j - 1], i + 1) for i, d in enumerate(of_sum)]
                formula = " + ".join(f"dL/dz{k}.{i} × {_weight(k, i, j)}" for _, _, i in terms)
                numbers = " + ".join(f"{_in(d)} × {_in(w)}" for d, w, _ in terms)
                of_value.append(math.fsum(d * w for d, w, _ in terms))
                lines.append(Line(f"dL/d{_value(network, k - 1, j)}", formula, numbers, of_value[-1]))
    return lines, gradients


# -- one step ----------------------------------------------------------------------------------------------------------
def _updated(network: Network, gradients: _Gradients) -> tuple[list[Line], Network]:
    lines, layers = [], []
    for k, layer in enumerate(network.layers, 1):
        weight, bias = [], []
        for i, row in enumerate(layer.weight, 1):
            moved = [
                _moved(_weight(k, i, j), w, gradients.weight[k - 1][i - 1][j - 1], network.rate)
                for j, w in enumerate(row, 1)
            ]
            weight.append([line.value for line in moved])
            own = _moved(f"b{k}.{i}", layer.bias[i - 1], gradients.bias[k - 1][i - 1], network.rate)
            bias.append(own.value)
            lines += [*moved, own]
        layers.append(layer.model_copy(update={"weight": weight, "bias": bias}))
    return lines, network.model_copy(update={"layers": layers})


def _moved(name: str, value: float, gradient: float, rate: float) -> Line:
    numbers = f"{number(value)} − {number(rate)} × {_in(gradient)}"
    return Line(f"{name} new", f"{name} − rate × dL/d{name}", numbers, value - rate * gradient)


# -- activations -------------------------------------------------------------------------------------------------------
def _sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


_OF_ONE: dict[str, Callable[[float], float]] = {
    "identity": lambda z: z,
    "relu": lambda z: max(0.0, z),
    "sigmoid": _sigmoid,
    "tanh": math.tanh,
}


def _activated(activation: Activation, z: list[float]) -> list[float]:
    if activation == "softmax":
        powers = [math.exp(x - max(z)) for x in z]
        return [power / math.fsum(powers) for power in powers]
    return [_OF_ONE[activation](x) for x in z]


def _slope(activation: Activation, z: float, y: float) -> float:
    """The derivative at z, where the activation gives y; of ReLU at 0 it is 0, as in PyTorch."""
    slopes = {"identity": 1.0, "relu": float(z > 0), "sigmoid": y * (1 - y), "tanh": 1 - y * y}
    return slopes[activation]


def _activation_in_words(activation: Activation, name: str, k: int) -> str:
    if activation == "softmax":
        return f"exp {name} / Σ exp z{k}"
    return name if activation == "identity" else f"{activation}({name})"


def _activation_in_numbers(activation: Activation, x: float, z: list[float]) -> str:
    if activation == "softmax":
        return f"exp {_in(x)} / ({' + '.join(f'exp {_in(each)}' for each in z)})"
    return f"{activation}({number(x)})"


# -- names and numbers -------------------------------------------------------------------------------------------------
def _weight(k: int, i: int, j: int) -> str:
    """From number j of what enters layer k to its unit i."""
    return f"w{k}.{i}.{j}"


def _value(network: Network, k: int, i: int) -> str:
    return f"x{i}" if k == 0 else f"y{i}" if k == len(network.layers) else f"a{k}.{i}"


def number(value: float) -> str:
    """Six digits, with a true minus."""
    return f"{value + 0.0:.{_DIGITS}g}".replace("-", "−")


def _in(value: float) -> str:
    """In a sum or product."""
    return f"({number(value)})" if value < 0 else number(value)
