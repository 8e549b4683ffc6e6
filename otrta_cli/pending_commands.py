"""`otrta pending`: payments that are not settled, and calls that wait for the user's word."""

import click

from otrta_cli.wallet_commands import as_json_option, show
from otrta_cli.wallet_link import WalletLink


@click.group(invoke_without_command=True)
@as_json_option
@click.pass_context
def pending(context: click.Context, as_json: bool) -> None:
    """List payments that are on their way, await their change, or are disputed.

    Calls above `budgets.approve_above_sat` wait for approval: `approvals` lists them.
    """
    if context.invoked_subcommand is not None:
        return
    from otrta_cli.budget_render import show_waiting
    from otrta_cli.render import show_pending, show_unclaimed

    link = WalletLink()
    show(link.act("pending"), as_json, show_pending)
    if not as_json:
        show_unclaimed(link.act("sent"))
        show_waiting(link.act("approvals"))


@pending.command("approvals")
@as_json_option
def pending_approvals(as_json: bool) -> None:
    """List the calls that wait for approval."""
    from otrta_cli.budget_render import show_approvals

    show(WalletLink().act("approvals"), as_json, show_approvals)


@pending.command("approve")
@click.argument("id")
@as_json_option
def pending_approve(id: str, as_json: bool) -> None:  # noqa: A002  # as the help shows it
    """Let the call ID be paid: it goes on if its app still waits, else the next one like it passes."""
    from otrta_cli.budget_render import show_decision

    show(WalletLink().act("approve", id=id), as_json, show_decision)


@pending.command("deny")
@click.argument("id")
@as_json_option
def pending_deny(id: str, as_json: bool) -> None:  # noqa: A002
    """Refuse the call ID, and for some minutes those like it."""
    from otrta_cli.budget_render import show_decision

    show(WalletLink().act("deny", id=id), as_json, show_decision)
