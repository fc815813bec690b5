"""Kubeconfigs and what a pod finds, read strictly.

What is not understood is refused with a sentence.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from election.stores.errors import BadAccess
from election.stores.kubernetes.kubeconfig import from_kubeconfig, in_cluster, load, signature

Json = dict[str, object]


def config(
    path: Path, user: Json | None = None, cluster: Json | None = None, **more: object
) -> Path:
    """Write a kubeconfig with one context and return its path."""
    content = {
        "clusters": [
            {"name": "c", "cluster": {"server": "https://192.0.2.1:6443/", **(cluster or {})}}
        ],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [
            {"name": "x", "context": {"cluster": "c", "user": "u"}},
            {"name": "y", "context": {"cluster": "c", "user": "none"}},
        ],
        "current-context": "x",
        **more,
    }
    path.write_text(json.dumps(content))
    return path


def data(text: str) -> str:
    """Return what stands under a key that ends in -data."""
    return base64.b64encode(text.encode()).decode()


def test_a_token_and_a_ca(tmp_path: Path) -> None:
    """The usual kubeconfig of a service account."""
    access = from_kubeconfig(
        config(tmp_path / "k", {"token": "t"}, {"certificate-authority-data": data("CA")}), ""
    )
    assert (access.server, access.token, access.ca, access.verify) == (
        "https://192.0.2.1:6443",
        "t",
        b"CA",
        True,
    )
    assert access.files == (tmp_path / "k",)


def test_files_are_relative_to_the_kubeconfig(tmp_path: Path) -> None:
    """As with kubectl, and all of them are looked at for changes."""
    for name in ("ca", "cert", "key", "token"):
        (tmp_path / name).write_text(f"{name}\n")
    user: Json = {
        "client-certificate": "cert",
        "client-key": "key",
        "tokenFile": str(tmp_path / "token"),
        "token": "old",
    }
    access = from_kubeconfig(config(tmp_path / "k", user, {"certificate-authority": "ca"}), "x")
    assert (access.ca, access.cert, access.key, access.token) == (
        b"ca\n",
        b"cert\n",
        b"key\n",
        "token",
    )
    assert set(access.files) == {tmp_path / name for name in ("k", "ca", "cert", "key", "token")}
    before = signature(access.files)
    (tmp_path / "cert").write_text("renewed")
    assert signature(access.files) != before


def test_a_plugin_is_an_argv(tmp_path: Path) -> None:
    """A command with a slash is relative to the kubeconfig, one without is
    looked up in the path.
    """
    version = "client.authentication.k8s.io/v1"
    for command, program in (
        ("./bin/plug", str(tmp_path / "bin/plug")),
        ("plug", "plug"),
        ("/bin/plug", "/bin/plug"),
    ):
        said: Json = {
            "command": command,
            "apiVersion": version,
            "args": ["a b", 1],
            "env": [{"name": "N", "value": "v"}],
        }
        plugin = from_kubeconfig(config(tmp_path / "k", {"exec": said}), "").plugin
        assert plugin is not None
        assert plugin.argv == (program, "a b", "1")
        assert plugin.env == (("N", "v"),)
        assert plugin.cluster is None


def test_a_plugin_is_told_of_the_cluster_if_it_wants(tmp_path: Path) -> None:
    """As the documentation of provideClusterInfo says.

    The CA always as data, and what the extension for plugins holds as `config`.
    """
    (tmp_path / "ca").write_text("CA")
    said: Json = {
        "command": "p",
        "apiVersion": "client.authentication.k8s.io/v1",
        "provideClusterInfo": True,
        "interactiveMode": "IfAvailable",
    }
    cluster: Json = {
        "certificate-authority": "ca",
        "tls-server-name": "api",
        "extensions": [
            {"name": "other", "extension": 1},
            {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}},
        ],
    }
    plugin = from_kubeconfig(config(tmp_path / "k", {"exec": said}, cluster), "").plugin
    assert plugin is not None
    assert plugin.cluster == {
        "server": "https://192.0.2.1:6443/",
        "tls-server-name": "api",
        "certificate-authority-data": data("CA"),
        "config": {"audience": "a"},
    }


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """An access in a log or a traceback tells nobody how to log in."""
    said: Json = {
        "command": "p",
        "apiVersion": "client.authentication.k8s.io/v1",
        "env": [{"name": "N", "value": "s3cret"}],
    }
    user: Json = {
        "token": "s3cret",
        "client-certificate-data": data("s3cret"),
        "client-key-data": data("s3cret"),
        "exec": said,
    }
    assert "s3cret" not in repr(from_kubeconfig(config(tmp_path / "k", user), ""))


REFUSED: dict[str, tuple[str, Json, Json]] = {
    "no context named 'z'": ("z", {}, {}),
    "no user named 'none'": ("y", {}, {}),
    "auth-provider is not supported": ("", {"auth-provider": {"name": "oidc"}}, {}),
    "username is not supported": ("", {"username": "u", "password": "p"}, {}),
    "as is not supported": ("", {"as": "root"}, {}),
    "proxy-url is not supported": ("", {}, {"proxy-url": "http://192.0.2.9:3128"}),
    "token is not a text": ("", {"token": 5}, {}),
    "not base64": ("", {"client-certificate-data": "%%%"}, {}),
    "go together": ("", {"client-certificate-data": data("x")}, {}),
    "is not an address": ("", {}, {"server": "192.0.2.1"}),
    "exec needs a command": ("", {"exec": {"command": "x", "apiVersion": "v1"}}, {}),
    "apiVersion one of": (
        "",
        {"exec": {"command": "x", "apiVersion": "client.authentication.k8s.io/v1alpha1"}},
        {},
    ),
    "interactiveMode: Always": (
        "",
        {
            "exec": {
                "command": "x",
                "apiVersion": "client.authentication.k8s.io/v1",
                "interactiveMode": "Always",
            }
        },
        {},
    ),
    "exec is not a mapping": ("", {"exec": "x"}, {}),
    "are lists": (
        "",
        {"exec": {"command": "x", "apiVersion": "client.authentication.k8s.io/v1", "args": "a"}},
        {},
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_vipd_does_not_understand_is_refused(tmp_path: Path, why: str) -> None:
    """And not left out: it would log in as somebody else, or nowhere."""
    context, user, cluster = REFUSED[why]
    with pytest.raises(BadAccess, match=why):
        from_kubeconfig(config(tmp_path / "k", user, cluster), context)


@pytest.mark.parametrize("text", ["", "[]", "a: [", "\x00", "contexts: 5\ncurrent-context: x"])
def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    """With its name."""
    (tmp_path / "k").write_text(text)
    with pytest.raises(BadAccess, match=str(tmp_path / "k")):
        from_kubeconfig(tmp_path / "k", "")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The kubeconfig, or one that it names."""
    with pytest.raises(BadAccess, match="none"):
        load(str(tmp_path / "none"), "")
    with pytest.raises(BadAccess, match="away"):
        load(str(config(tmp_path / "k", {"tokenFile": "away"})), "")


