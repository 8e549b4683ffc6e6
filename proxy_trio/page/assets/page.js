"use strict";

// Everything on these pages can be read, and done, without this script: it copies, and asks whether an invoice is paid.

const PLACE = "otrta-wallet";

function remember() {
  const session = document.querySelector("meta[name=otrta-session]");
  const door = document.querySelector("[data-door]");
  try {
    // storage, unlike a cookie, is this port's alone: it may hold the way to the session's pages
    if (session) localStorage.setItem(PLACE, session.content);
    if (door && door.dataset.door === "over") localStorage.removeItem(PLACE);
    const known = localStorage.getItem(PLACE);
    if (door && door.dataset.door === "" && known && /^\/wallet\/[A-Za-z0-9_-]{20,64}\/$/.test(known)) {
      location.replace(known);
    }
  } catch {
    // storage is switched off: the door asks again
  }
}

function offerCopies() {
  for (const button of document.querySelectorAll("button[data-copy]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copy).textContent;
      const said = button.textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Select it";
      }
      setTimeout(() => { button.textContent = said; }, 1600);
    });
  }
}

async function watchInvoice() {
  const watched = document.querySelector("[data-watch]");
  if (!watched) return;
  let wait = 1000;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 1.25, 10000);
    let told;
    try {
      const reply = await fetch(watched.dataset.watch, { headers: { Accept: "application/json" } });
      if (reply.redirected) return;
      told = await reply.json();
    } catch {
      continue;
    }
    if (told.state !== "open") {
      watched.textContent = told.text;
      watched.className = told.state === "paid" ? "notice good" : "notice warn";
      for (const part of document.querySelectorAll("[data-until-paid]")) part.hidden = true;
      for (const part of document.querySelectorAll("[data-when-paid]")) part.hidden = false;
      return;
    }
  }
}

remember();
offerCopies();
watchInvoice();
