"""The registry, with distributions that are really installed: names, URIs, and everything that can be wrong with a plugin."""

import importlib.metadata
import sys
from collections.abc import Callable

import pytest

from tunewright import PluginConflict, PluginError, PluginLoadError, PluginNotFound, RequestError, errors
from tunewright.plugins.registry import Registry
from tunewright.testing import HEAVY_MODULES

Install = Callable[..., None]
BROKEN = {
    "import": "import a_library_that_nobody_has",
    "exit": "raise SystemExit('no credentials')",
    "exit without a word": "import sys; sys.exit()",
    "syntax": "def broken(:",
    "value": "raise ValueError('of itself')",
    "missing attribute": "from tunewright import ThisIsNotThere",
    "an error without words": "class Silent(BaseException):\n    def __str__(self): raise ValueError\nraise Silent",
    "an interrupt of its own": "raise type('Interrupted', (KeyboardInterrupt,), {})",
    "a hook's wrong name": "from tunewright import hookimpl\n@hookimpl\ndef tunewright_datset_provider(): ...",
    "a hook's wrong argument": "from tunewright import hookimpl\n@hookimpl\ndef tunewright_modify_plan(plans): ...",
}


def test_a_plugin_is_found_by_its_name(site) -> None:
    site.providers("acme", version="2.3")
    plugin = Registry().get("acme")
    assert (plugin.name, plugin.dist, plugin.version) == ("acme", "tunewright-acme", "2.3")
    assert plugin.kinds() == ["model", "dataset", "trainer"]
    assert [plugin.provider(kind).__name__ for kind in ("model", "dataset", "trainer")] == ["Model", "Data", "Trainer"]


@pytest.mark.parametrize(
    "uri", ["acme://sales", "ACME://sales", "acme+https://host/sales", "acme+x.y-z://sales", "acme:sales"]
)
def test_a_uris_scheme_before_a_plus_selects_the_plugin(site, uri: str) -> None:
    site.providers("acme")
    assert Registry().for_uri(uri, "dataset").name == "acme"


@pytest.mark.parametrize("uri", ["sales", "./sales", "", "://sales", "1acme://sales", "ac me://sales"])
def test_what_has_no_scheme_is_refused_with_the_field(site, uri: str) -> None:
    with pytest.raises(RequestError, match=r"dataset=.*is not a URI.*hf://") as caught:
        Registry().for_uri(uri, "dataset")
    assert repr(uri) in str(caught.value)


def test_the_built_ins_come_through_the_same_door(site) -> None:
    assert {"file", "pvc", "local", "kubernetes"} <= set(Registry().names())
    assert Registry().get("file").dist == "tunewright"


def test_a_plugin_is_imported_when_it_is_asked_for_and_not_before(site) -> None:
    site.providers("acme")
    site.providers("other")
    registry = Registry()
    assert {"acme", "other"} <= set(registry.names())
    assert not {"tw_acme", "tw_other"} & set(sys.modules)
    registry.get("acme")
    assert "tw_acme" in sys.modules
    assert "tw_other" not in sys.modules


def test_a_plugin_is_loaded_once(site) -> None:
    site.providers("acme")
    registry = Registry()
    assert registry.get("acme") is registry.for_uri("acme://x", "model")


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_reported_when_asked_for_and_disturbs_nobody(site, text: str) -> None:
    site.install("tunewright-bad", {"bad": "tw_bad"}, tw_bad=text)
    site.providers("acme")
    registry = Registry()
    assert registry.get("acme").provider("dataset")
    with pytest.raises(PluginLoadError, match=r"'bad' of distribution tunewright-bad could not be loaded") as caught:
        registry.get("bad")
    assert (caught.value.name, caught.value.dist) == ("bad", "tunewright-bad")
    assert "Reinstall tunewright-bad from where you have it, or uninstall it." in str(caught.value)
    assert "pip install" not in str(caught.value), "whoever has that name on the public index is not known"
    assert registry.for_uri("acme://x", "model").provider("model")


@pytest.mark.parametrize("name", ["Terminated", "Interrupted"])
@pytest.mark.parametrize("hook", [False, True])
def test_a_signal_while_a_plugin_loads_is_no_failure_of_it(site, name: str, hook: bool) -> None:
    text = f"from tunewright.errors import {name}\n"
    if hook:
        text += f"from tunewright import hookimpl\n@hookimpl\ndef tunewright_model_provider():\n    raise {name}\n"
    site.install(
        "tunewright-signalled", {"signalled": "tw_signalled"}, tw_signalled=text + ("" if hook else f"raise {name}")
    )
    with pytest.raises(getattr(errors, name)):
        Registry().get("signalled").provider("model")


