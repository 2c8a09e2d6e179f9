"""What the plan calls a secret is shown by no step, whichever container it was given to."""

from tunewright.runner.messages import without_secrets
from tunewright_launcher.failure import Secrets


def test_the_variables_that_the_plan_names_are_secrets() -> None:
    secrets = Secrets()
    secrets.learn_named({"TUNEWRIGHT_SECRETS": "PROXY,GONE", "PROXY": "http://me:pass word@proxy", "PLAIN": "plain"})
    text = "plain http://me:pass word@proxy http%3A%2F%2Fme%3Apass%20word%40proxy"
    assert secrets.redact(text) == "plain <redacted> <redacted>"


def test_without_names_nothing_is_redacted() -> None:
    secrets = Secrets()
    secrets.learn_named({"A": "text"})
    assert secrets.redact("text") == "text"


def test_a_value_of_some_letters_does_not_take_the_letters_out_of_words() -> None:
    secrets = Secrets()
    env = {"TUNEWRIGHT_SECRETS": "USER,KEY", "USER": "me\n", "KEY": "the-key"}
    secrets.learn_named(env)
    text = "The server named the user me, and the-key."
    assert secrets.redact(text) == "The server named the user me, and <redacted>."
    assert without_secrets(text, env) == secrets.redact(text)
