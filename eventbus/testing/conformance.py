"""The promises of `eventbus.transports.contract`, as tests that every transport has to pass. Needs pytest.

For the author of a transport: derive a class whose name begins with `Test`, declare the features, and make transports::

    class TestMine(TransportConformance):
        features = Features(bounded_send=False)

        @pytest.fixture
        def make_transport(self) -> Iterator[MakeTransport]:
            with my_server() as server:
                yield lambda: MyTransport(server.address)
"""

import pytest

pytest.register_assert_rewrite("eventbus.testing._transport_suite")  # before it is imported, so that failures are explained

from eventbus.testing._transport_suite import Features, MakeTransport, TransportConformance  # noqa: E402

__all__ = ["Features", "MakeTransport", "TransportConformance"]
