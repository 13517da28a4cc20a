"""Nothing of a URL that is secret is shown, and all of it is used."""

import copy
import pickle
from pathlib import Path

import pytest

from everest.video.urls import Url, address_of, hide_in_word, hide_secrets

SECRETS = ("hunter2", "s%3Aig", "TOKEN", "p@ss")
URLS = {
    "https://user:hunter2@host:8/a/list.csv": "https://host:8/a/list.csv",
    "https://user:p@ss@host/a": "https://host/a",
    "https://TOKEN@host/a": "https://host/a",
    "https://host/a/list.csv?X-Amz-Credential=k/2026&X-Amz-Signature=s%3Aig": "https://host/a/list.csv",
    "simplecache::https://user:hunter2@host/a?x=TOKEN": "simplecache::https://host/a",
    "s3://key:hunter2@bucket/a": "s3://bucket/a",
    "ftp://user:hunter2@host/a": "ftp://host/a",
}
PLAIN = [
    "https://host/a/b.csv",
    "s3://bucket/what?/000.tar",
    "abfs://container@account.dfs.core.windows.net/a",
    "memory://bucket/a@b",
    "file:///data/x.tar",
]


@pytest.mark.parametrize(("given", "shown"), URLS.items())
def test_secrets_are_not_shown_and_not_lost(given: str, shown: str) -> None:
    url = Url(given)
    assert url == shown
    assert url.address == address_of(url) == given
    assert url.has_secret
    for told in (
        f"{url}",
        repr(url),
        str(Path(url)),
        repr(Url.with_mark(given)),
        hide_secrets(f"no answer of {given}: x"),
    ):
        assert not any(secret in told for secret in SECRETS)
    for same in (pickle.loads(pickle.dumps(url)), copy.deepcopy(url), Url(url)):
        assert (same, same.address) == (shown, given)


@pytest.mark.parametrize(("given", "shown"), URLS.items())
def test_secrets_of_a_url_that_was_taken_for_a_path_are_not_shown(given: str, shown: str) -> None:
    told = hide_secrets(f"{Path(given)}: no such file")
    assert shown in told
    assert not any(secret in told for secret in SECRETS)


def test_words_of_a_command_line_lose_all_of_a_secret() -> None:
    for word in ("https://user:hun'ter2@host/a.csv?sig=a'TO)KEN", "--data=https://user:hunter2@host/a.csv?a b"):
        told = hide_in_word(word)
        assert told.endswith("https://host/a.csv?...")
        assert not any(secret in told for secret in ("ter2", "KEN", " b"))
    for plain in ("--set=data.batch_size=4", "--out", "/home/a b/c?d", "s3://bucket/what?/0.tar", "user@host:/a"):
        assert hide_in_word(plain) == plain


@pytest.mark.parametrize("given", PLAIN)
def test_other_urls_stay_as_they_are(given: str) -> None:
    assert Url(given) == Url(given).address == hide_secrets(given) == given
    assert not Url(given).has_secret


def test_what_lies_beside_a_url_has_its_password_and_signature() -> None:
    url = Url("https://user:hunter2@host/a/list.csv?sig=a/b")
    shard = url.beside("000.tar")
    assert shard == "https://host/a/000.tar"
    assert shard.address == "https://user:hunter2@host/a/000.tar?sig=a/b"
    listed = Url("https://host/a/?sig=x").below("manifest.csv")
    assert (listed, listed.address) == ("https://host/a/manifest.csv", "https://host/a/manifest.csv?sig=x")


def test_urls_that_differ_in_their_query_only_can_be_told_apart() -> None:
    first, second = (Url.with_mark(f"https://host/get?file={number}.tar") for number in (1, 2))
    assert first != second
    assert first.startswith("https://host/get?")
    assert second.address == "https://host/get?file=2.tar"
    again = pickle.loads(pickle.dumps(second))
    assert (again, again.address) == (second, second.address)


def test_the_scheme_is_that_of_the_last_link() -> None:
    assert [Url(url).scheme for url in ("S3://b/x", "simplecache::https://h/x")] == ["s3", "https"]
