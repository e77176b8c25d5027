"""PyTorch's own tests of RPC, distributed autograd and remote modules pass with ranks of different releases.

Every variant is one test of `torch/testing/_internal/distributed/rpc`, named by its class, which each rank runs out of
the wheel of its own release, over TensorPipe and a file:// rendezvous. A test is written for a number of ranks, mostly
four; in a world of another size it is unsupported. The oracle is the suite's own, as in the scenario `suite`. The
variants below are those that the gate runs; `torchskew suite --suite rpc` runs every test that the releases have.
"""

KIND = "group"
WORLD = (2, 8)
AFTER = ("rendezvous_file",)
GUARD = ("off",)
RENDEZVOUS = "file"
NEEDS = ("tensorpipe", "shared folder", "expecttest", "hypothesis", "numpy")
REQUIRES = ("expecttest", "hypothesis", "numpy", "setuptools")
WARM = ("torchskew_suite:import_rpc",)
AGENT = "suite"
PATIENCE = 20.0

_TESTS = (
    "TensorPipeRemoteModuleTest.test_forward_sync",
    "TensorPipeRemoteModuleTest.test_remote_module_py_pickle_supported",
)
VARIANTS = {name: {"predicted": ()} for name in _TESTS}


def lacks(job):
    import torchskew_suite as suite

    return suite.lacking("rpc", VARIANTS)


def rank(job):
    import torchskew_suite as suite

    return suite.run(job, "rpc")


def judge(reports, world):
    from torchskew.judging.suite import failed_assertions

    return failed_assertions(reports)
