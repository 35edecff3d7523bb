"""The progress bar."""

import io

from eventbus.cli.bar import Bar, bar


def test_how_it_looks() -> None:
    """A name, a bar and how much of all is done; never less than nothing or more than all."""
    assert bar("throughput", 0) == f"{'throughput':24}{'░' * 30}   0 %"
    assert bar("throughput", 0.5) == f"{'throughput':24}{'█' * 15}{'░' * 15}  50 %"
    assert bar("throughput", 1) == bar("throughput", 1.5) == f"{'throughput':24}{'█' * 30} 100 %"
    assert bar("throughput", -1) == bar("throughput", 0)


def test_nothing_where_there_is_no_terminal() -> None:
    """In a pipe or a file not a byte is written."""
    stream = io.StringIO()
    with Bar("throughput", 100, stream) as progress:
        progress(50)
    assert stream.getvalue() == ""