def test_the_message_of_a_broken_plugin_has_the_cause(site) -> None:
    site.install("tunewright-bad", {"bad": "tw_bad"}, tw_bad=BROKEN["import"])
    with pytest.raises(PluginLoadError, match=r"No module named 'a_library_that_nobody_has'") as caught:
        Registry().get("bad")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_the_message_of_a_wrong_hook_names_it(site) -> None:
    site.install("tunewright-bad", {"bad": "tw_bad"}, tw_bad=BROKEN["a hook's wrong name"])
    with pytest.raises(PluginLoadError, match=r"tunewright_datset_provider"):
        Registry().get("bad")


def test_a_missing_trainer_is_told_with_the_trainers_that_there_are(site) -> None:
    site.providers("acme")
    site.install("tunewright-bad", {"bad": "tw_nowhere"})
    registry = Registry()
    with pytest.raises(PluginNotFound) as caught:
        registry.get("axolotl", kind="trainer")
    assert str(caught.value).startswith("No installed trainer is named 'axolotl'. Install the package")
    trainers = str(caught.value).partition("Installed trainers: ")[2].rstrip(".").split(", ")
    assert "acme" in trainers
    assert not {"local", "kubernetes", "bad"} & set(trainers)


@pytest.mark.parametrize("value", ["tw_bad:missing", "tw_nowhere", "tw_bad:a.b"])
def test_an_entry_point_to_nothing_is_a_broken_plugin(site, value: str) -> None:
    site.install("tunewright-bad", {"bad": value}, tw_bad="")
    with pytest.raises(PluginLoadError, match="could not be loaded"):
        Registry().get("bad")


@pytest.mark.parametrize(
    ("group", "upgrade"),
    [
        ("tunewright.v0", "Upgrade tunewright-old from where you have it."),
        ("tunewright.v2", "Upgrade it: `pip install --upgrade tunewright`."),
        ("tunewright.v10", "Upgrade it: `pip install --upgrade tunewright`."),
    ],
)
def test_another_api_version_names_what_to_upgrade(site, group: str, upgrade: str) -> None:
    site.providers("old", group=group)
    site.providers("acme")
    registry = Registry()
    api = group.removeprefix("tunewright.")
    with pytest.raises(
        PluginLoadError, match=rf"tunewright-old was made for plugin API {api}, .* has plugin API v1"
    ) as caught:
        registry.get("old")
    assert str(caught.value).endswith(upgrade)
    assert "tw_old" not in sys.modules
    assert "old" not in registry.names()
    assert registry.get("acme")


def test_a_plugin_for_two_api_versions_is_used_by_its_own(site) -> None:
    site.providers("acme")
    site.install("tunewright-acme-next", {"acme": "tw_nowhere"}, group="tunewright.v2")
    assert Registry().get("acme").dist == "tunewright-acme"


def test_two_distributions_that_claim_one_name_are_a_conflict_of_that_name_alone(site) -> None:
    site.providers("acme")
    site.install("someone-elses-acme", {"acme": "tw_other"}, tw_other="raise SystemExit")
    site.providers("fine")
    registry = Registry()
    expected = r"'acme' is registered by several distributions: someone-elses-acme, tunewright-acme\. Uninstall"
    with pytest.raises(PluginConflict, match=expected) as caught:
        registry.get("acme")
    assert caught.value.dist == "someone-elses-acme, tunewright-acme"
    assert not {"tw_acme", "tw_other"} & set(sys.modules)
    assert registry.get("fine")


def test_a_distribution_that_is_named_is_all_that_is_looked_at(site, monkeypatch) -> None:
    site.providers("acme")
    site.install("someone-elses-acme", {"acme": "tw_other"}, tw_other="raise SystemExit")
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "distributions", None)
        assert Registry().get("acme", dist="Tunewright_Acme").dist == "tunewright-acme"
    assert "tw_other" not in sys.modules


@pytest.mark.parametrize("dist", ["", "not-installed", "tunewright-other", "acme-of-another-api"])
def test_a_distribution_that_does_not_register_the_name_says_nothing_about_it(site, dist: str) -> None:
    site.providers("acme")
    site.providers("other")
    site.install("acme-of-another-api", {"acme": "tw_nowhere"}, group="tunewright.v2")
    assert Registry().get("acme", dist=dist).dist == "tunewright-acme"


def test_a_stranger_cannot_take_a_built_in_name_in_silence(site) -> None:
    site.install("evil", {"file": "tw_evil"}, tw_evil="raise SystemExit")
    with pytest.raises(PluginConflict, match="evil, tunewright"):
        Registry().for_uri("file:///a", "model")


