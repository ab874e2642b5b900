"""For tests of what is built on MageFlow; needs the extra `testing`."""

import pytest

pytest.register_assert_rewrite("mageflow.testing.contracts")
