"""kopf's HTTP session, with lists cut down to what is news.

kopf queues a whole listing before its workers get through it: at ten thousand functions with their children that is hundreds of
megabytes of parsed objects, nearly all of which the first census has just read. So an answer to a LIST loses what is known at
that very version, and everybody's `managedFields`, before kopf sees it.
"""

from collections.abc import Callable
from typing import Any

import aiohttp
import kopf
import orjson

from stepwell_operator.census import CHILD_KINDS
from stepwell_operator.cluster import FUNCTION, STORE, Kind
from stepwell_operator.world import Document, listed, mapping

LISTED = (FUNCTION, STORE, *CHILD_KINDS)

News = Callable[[Kind, list[Document]], list[Document]]
"""Of the listed objects of a kind, those of which something isn't known yet."""


def news_session(info: kopf.ConnectionInfo, news: News) -> kopf.AiohttpSession:
    """A session with these credentials; whoever takes it closes it (kopf does). To be called on a running event loop."""

    class Answer(aiohttp.ClientResponse):
        async def json(self, **_: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            return only_news(orjson.loads(await self.read()), self.url.path, news)

    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
        headers=info.as_http_headers(),
        proxy=info.proxy_url,
        trust_env=info.trust_env,
        response_class=Answer,
    )
    return kopf.AiohttpSession(
        server=info.server,
        aiohttp_session=session,
        default_namespace=info.default_namespace,
        priority=info.priority,
        expiration=info.expiration,
    )


def only_news(answer: Any, path: str, news: News) -> Any:
    """An answer of the API server to a GET of `path`: if it is a list, without what is known and without bookkeeping."""
    document = mapping(answer)
    if "items" not in document:
        return answer
    items = listed(document["items"])
    for item in items:
        mapping(item.get("metadata")).pop("managedFields", None)
    kind = _kind_at(path)
    return document | {"items": items if kind is None else news(kind, items)}


def _kind_at(path: str) -> Kind | None:
    for kind in LISTED:
        root = kind.path().removesuffix(kind.plural)
        if path.endswith(f"/{kind.plural}") and path.startswith(root):
            return kind
    return None
