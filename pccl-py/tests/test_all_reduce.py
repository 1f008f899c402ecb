"""The module with nothing but the standard library: a master and two peers, as threads of this process."""

import array
import subprocess
import sys
import threading
import unittest

import pccl

LIMIT_S = 60


def in_threads(*functions):
    """Runs all at once, and gives what they return or raises what the first of them raised."""
    results = [None] * len(functions)
    errors = []

    def run(index, function):
        try:
            results[index] = function()
        except BaseException as error:  # noqa: BLE001: it is raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
        if thread.is_alive():
            raise AssertionError(f"still waiting after {LIMIT_S} s, others raised {errors}")
    if errors:
        raise errors[0]
    return results


class RunOfTwo(unittest.TestCase):
    def setUp(self):
        self.master = pccl.MasterNode("127.0.0.1:0")
        self.master.run()
        self.addCleanup(self.master.interrupt)
        self.first = pccl.Communicator(self.master.address)
        self.addCleanup(self.first.destroy)
        self.first.connect()
        self.second = pccl.Communicator(self.master.address)
        self.addCleanup(self.second.destroy)

        def admit():
            while self.first.get_attribute(pccl.Attribute.GLOBAL_WORLD_SIZE) < 2:
                self.first.update_topology()

        in_threads(self.second.connect, admit)
        self.assertEqual(self.second.get_attribute(pccl.Attribute.GLOBAL_WORLD_SIZE), 2)


class Reduces(RunOfTwo):
    def test_sums_are_the_same_at_both(self):
        inputs = [array.array("f", [rank + i / 2 for i in range(1000)]) for rank in (1, 2)]
        outputs = [array.array("f", bytes(4000)) for _ in inputs]
        infos = in_threads(
            lambda: self.first.all_reduce(inputs[0], outputs[0], op=pccl.ReduceOp.SUM, tag=7),
            lambda: self.second.all_reduce(inputs[1], outputs[1], op=pccl.ReduceOp.SUM, tag=7),
        )
        self.assertEqual(list(outputs[0]), [3.0 + i for i in range(1000)])
        self.assertEqual(outputs[0].tobytes(), outputs[1].tobytes())
        self.assertEqual([info.local_world_size for info in infos], [2, 2])
        self.assertGreater(infos[0].tx_bytes, 0)

    def test_in_place_and_other_types(self):
        for code, values in (("q", [5, -7, 1 << 40]), ("B", [1, 2, 3]), ("d", [0.5, -0.25, 1e300])):
            buffers = [array.array(code, values), array.array(code, values)]
            in_threads(
                lambda: self.first.all_reduce(buffers[0], op=pccl.ReduceOp.MAX),
                lambda: self.second.all_reduce(buffers[1], op=pccl.ReduceOp.MAX),
            )
            self.assertEqual([list(b) for b in buffers], [values, values])

    def test_disagreement_is_an_error_at_both(self):
        def reduce(comm, count):
            with self.assertRaises(pccl.PCCLError) as caught:
                comm.all_reduce(array.array("f", [1.0] * count), tag=3)
            self.assertIs(caught.exception.result, pccl.Result.INVALID_ARGUMENT)

        in_threads(lambda: reduce(self.first, 10), lambda: reduce(self.second, 11))

    def test_what_does_not_fit_is_refused_before_anything_is_sent(self):
        f, d = array.array("f", [1.0]), array.array("d", [1.0])
        with self.assertRaisesRegex(ValueError, "must be alike"):
            self.first.all_reduce(f, d)
        with self.assertRaisesRegex(ValueError, "read-only"):
            self.first.all_reduce(b"abcd")
        with self.assertRaisesRegex(ValueError, "no elements"):
            self.first.all_reduce(bytearray())
        with self.assertRaisesRegex(TypeError, "list"):
            self.first.all_reduce([1.0])

    def test_nobody_is_pending(self):
        self.assertEqual(in_threads(self.first.are_peers_pending, self.second.are_peers_pending), [False, False])


class Alone(unittest.TestCase):
    def test_an_all_reduce_alone_has_too_few_peers(self):
        with pccl.MasterNode("127.0.0.1:0") as master:
            master.run()
            with pccl.Communicator(master.address) as comm:
                comm.connect()
                with self.assertRaises(pccl.PCCLError) as caught:
                    comm.all_reduce(array.array("f", [1.0]))
                self.assertIs(caught.exception.result, pccl.Result.TOO_FEW_PEERS)

    def test_a_master_that_is_not_there_is_an_error_with_its_address(self):
        with pccl.MasterNode("127.0.0.1:0") as master:
            master.run()
            address = master.address
        with pccl.Communicator(address) as comm:
            with self.assertRaises(pccl.PCCLError) as caught:
                comm.connect(n_attempts=1)
            self.assertIs(caught.exception.result, pccl.Result.MASTER_CONNECTION_FAILED)
            self.assertIn(address, str(caught.exception))

    def test_a_port_in_use_is_an_error(self):
        with pccl.MasterNode("127.0.0.1:0") as master:
            master.run()
            with self.assertRaises(pccl.PCCLError), pccl.MasterNode(master.address) as other:
                other.run()

    def test_a_destroyed_communicator_says_so(self):
        comm = pccl.Communicator("127.0.0.1:1")
        comm.destroy()
        with self.assertRaises(pccl.PCCLError) as caught:
            comm.connect()
        self.assertIs(caught.exception.result, pccl.Result.INVALID_USAGE)

    def test_import_brings_in_neither_numpy_nor_torch(self):
        check = "import sys, pccl; sys.exit(bool({'numpy', 'torch'} & set(sys.modules)))"
        self.assertEqual(subprocess.run([sys.executable, "-c", check], check=False).returncode, 0)


try:
    import numpy
except ImportError:
    numpy = None


class Arrays(RunOfTwo):
    @unittest.skipUnless(numpy, "numpy is not installed")
    def test_numpy_arrays_are_reduced_where_they_are(self):
        arrays = [numpy.full((4, 5), rank, dtype=numpy.float16) for rank in (1, 2)]
        in_threads(lambda: self.first.all_reduce(arrays[0]), lambda: self.second.all_reduce(arrays[1]))
        self.assertTrue((arrays[0] == 3).all() and (arrays[1] == 3).all())
        with self.assertRaisesRegex(ValueError, "contiguous"):
            self.first.all_reduce(numpy.zeros((4, 4)).T[1:])


if __name__ == "__main__":
    unittest.main()
