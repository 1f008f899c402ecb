"""A training script as it was written for PCCL 1.0's package: its names and calls, and nothing that is ours alone.

Data parallel training on the digits of scikit-learn, with peers that come and go. The environment says where the master is, which
data this peer draws, and at which revision it ends in the middle of a step, if it does. `test_older_script.py` runs it.
"""

import hashlib
import os
import time

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from pccl import *
from sklearn.datasets import load_digits

HOST = os.environ["MASTER"]
RANK = int(os.environ["RANK"])
DIE_AT = int(os.environ.get("DIE_AT", -1))
BATCH_SIZE = 32
MAX_STEPS = 120
FIRST_QUANTIZED = 100
# At these revisions the run waits for peers.
WAIT_AT = (0, 60)
WAIT_FOR = 3


class NeuralNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))


def log(text):
    print(f"(RANK={RANK}) {text}", flush=True)


def shared_state_of(model, optimizer):
    tensors = {}
    for name, param in model.named_parameters():
        tensors[name] = param
        tensors[name + "_m1"] = optimizer.state[param]["exp_avg"]
        tensors[name + "_m2"] = optimizer.state[param]["exp_avg_sq"]
        tensors[name + "_step"] = optimizer.state[param]["step"]
    infos = [TensorInfo.from_torch(tensor, name, allow_content_inequality=False) for name, tensor in tensors.items()]
    # By address, as older code has it; what each peer may have for itself.
    samples = np.zeros(4, dtype=np.float32)
    infos.append(
        TensorInfo(
            "samples",
            samples.ctypes.data,
            numel=samples.size,
            dtype=DataType.from_numpy_dtype(samples.dtype),
            device_type=DeviceType.CPU,
            allow_content_inequality=True,
        )
    )
    return SharedState(infos), samples


def update_topology(communicator):
    """Whether peers were let in."""
    while True:
        try:
            if not communicator.are_peers_pending():
                return False
            communicator.update_topology()
            return True
        except PCCLError as e:
            log(f"updating the topology failed: {e}; retrying...")
            time.sleep(0.1)


def optimize_topology(communicator):
    try:
        communicator.optimize_topology()
    except PCCLError as e:
        log(f"optimizing the topology failed: {e}")


def synchronize(communicator, shared_state):
    while True:
        try:
            return communicator.sync_shared_state(shared_state, SharedStateSyncStrategy.ENFORCE_POPULAR)
        except PCCLError as e:
            if e.result == Result.TOO_FEW_PEERS:
                return None
            log(f"synchronizing failed: {e}; retrying...")


def average_at_once(communicator, model):
    """All gradients side by side, in one operation."""
    grads = torch.cat([p.grad.view(-1) for p in model.parameters()]).contiguous()
    summed = torch.empty_like(grads)
    world_size = communicator.get_attribute(Attribute.LOCAL_WORLD_SIZE)
    while world_size > 1:
        handle = communicator.all_reduce_async(
            grads,
            summed,
            op=ReduceOp.SUM,
            tag=0,
            operand_descriptor=ReduceOperandDescriptor(
                datatype=DataType.from_torch_dtype(grads.dtype), distribution_hint=DistributionHint.NORMAL
            ),
            quantization_options=QuantizationOptions(
                quantized_datatype=DataType.FLOAT, algorithm=QuantizationAlgorithm.NONE
            ),
        )
        is_success, status, info = handle.wait()
        world_size = communicator.get_attribute(Attribute.LOCAL_WORLD_SIZE)
        if not is_success:
            log(f"the all-reduce failed with {Result(status)}; retrying...")
            continue
        grads = summed / info.local_world_size
        break
    at = 0
    for p in model.parameters():
        p.grad.copy_(grads[at : at + p.numel()].view_as(p))
        at += p.numel()


def average_one_by_one(communicator, model):
    """Each parameter's in an operation of its own, quantized."""
    descriptors = [
        ReduceOpDescriptor.from_torch(
            p.grad,
            p.grad,
            ReduceDescriptor(
                count=p.numel(),
                op=ReduceOp.AVG,
                tag=tag,
                operand_descriptor=ReduceOperandDescriptor(datatype=DataType.FLOAT, distribution_hint=DistributionHint.NORMAL),
                quantization_options=QuantizationOptions(
                    quantized_datatype=DataType.UINT8, algorithm=QuantizationAlgorithm.MIN_MAX
                ),
            ),
        )
        for tag, p in enumerate(model.parameters())
    ]
    try:
        info = communicator.all_reduce_multiple_with_retry(descriptors, max_in_flight=4)
    except PCCLError as e:
        if e.result != Result.TOO_FEW_PEERS:
            raise
        return
    assert info.local_world_size > 1 and info.tx_bytes > 0 and info.rx_bytes > 0


def main():
    torch.manual_seed(42 + RANK)
    torch.set_num_threads(1)
    digits = load_digits()
    images = torch.tensor(digits.data / 16, dtype=torch.float32)
    targets = torch.tensor(digits.target)
    train, test = slice(0, 1500), slice(1500, None)

    model = NeuralNet()
    optimizer = optim.Adam(model.parameters(), lr=0.005)
    # A step without gradient, so that the optimizer has its tensors.
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    shared_state, samples = shared_state_of(model, optimizer)

    communicator = Communicator(HOST, 0)
    communicator.connect(n_attempts=15)
    log("connected")
    loss_fn = nn.CrossEntropyLoss()
    losses = []
    num_syncs = 0
    i = 0
    while True:
        i += 1
        topology_updated = update_topology(communicator) if i > 1 else True
        world_size = communicator.get_attribute(Attribute.GLOBAL_WORLD_SIZE)
        if world_size < 2 or (shared_state.revision in WAIT_AT and world_size < WAIT_FOR):
            time.sleep(0.05)
            continue
        if topology_updated:
            optimize_topology(communicator)
        sync_info = synchronize(communicator, shared_state)
        if sync_info is None:
            continue
        num_syncs += 1
        if num_syncs > 1:
            assert sync_info.rx_bytes == 0, "what all have computed alike need not travel"
        if shared_state.revision >= MAX_STEPS:
            break
        if shared_state.revision == DIE_AT:
            log("dies")
            os._exit(9)

        picked = torch.randint(1500, (BATCH_SIZE,))
        optimizer.zero_grad()
        loss = loss_fn(model(images[train][picked]), targets[train][picked])
        loss.backward()
        if shared_state.revision < FIRST_QUANTIZED:
            average_at_once(communicator, model)
        else:
            average_one_by_one(communicator, model)
        optimizer.step()
        samples += BATCH_SIZE
        losses.append(loss.item())
        if i % 5 == 0:
            log(f"revision {shared_state.revision}, world size {world_size}, loss {loss.item():.4f}")
        shared_state.push_revision()

    digest = hashlib.sha256()
    for p in model.parameters():
        digest.update(p.detach().numpy().tobytes())
    with torch.no_grad():
        accuracy = (model(images[test]).argmax(1) == targets[test]).float().mean().item()
    print(f"END {digest.hexdigest()} {accuracy:.3f}", flush=True)


if __name__ == "__main__":
    main()
