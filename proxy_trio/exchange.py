"""One call of an app, as a task of its own: from ``Payer.open`` to the last byte of the gateway.

It runs in the proxy's nursery, not in the app's request, so an app that goes away takes nothing with
it: the answer is then read on for a while, for the change in it. The app's side is reached through an
``AppLink`` only.
"""

import httpx

from otrta_core.errors import OtrtaError
from proxy_trio.conversation import Conversation, internal_failure, log_failure
from proxy_trio.link import AppLink, Failure
from proxy_trio.payer import Attempt, Call, Payer
from proxy_trio.settings import ForwardSettings


async def exchange(
    call: Call,
    payer: Payer,
    transport: httpx.AsyncBaseTransport,
    settings: ForwardSettings,
    link: AppLink,
) -> None:
    """Pay for a call and bring its answer to the app, over as many attempts as the payer makes.

    Nothing is raised but ``trio.Cancelled``: what fails is answered to the app. If cancelled, the
    running attempt has been ended with ``STOPPED``. The link is closed in any case.
    """
    try:
        attempt = await payer.open(call)
        for left in reversed(range(settings.max_attempts)):
            conversation = Conversation(call, attempt, payer, transport, settings, link)
            outcome = await conversation.run()
            following: Attempt | None = None
            if left and conversation.may_retry(outcome):
                following = await payer.retry(call, attempt, outcome)
            if following is None:
                await conversation.deliver()
                return
            attempt = following
    except OtrtaError as error:
        await link.put(Failure(error))
    except Exception as error:
        log_failure("a call", error)
        await link.put(Failure(internal_failure()))
    finally:
        link.close()
