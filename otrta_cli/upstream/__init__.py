"""A small LLM upstream whose model names pick how it behaves.

`python -m otrta_cli.upstream --port 4010` serves it to the demo and the tests. Answers are the same each
time, so that a streamed answer can be compared with a plain one. `BEHAVIOURS` is the table of models; a
module for each kind of call turns a behaviour and a request into bodies and timed chunks with pure functions,
and ends with the route that waits and sends them.

`GET /_calls` lists the requests received last and `DELETE /_calls` forgets them: with it a test proves
what did, and what did not, reach an upstream.
"""

from otrta_cli.upstream.app import make_app
from otrta_cli.upstream.behaviours import BEHAVIOURS
from otrta_cli.upstream.calls import KEPT_BODY_BYTES, KEPT_CALLS
from otrta_cli.upstream.embeddings import EMBEDDING
from otrta_cli.upstream.sending import NOT_JSON

__all__ = ["BEHAVIOURS", "EMBEDDING", "KEPT_BODY_BYTES", "KEPT_CALLS", "NOT_JSON", "make_app"]
