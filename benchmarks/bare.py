"""The limit and the naive ways, without any harness: `bare.py fork N` forks, `bare.py rank R PORT HOST` is one rank.

`fork N` imports torch once, then for each of N cells forks two ranks that meet, reduce and part; prints the
seconds per cell. `rank` imports torch, meets, reduces and parts: what a process or container per rank does.
"""

import datetime as dt
import os
import sys
import time


def ranks_part(rank, host, port):
    """Meet, reduce four numbers, part."""
    import torch
    import torch.distributed as dist

    limit = dt.timedelta(seconds=30)
    dist.init_process_group("gloo", f"tcp://{host}:{port}", rank=rank, world_size=2, timeout=limit)
    tensor = torch.ones(4) * (rank + 1)
    dist.all_reduce(tensor)
    assert tensor.tolist() == [3.0] * 4, tensor
    dist.destroy_process_group()


def forked(cells):
    """Seconds per cell of a bare fork of a pre-imported torch."""
    import gc
    import socket

    import torch
    import torch.distributed

    gc.freeze()
    begun = time.monotonic()
    for _ in range(cells):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        pids = []
        for rank in range(2):
            pid = os.fork()
            if pid == 0:
                torch.set_num_threads(1)
                ranks_part(rank, "127.0.0.1", port)
                os._exit(0)
            pids.append(pid)
        for pid in pids:
            assert os.waitpid(pid, 0)[1] == 0
    return (time.monotonic() - begun) / cells


if __name__ == "__main__":
    if sys.argv[1] == "fork":
        print(forked(int(sys.argv[2])))
    else:
        ranks_part(int(sys.argv[2]), sys.argv[4], int(sys.argv[3]))
