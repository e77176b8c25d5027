"""PyTorch's own tests of RPC, distributed autograd and remote modules pass with ranks of different releases.

Every variant is one test of `torch/testing/_internal/distributed/rpc`, named by its class, which each rank runs out of
the wheel of its own release, over TensorPipe and a file:// rendezvous. A test is written for a number of ranks, mostly
four; in a world of another size it is unsupported. The oracle is the suite's own, as in the scenario `suite`. The
variants below are those for two ranks; `torchskew suite --suite rpc` runs every test that the releases have.
"""

KIND = "group"
WORLD = (2, 2)  # of the variants below; `torchskew suite` gives each test the ranks that it is written for
AFTER = ("rendezvous_file",)
GUARD = ("off",)
RENDEZVOUS = "file"
NEEDS = ("tensorpipe", "shared folder", "expecttest", "hypothesis", "numpy")
REQUIRES = ("expecttest", "hypothesis", "numpy", "setuptools")
WARM = ("torchskew_suite:import_rpc",)
AGENT = "suite"
PATIENCE = 20.0

_TESTS = (
    "TensorPipeRemoteModuleTest.test_bad_module",
    "TensorPipeRemoteModuleTest.test_forward_async",
    "TensorPipeRemoteModuleTest.test_forward_async_script",
    "TensorPipeRemoteModuleTest.test_forward_sync",
    "TensorPipeRemoteModuleTest.test_forward_sync_script",
    "TensorPipeRemoteModuleTest.test_forward_with_kwargs",
    "TensorPipeRemoteModuleTest.test_get_module_rref",
    "TensorPipeRemoteModuleTest.test_remote_module_py_pickle_not_supported",
    "TensorPipeRemoteModuleTest.test_remote_module_py_pickle_not_supported_script",
    "TensorPipeRemoteModuleTest.test_remote_parameters",
    "TensorPipeRemoteModuleTest.test_send_remote_module_with_a_new_attribute_not_pickled_over_the_wire",
    "TensorPipeRemoteModuleTest.test_train_eval",
    "TensorPipeRemoteModuleTest.test_unsupported_methods",
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
