"""What the body of an LLM call says that bears on its price.

One module for each kind of call; ``CallRequest`` picks it. Both sides read the same body, so both come to
the same quote.
"""

from otrta_core.requests.call import CallRequest
from otrta_core.requests.figures import BYTES_PER_TOKEN_ID, TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST, Figures
from otrta_core.requests.forms import FormFile
from otrta_core.requests.kinds import FORM_KINDS, OUTPUT_LIMIT_FIELD, OUTPUTLESS, Kind
from otrta_core.requests.paths import PAYABLE_PATHS, PayablePath, find_payable

__all__ = [
    "BYTES_PER_TOKEN_ID",
    "FORM_KINDS",
    "OUTPUTLESS",
    "OUTPUT_LIMIT_FIELD",
    "PAYABLE_PATHS",
    "TOKENS_PER_MESSAGE",
    "TOKENS_PER_REQUEST",
    "CallRequest",
    "Figures",
    "FormFile",
    "Kind",
    "PayablePath",
    "find_payable",
]
