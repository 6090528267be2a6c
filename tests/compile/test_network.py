"""The older TensorRTs' way, weak types and no strong ones, on a network made of stand-ins: nothing here has them."""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

from edgeclip.compile.builder import Options, configure, table_of
from edgeclip.compile.monitor import Monitor, make_monitor
from edgeclip.compile.network import Network, advice, creation_flags, multiplications, use_half
from edgeclip.errors import EngineError, UsageError
from edgeclip.progress import Silent
from edgeclip.runtime.backends.trt_library import TENSORRT, Library, LogLines

DataType = Enum("DataType", ["FLOAT", "HALF", "INT8", "INT32"])
Type = Enum(
    "Type",
    "CAST CONSTANT SHUFFLE QUANTIZE DEQUANTIZE CONVOLUTION MATRIX_MULTIPLY "
    "NORMALIZATION SOFTMAX ELEMENTWISE REDUCE GATHER",
)
FLOAT, INT8, INT32 = DataType.FLOAT, DataType.INT8, DataType.INT32  # type: ignore[attr-defined]


class Layer:
    """An ILayer: a name, a type, the tensors it reads and the one it makes, called like it."""

    def __init__(self, name: str, kind: str, inputs: str = "", dtype: Any = FLOAT) -> None:
        self.name, self.type, self._inputs = name, Type[kind], inputs.split()
        self._output = SimpleNamespace(name=name, dtype=dtype)
        self.num_inputs, self.num_outputs = len(self._inputs), 1
        self.precision: Any = None
        self.output_type: Any = None

    def get_input(self, i: int) -> Any:
        return SimpleNamespace(name=self._inputs[i])

    def get_output(self, i: int) -> Any:
        return self._output

    def set_output_type(self, i: int, kind: Any) -> None:
        self.output_type = kind


class Definition:
    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers
        self.num_layers = len(layers)

    def get_layer(self, i: int) -> Layer:
        return self.layers[i]


LAYERS = [
    ("floats", "CAST", "input"),
    ("scale", "ELEMENTWISE", "floats"),
    ("scale.Q", "QUANTIZE", "scale", INT8),
    ("scale.DQ", "DEQUANTIZE", "scale.Q"),
    ("w", "CONSTANT", "", INT8),
    ("w.DQ", "DEQUANTIZE", "w"),
    ("patch", "CONVOLUTION", "scale.DQ w.DQ"),
    ("norm", "NORMALIZATION", "patch"),
    ("norm.Q", "QUANTIZE", "norm", INT8),
    ("norm.DQ", "DEQUANTIZE", "norm.Q"),
    ("v", "CONSTANT", "", INT8),
    ("v.DQ", "DEQUANTIZE", "v"),
    ("v.wide", "SHUFFLE", "v.DQ"),
    ("project", "MATRIX_MULTIPLY", "norm.DQ v.wide"),
    ("index", "GATHER", "project", INT32),
    ("attend", "MATRIX_MULTIPLY", "project project"),
    ("share", "SOFTMAX", "attend"),
    ("mix", "MATRIX_MULTIPLY", "share project"),
    ("length", "REDUCE", "mix"),
    ("unit", "ELEMENTWISE", "mix length"),
]


class Config:
    """An IBuilderConfig."""

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.limits: dict[str, int] = {}
        self.profiling_verbosity = ""

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def set_memory_pool_limit(self, pool: str, limit: int) -> None:
        self.limits[pool] = limit


def tensorrt(version: str, flags: list[str], creation: dict[str, int]) -> Library:
    module = SimpleNamespace(
        DataType=DataType,
        NetworkDefinitionCreationFlag=SimpleNamespace(__members__=creation),
        BuilderFlag=SimpleNamespace(__members__={flag: flag for flag in flags}),
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
        ProfilingVerbosity=SimpleNamespace(DETAILED="detailed"),
    )
    return Library(TENSORRT, module, version)


