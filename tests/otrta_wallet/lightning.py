"""Lightning for tests: invoices that no wallet here waits for, and a mint whose payments end as told."""

from dataclasses import dataclass
from pathlib import Path

from otrta_cli.processes import Running, free_port, start_mint
from otrta_wallet import Wallet
from otrta_wallet.mint_client import MintClient, new_http_client

LIGHTNING_FEE = 1
"""What Nutshell's make-believe Lightning takes for a payment, in the unit of the e-cash."""
RESERVE_MSAT = 2000
"""What Nutshell sets aside for the fee of a small payment."""


async def strangers_invoice(mint_url: str, amount: int, unit: str = "msat") -> str:
    """Ask a mint for an invoice without telling any wallet."""
    async with new_http_client() as http:
        return (await MintClient(mint_url, http).request_mint_quote(amount, unit)).request


async def offer(
    wallet: Wallet, mint_url: str, payee_url: str, amount: int = 1_000, unit: str = "msat"
) -> str:
    """Have a mint offer to pay a stranger's invoice; return the offer's id."""
    invoice = await strangers_invoice(payee_url, amount, unit)
    return (await wallet.request_melt(mint_url, invoice, unit)).id


@dataclass
class MoodyMint:
    """A mint whose Lightning payments end as it is told: how a payment ends at once, and how when asked."""

    home: Path
    log: Path
    port: int = 0
    mood: tuple[str, str] | None = None
    part: Running | None = None

    def __post_init__(self) -> None:
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def turn(self, paying: str, asked: str) -> None:
        """Start it, or start it anew in another mood: SETTLED, FAILED, PENDING or UNKNOWN for each.

        To be called in the main thread: the mint ends with the thread that started it.
        """
        if self.mood == (paying, asked):
            return
        self.stop()
        env = {"FAKEWALLET_PAY_INVOICE_STATE": paying, "FAKEWALLET_PAYMENT_STATE": asked}
        env["FAKEWALLET_DELAY_INCOMING_PAYMENT"] = (
            "3600"  # its own invoices are paid when it is asked for them
        )
        self.part = start_mint(self.home, self.port, input_fee_ppk=100, log=self.log, env=env)
        self.mood = (paying, asked)

    def stop(self) -> None:
        """End it."""
        if self.part is not None:
            self.part.stop()
        self.part = self.mood = None
