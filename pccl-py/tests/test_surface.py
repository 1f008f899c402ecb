"""The names, numbers and signatures that programs of PCCL 1.0 use."""

import array
import inspect
import pickle
import subprocess
import sys

import pytest

import pccl


@pytest.mark.parametrize(
    ("enum", "values"),
    [
        (pccl.ReduceOp, {"SUM": 0, "AVG": 1, "PROD": 2, "MAX": 3, "MIN": 4}),
        (
            pccl.Attribute,
            {
                "GLOBAL_WORLD_SIZE": 1,
                "LOCAL_WORLD_SIZE": 2,
                "NUM_DISTINCT_PEER_GROUPS": 3,
                "LARGEST_PEER_GROUP_WORLD_SIZE": 4,
            },
        ),
        (pccl.SharedStateSyncStrategy, {"ENFORCE_POPULAR": 0, "RECEIVE_ONLY": 1, "SEND_ONLY": 2}),
        (pccl.DeviceType, {"CPU": 0, "CUDA": 1}),
        (pccl.DistributionHint, {"NONE": 0, "NORMAL": 1, "UNIFORM": 2}),
        (pccl.QuantizationAlgorithm, {
            "NONE": 0, "MIN_MAX": 1, "ZERO_POINT_SCALE": 2,
            "BITS4": 3, "FLOAT8_E4M3": 4, "FLOAT8_E5M2": 5, "FLOAT16": 6, "BFLOAT16": 7,
        }),
        (
            pccl.DataType,
            {
                "UINT8": 0,
                "INT8": 1,
                "INT16": 2,
                "UINT16": 3,
                "UINT32": 4,
                "INT32": 5,
                "UINT64": 6,
                "INT64": 7,
                "FLOAT16": 8,
                "BFLOAT16": 9,
                "FLOAT": 10,
                "DOUBLE": 11,
            },
        ),
    ],
)
def test_enums_have_the_values_of_the_c_api(enum, values):
    assert {member.name: member.value for member in enum} == values


def test_results_are_those_of_the_header():
    assert [result.value for result in pccl.Result] == list(range(13))
    assert pccl.Result.SUCCESS.value == 0 and pccl.Result.RANK_CONNECTION_LOST.value == 8


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (pccl.Communicator.__init__, "address peer_group=0 p2p_connection_pool_size=0"),
        (pccl.Communicator.connect, "n_attempts=5"),
        (pccl.Communicator.get_attribute, "attribute"),
        (pccl.Communicator.update_topology, ""),
        (pccl.Communicator.are_peers_pending, ""),
        (pccl.Communicator.optimize_topology, ""),
        (pccl.MasterNode.__init__, "listen_address"),
        (pccl.SharedState.__init__, "tensor_infos"),
        (pccl.ReduceOpDescriptor.from_torch, "send recv reduce_descriptor"),
        (pccl.ReduceOpDescriptor.from_numpy, "send recv reduce_descriptor"),
    ],
)
def test_positional_parameters_are_those_of_the_contract(function, parameters):
    found = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name != "self" and parameter.kind is not parameter.KEYWORD_ONLY:
            default = "" if parameter.default is parameter.empty else f"={parameter.default}"
            found.append(parameter.name + default)
    assert found == parameters.split()


@pytest.mark.parametrize(
    ("function", "keywords"),
    [
        (
            pccl.Communicator.all_reduce,
            {"op", "tag", "operand_descriptor", "quantization_options", "quantize", "residual"},
        ),
        (
            pccl.Communicator.all_reduce_async,
            {"op", "tag", "operand_descriptor", "quantization_options", "quantize", "residual"},
        ),
        (pccl.Communicator.all_reduce_multiple_with_retry, {"max_in_flight"}),
        (pccl.ReduceOpDescriptor.from_torch, {"residual"}),
        (pccl.TensorInfo.from_torch, {"allow_content_inequality"}),
    ],
)
def test_keywords_are_those_of_the_contract_and_ours(function, keywords):
    parameters = inspect.signature(function).parameters.values()
    assert {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY} == keywords


