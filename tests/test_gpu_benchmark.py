"""The script for machines with a GPU runs: here in small, on the CPU; there in full by hand."""

import pytest
import torch

from benchmarks.gpu import rows


def test_every_part_gives_its_rows_on_a_cpu():
    table = list(rows(torch.device("cpu"), tiny=True))
    told = {what for what, _, _ in table}
    for part in ("bfloat16 Conv3d, channels last", "copy bandwidth", "loss of 200 voxels, in blocks of 8192"):
        assert part in told
    assert sum(what.startswith("step, ") for what in told) == 5
    assert any(what.startswith("loader, ") for what in told)
    assert not [row for row in table if row[1] == "failed"]
    assert all(note == "ok" for what, _, note in table if "Conv3d" in what)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_every_part_gives_its_rows_on_a_gpu():
    assert not [row for row in rows(torch.device("cuda"), tiny=True) if row[1] == "failed"]
