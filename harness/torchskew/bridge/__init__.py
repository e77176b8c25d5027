"""The bridge: a store server for ranks of every PyTorch release from 1.9 on; imports nothing of ours.

Standard library only, in the syntax of Python 3.8, so that it can run beside a job without the harness.
"""