def test_of_two_versions_of_a_distribution_the_first_on_the_path_counts(site, monkeypatch, tmp_path) -> None:
    site.providers("acme", version="1.0")
    later = type(site)(tmp_path / "later")
    later.folder.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(later.folder)])
    later.providers("acme", version="0.5")
    assert Registry().get("acme").version == "1.0"


def test_a_missing_package_is_named_only_if_it_is_known(site) -> None:
    site.providers("acme")
    with pytest.raises(PluginNotFound, match=r"Install the package that .*\. Installed plugins: acme, ") as caught:
        Registry().for_uri("nowhere://x", "model")
    assert caught.value.name == "nowhere"
    assert "Did you mean" not in str(caught.value)
    assert "pip install" not in str(caught.value)  # anybody could register that name
    with pytest.raises(PluginNotFound, match=r"Install .* provides it: `pip install tunewright-s3`"):
        Registry(entry_points=[]).get("s3")


def test_a_name_that_is_nearly_right_is_asked_about(site) -> None:
    site.providers("acme")
    with pytest.raises(PluginNotFound, match=r"Did you mean 'acme'\? Otherwise install the package"):
        Registry().get("acne")


def test_a_plugin_without_the_kind_says_what_it_gives(site) -> None:
    with pytest.raises(PluginError, match=r"'file' does not provide a trainer; it provides model, dataset"):
        Registry().get("file").provider("trainer")


FAULTS = {
    "no class": ("return 42", "returned 42, which is not a subclass of DatasetProvider"),
    "an instance": ("return object()", "is not a subclass of DatasetProvider"),
    "nothing": ("return None", "returned None, which is not a subclass of DatasetProvider"),
    "another kind": ("return Model", "is not a subclass of DatasetProvider"),
    "abstract": (
        "@attrs.frozen(kw_only=True)\n    class Data(DatasetProvider): ...\n    return Data",
        "class Data does not implement download_dataset",
    ),
    "fields without attrs": (
        "class Data(DatasetProvider):\n        n: int = 1\n        def download_dataset(self, target): ...\n    return Data",
        "class Data has fields but no @attrs.frozen",
    ),
    "a secret without attrs": (
        "class Data(DatasetProvider):\n        t = secret(env='T')\n        def download_dataset(self, target): ...\n    return Data",
        "class Data has fields but no @attrs.frozen",
    ),
    "fields of a base without attrs": (
        "class Base(DatasetProvider):\n        n: int = 1\n        def download_dataset(self, target): ...\n"
        "    @attrs.frozen(kw_only=True)\n    class Data(Base): ...\n    return Data",
        "class Base has fields but no @attrs.frozen",
    ),
    "a hook that raises": ("import a_library_that_nobody_has", "No module named 'a_library_that_nobody_has'"),
    "a hook that exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "a hook that refuses": (
        "from tunewright import RequestError; raise RequestError('not so', field='a', remedy='So.')",
        "RequestError: a: not so",
    ),
    "a hook that panics": ("raise type('Panic', (BaseException,), {})('x')", "Panic: x"),
}


@pytest.mark.parametrize(("body", "says"), FAULTS.values(), ids=FAULTS)
def test_a_class_that_breaks_the_contract_is_reported_for_its_author(site, body: str, says: str) -> None:
    text = "\nimport attrs\nfrom tunewright import *\n@hookimpl\ndef tunewright_dataset_provider():\n    "
    model = "\n@attrs.frozen(kw_only=True)\nclass Model(ModelProvider):\n    def download_model(self, target): ...\n"
    site.install("tunewright-bad", {"bad": "tw_bad"}, tw_bad=text + body + model)
    registry = Registry()
    with pytest.raises(
        PluginLoadError, match=r"'bad' of distribution tunewright-bad violates the plugin contract"
    ) as caught:
        registry.get("bad").provider("dataset")
    assert says in str(caught.value)
    assert registry.get("file").provider("dataset")


def test_a_class_without_fields_of_its_own_needs_no_decorator(site) -> None:
    text = (
        "from typing import ClassVar\nfrom tunewright import *\nclass Data(DatasetProvider):\n"
        "    extra: ClassVar[str] = 'fetch'\n    def download_dataset(self, target): ...\n"
        "@hookimpl\ndef tunewright_dataset_provider(): return Data"
    )
    site.install("tunewright-plain", {"plain": "tw_plain"}, tw_plain=text)
    assert Registry().get("plain").provider("dataset")(uri="plain://x").extra == "fetch"


