"""The conformance kit: tests that every plugin should pass, with its container half run for real.

In the tests of your plugin, derive a class from the one for its kind. Set `name` to the name of the plugin, and let
`provider()` return a provider as a user would create it, with literals in as many secret fields as may be combined. The
fixture `served` has the service, real or fake, that the provider reads from:

    from tunewright.testing import DatasetProviderTests, Served
    from tunewright_acme import AcmeDataset


    class TestAcmeDataset(DatasetProviderTests):
        name = "acme"

        def provider(self) -> AcmeDataset:
            return AcmeDataset(uri="acme://sales", token="a-literal-for-the-test", version=2)

        @pytest.fixture
        def served(self) -> Iterator[Served]:
            with fake_service({"train.jsonl": b"…"}, token="the-right-token") as address:
                yield Served(
                    provider=AcmeDataset(uri="acme://sales", server=address, token="the-right-token"),
                    files={"train.jsonl": b"…"},
                )

pytest then collects the inherited tests. The plugin must be installed, possibly in editable mode, as the tests look it up
by its name, and so must the launcher: `pip install tunewright[local] pytest`. The container half runs in processes of its
own, with the folders and variables of a pod. For more detailed failures, add
`pytest.register_assert_rewrite("tunewright.testing")` to your conftest.py.

pytest is not a dependency of tunewright, and no other module imports it.
"""

from __future__ import annotations

from tunewright.testing._backends import BackendTests
from tunewright.testing._outputs import OutputTargetTests, Written
from tunewright.testing._plans import ModifyPlanTests
from tunewright.testing._providers import HEAVY_MODULES, PluginTests, ProviderTests
from tunewright.testing._sources import DatasetProviderTests, ModelProviderTests, Served, SourceProviderTests
from tunewright.testing._trainers import TrainerProviderTests, TrainInputs

__all__ = [
    "HEAVY_MODULES",
    "BackendTests",
    "DatasetProviderTests",
    "ModelProviderTests",
    "ModifyPlanTests",
    "OutputTargetTests",
    "PluginTests",
    "ProviderTests",
    "Served",
    "SourceProviderTests",
    "TrainInputs",
    "TrainerProviderTests",
    "Written",
]