OLD = tensorrt("8.6.2", ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS", "VERSION_COMPATIBLE"], {"EXPLICIT_BATCH": 0})
OLDEST = tensorrt("8.5.2", ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"], {"EXPLICIT_BATCH": 0})


def network() -> Network:
    layers = [Layer(*facts) for facts in LAYERS]  # type: ignore[arg-type]
    definition = Definition(layers)
    return Network(definition, None, False, *multiplications(definition), kept=[])


def test_products_between_dequantized_tensors_are_known() -> None:
    assert network().int8 == ("patch", "project")
    assert network().floats == ("attend", "mix")


def test_strong_types_where_there_are_any() -> None:
    assert creation_flags(OLD.module) == (False, 1)
    ten = tensorrt("10.3.0", [], {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1})
    assert creation_flags(ten.module) == (True, 2)
    assert creation_flags(tensorrt("12.0.0", [], {}).module) == (True, 0)


def test_weak_types_keep_norms_sums_and_both_ends_in_fp32() -> None:
    made = network()
    use_half(OLD, made)
    kept = {layer.name for layer in made.definition.layers if layer.precision == FLOAT}
    assert kept == {"scale", "norm", "length", "unit"}
    assert {layer.name for layer in made.definition.layers if layer.output_type == FLOAT} == kept


def test_weak_types_ask_for_int8_and_fp16_and_to_be_obeyed() -> None:
    config = Config()
    configure(OLD, network(), config, Options(workspace=5))
    assert config.flags == {"INT8", "FP16", "OBEY_PRECISION_CONSTRAINTS"}
    assert config.limits == {"workspace": 5}
    assert config.profiling_verbosity == "detailed"
    config = Config()
    configure(OLD, network(), config, Options(floats="fp32", version_compatible=True))
    assert config.flags == {"INT8", "VERSION_COMPATIBLE"}
    config, plain = Config(), Network(None, None, False, (), ("patch", "project"), [])
    configure(OLD, plain, config, Options(precision="float"))
    assert config.flags == {"FP16", "OBEY_PRECISION_CONSTRAINTS"}


def test_what_an_old_one_has_not_is_said() -> None:
    with pytest.raises(UsageError, match=r"tensorrt 8\.5\.2 has no --version-compatible"):
        configure(OLDEST, network(), Config(), Options(version_compatible=True))
    with pytest.raises(UsageError, match="has no --hardware-compatible"):
        configure(OLDEST, network(), Config(), Options(hardware_compatible=True))
    with pytest.raises(UsageError, match="compiles for this machine's GPU only"):
        configure(OLD, network(), Config(), Options(archs=((8, 6),)))
    assert "JetPack 6" in advice(OLDEST, "no importer for LayerNormalization")
    assert make_monitor(OLD, Monitor(Silent())) is None


class Runtime:
    """An IRuntime whose engines describe themselves and bring host code; b"" is none."""

    def __init__(self, logger: object) -> None:
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, data: bytes) -> Any:
        if not data or not self.engine_host_code_allowed:
            return None
        inspector = SimpleNamespace(get_engine_information=lambda form: data.decode())
        return SimpleNamespace(create_engine_inspector=lambda: inspector)


def test_on_its_gpu_a_plan_is_asked_what_it_is() -> None:
    module = SimpleNamespace(Runtime=Runtime, LayerInformationFormat=SimpleNamespace(JSON="json"))
    library = Library(TENSORRT, module, "10.3.0")
    data = b'{"Layers": [{"Name": "patch + relu", "LayerType": "CaskConvolution", "Inputs": [{"Datatype": "Int8"}]}]}'
    table = table_of(library, None, data, LogLines(), ["patch", "project"], ahead=False)
    assert (table.source, table.int8, table.not_int8) == ("inspector", 1, ("project",))
    lines = LogLines()
    lines.add("ERROR", "no such GPU")
    with pytest.raises(EngineError, match="cannot be loaded: no such GPU"):
        table_of(library, None, b"", lines, [], ahead=False)