def test_the_list_of_plugins_may_be_given(site) -> None:
    site.providers("acme")
    from importlib.metadata import EntryPoint

    registry = Registry([EntryPoint("mine", "tw_acme", "tunewright.v1"), EntryPoint("x", "tw_acme", "console_scripts")])
    assert registry.names() == ["mine"]
    assert registry.get("mine").provider("trainer").__name__ == "Trainer"


def test_a_module_finds_the_plugins_of_its_own_package(site) -> None:
    site.providers("acme")
    site.install("tunewright-bad", {"bad": "tw_bad"}, tw_bad=BROKEN["import"])
    assert [plugin.name for plugin in Registry().from_module("tw_acme.deep.module")] == ["acme"]


def test_the_registry_imports_nothing_heavy(site) -> None:
    import json
    import subprocess

    code = (
        "import json, sys; from tunewright.plugins.registry import Registry; Registry().names();"
        f"print(json.dumps([m for m in {HEAVY_MODULES} if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


ALWAYS = """
always = True

@hookimpl
def tunewright_modify_plan(plan, request):
    return attrs.evolve(plan, labels={**plan.labels, "team": "research"})
"""


def test_a_company_wide_plugin_is_found_without_importing_others(site) -> None:
    site.providers("acme", extra="\n# It does not say always.\n")
    site.providers("policy", extra=ALWAYS)
    registry = Registry()
    assert [plugin.name for plugin in registry.always()] == ["policy"]
    assert registry.get("policy").always
    assert not Registry().get("acme").always
    assert "tw_policy" in sys.modules


def test_a_company_wide_plugin_may_be_a_module_of_a_package_or_an_object(site) -> None:
    package = site.folder / "tw_company" / "policies"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("imported = True")
    (package / "__init__.py").write_text("from tunewright import hookimpl\nimport attrs\n" + ALWAYS)
    text = "from tunewright import hookimpl\nclass Rules:\n    always: bool = True\n    @hookimpl\n"
    text += "    def tunewright_modify_plan(self, plan, request): return plan\nrules = Rules()\n"
    site.install("tunewright-company", {"company": "tw_company.policies", "rules": "tw_rules:rules"}, tw_rules=text)
    assert [plugin.name for plugin in Registry().always()] == ["company", "rules"]


def test_a_broken_company_wide_plugin_is_not_passed_over(site) -> None:
    site.install("tunewright-policy", {"policy": "tw_policy"}, tw_policy=f"import attrs\nraise ValueError\n{ALWAYS}")
    with pytest.raises(PluginLoadError, match="'policy' of distribution tunewright-policy could not be loaded"):
        Registry().always()


def test_a_company_wide_plugin_without_its_hook_breaks_the_contract(site) -> None:
    site.providers("policy", extra="\nalways = True\n")
    with pytest.raises(PluginLoadError, match=r"'policy' .* has no hook tunewright_modify_plan"):
        Registry().get("policy").check()


def test_metadata_that_cannot_be_read_hides_no_plugin(site) -> None:
    site.providers("acme")
    site.install("tunewright-torn", {"torn": "tw_torn"})
    points = site.folder / "tunewright_torn-1.0.dist-info" / "entry_points.txt"
    site.install("tunewright-empty", {"empty": ""})
    site.install("tunewright-odd", {"odd": "no module!:at all"})
    for text in (b"[tunewright.v1]\na line without a value\n", b"[tunewright.v1]\n\xff = x\n"):
        points.write_bytes(text)
        registry = Registry()
        assert "acme" in registry.names()
        assert registry.get("acme").kinds()
        assert [p.name for p in registry.from_module("tw_acme")] == ["acme"]
        assert registry.always() == []
        for name in ("empty", "odd"):
            with pytest.raises(PluginLoadError, match=f"'{name}' .* could not be loaded"):
                registry.get(name)


def test_a_distribution_without_a_name_hides_no_plugin(site) -> None:
    site.providers("acme")
    site.install("tunewright-lost", {"lost": "tw_lost"}, tw_lost="")
    (site.folder / "tunewright_lost-1.0.dist-info" / "METADATA").write_text("")
    registry = Registry()
    assert registry.distributions()["tunewright-acme"] == "1.0"
    assert registry.get("lost").dist


def test_two_secret_fields_do_not_share_a_variable(site) -> None:
    site.providers("acme")
    module = site.folder / "tw_acme.py"
    fields = "    first: object = secret(env='ACME_TOKEN')\n    second: object = secret(env='ACME_TOKEN')\n"
    text = module.read_text().replace("    def download_dataset", f"{fields}\n    def download_dataset")
    module.write_text(f"from tunewright import secret\n{text}")
    with pytest.raises(PluginLoadError, match="first and second, which share the variable ACME_TOKEN"):
        Registry().get("acme").provider("dataset")