def test_the_recipes_and_their_keywords():
    pytest.importorskip("torch")
    recipes = pccl.torch
    assert recipes.__all__ == sorted(recipes.__all__) and all(hasattr(recipes, name) for name in recipes.__all__)
    common = {"every", "outer_lr", "outer_momentum", "outer_optimizer", "quantize", "error_feedback", "host", "sync_every", "first_tag"}
    assert common <= set(inspect.signature(recipes.DiLoCo).parameters)
    assert set(recipes.__all__) == {
        "AsyncDiLoCo", "DiLoCo", "ErrorFeedback", "Host", "SharedModelState", "StreamingDiLoCo", "admit", "all_reduce_tensors",
    }


def test_plain_objects_bear_their_attributes():
    operand = pccl.ReduceOperandDescriptor(pccl.DataType.FLOAT)
    assert (operand.datatype, operand.distribution_hint) == (pccl.DataType.FLOAT, pccl.DistributionHint.NONE)
    options = pccl.QuantizationOptions()
    assert options.quantized_datatype is pccl.DataType.UINT8
    assert options.algorithm is pccl.QuantizationAlgorithm.MIN_MAX
    what = pccl.ReduceDescriptor(
        count=4, op=pccl.ReduceOp.AVG, tag=1, operand_descriptor=operand, quantization_options=options
    )
    data = array.array("f", [0.0] * 4)
    described = pccl.ReduceOpDescriptor.from_numpy(data, data, what)
    assert described.reduce_descriptor is what and described.send is data


def test_a_state_counts_its_revisions():
    state = pccl.SharedState([pccl.TensorInfo.from_numpy(array.array("f", [1.0]), "a")])
    assert state.revision == 0
    state.push_revision()
    assert state.revision == 1
    state.revision = 40
    assert state.revision == 40
    with pytest.raises(ValueError):
        state.revision = -1


def test_a_state_refuses_what_cannot_be_one():
    data = array.array("f", [1.0])
    with pytest.raises(ValueError, match="two tensors"):
        pccl.SharedState([pccl.TensorInfo.from_numpy(data, "a"), pccl.TensorInfo.from_numpy(data, "a")])
    with pytest.raises(ValueError, match="read-only"):
        pccl.TensorInfo.from_buffer(b"abcd", "a")
    with pytest.raises(ValueError, match="from_torch"):
        pccl.TensorInfo(
            "a",
            4096,
            numel=1,
            dtype=pccl.DataType.FLOAT,
            device_type=pccl.DeviceType.CUDA,
            allow_content_inequality=False,
        )


def test_an_error_names_call_result_and_reason_and_can_be_pickled():
    comm = pccl.Communicator("127.0.0.1:1")
    with pytest.raises(pccl.PCCLError, match="update_topology: INVALID_USAGE: .*connect") as caught:
        comm.update_topology()
    assert caught.value.result is pccl.Result.INVALID_USAGE
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and again.result is caught.value.result


def test_import_brings_in_neither_numpy_nor_torch():
    check = "import sys, pccl, pccl.cuda, pccl.master; sys.exit(bool({'numpy', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_everything_public_is_documented_and_typed():
    for name in pccl.__all__:
        assert hasattr(pccl, name)
    for cls in (pccl.Communicator, pccl.MasterNode, pccl.AsyncReduceHandle, pccl.SharedState):
        for name, member in inspect.getmembers(cls, inspect.isfunction):
            if not name.startswith("_"):
                assert member.__doc__, f"{cls.__name__}.{name}"
                assert "return" in member.__annotations__, f"{cls.__name__}.{name}"


def test_types_go_to_numpy_and_back():
    numpy = pytest.importorskip("numpy")
    for dtype in pccl.DataType:
        if dtype is not pccl.DataType.BFLOAT16:
            assert pccl.DataType.from_numpy_dtype(dtype.to_numpy_dtype()) is dtype
    assert pccl.DataType.from_numpy_dtype(numpy.float32) is pccl.DataType.FLOAT
    with pytest.raises(TypeError):
        pccl.DataType.from_numpy_dtype(numpy.complex64)


def test_types_go_to_torch_and_back():
    torch = pytest.importorskip("torch")
    for dtype in pccl.DataType:
        if hasattr(torch, "uint16") or not dtype.name.startswith("UINT") or dtype is pccl.DataType.UINT8:
            assert pccl.DataType.from_torch_dtype(dtype.to_torch_dtype()) is dtype
    with pytest.raises(TypeError):
        pccl.DataType.from_torch_dtype(torch.complex64)