def test_a_pod_finds_its_service_account(tmp_path: Path) -> None:
    """Address from the environment, token and CA from files that are replaced at times."""
    (tmp_path / "token").write_text("t\n")
    (tmp_path / "ca.crt").write_text("CA")
    environ = {"KUBERNETES_SERVICE_HOST": "2001:db8::1", "KUBERNETES_SERVICE_PORT": "443"}
    access = in_cluster(environ, tmp_path)
    assert (access.server, access.ca, access.token) == ("https://[2001:db8::1]:443", b"CA", "t")
    assert access.files == (tmp_path / "token", tmp_path / "ca.crt")


def test_outside_of_a_cluster_the_sentence_says_so(tmp_path: Path) -> None:
    """Neither a pod nor a kubeconfig."""
    with pytest.raises(BadAccess, match="no pod of a cluster"):
        in_cluster({}, tmp_path)


def test_an_empty_token_is_refused(tmp_path: Path) -> None:
    """The file is just being written."""
    (tmp_path / "token").write_text("\n")
    (tmp_path / "ca.crt").write_text("CA")
    with pytest.raises(BadAccess, match="holds no token"):
        in_cluster(
            {"KUBERNETES_SERVICE_HOST": "192.0.2.1", "KUBERNETES_SERVICE_PORT": "443"}, tmp_path
        )
