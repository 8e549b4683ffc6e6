// cashu-ts wallets behind one line of JSON per call: {"do", "with"} in, {"ok"} or {"error"} out.
import { createInterface } from 'node:readline';
import * as cashu from '@cashu/cashu-ts';

const wallets = new Map();
const hex = (bytes) => Buffer.from(bytes).toString('hex');
const bytes = (text) => Uint8Array.from(Buffer.from(text, 'hex'));
const sum = (proofs) => proofs.reduce((total, proof) => total + Number(proof.amount), 0);

async function settled(wallet, quote) {
  for (let left = 100; left > 0; left -= 1) {
    const { state } = await wallet.checkMintQuoteBolt11(quote);
    if (state === 'PAID') return;
  }
  throw new Error('the mint does not pay its own invoice');
}

const actions = {
  async open({ name, mint, unit, seed }) {
    const options = seed ? { unit, bip39seed: bytes(seed) } : { unit };
    const wallet = new cashu.Wallet(mint, options);
    await wallet.loadMint();
    wallets.set(name, { wallet, mint, unit, proofs: [] });
    return { keyset: wallet.keysetId };
  },

  async topUp({ name, amount }) {
    const purse = wallets.get(name);
    const quote = await purse.wallet.createMintQuoteBolt11(amount);
    await settled(purse.wallet, quote.quote);
    purse.proofs.push(...(await purse.wallet.mintProofsBolt11(amount, quote.quote)));
    return sum(purse.proofs);
  },

  balance: ({ name }) => sum(wallets.get(name).proofs),

  async send({ name, amount, version, dleq, memo, p2pk }) {
    const purse = wallets.get(name);
    const outputs = p2pk && { send: { type: 'p2pk', options: p2pk } };
    const { keep, send } = await purse.wallet.send(amount, purse.proofs, {}, outputs);
    purse.proofs = keep;
    const token = { mint: purse.mint, unit: purse.unit, memo, proofs: send };
    return cashu.getEncodedToken(token, { version, removeDleq: !dleq });
  },

  async receive({ name, token, privkey, requireDleq }) {
    const purse = wallets.get(name);
    const got = await purse.wallet.receive(token, { privkey, requireDleq });
    purse.proofs.push(...got);
    return sum(got);
  },

  decode({ token, keysets }) {
    const { mint, unit, memo, proofs } = cashu.getDecodedToken(token, keysets);
    return { mint, unit, memo, amount: sum(proofs), secrets: proofs.map((proof) => proof.secret) };
  },

  keys({ privkey }) {
    return hex(cashu.getPubKeyFromPrivKey(bytes(privkey)));
  },

  derive({ seed, keyset, counter }) {
    return {
      secret: hex(cashu.deriveSecret(bytes(seed), keyset, counter)),
      r: hex(cashu.deriveBlindingFactor(bytes(seed), keyset, counter)),
    };
  },

  async restore({ name }) {
    const purse = wallets.get(name);
    const { proofs, lastCounterWithSignature } = await purse.wallet.batchRestore();
    await purse.wallet.counters.advanceToAtLeast(purse.wallet.keysetId, lastCounterWithSignature + 1);
    const states = await purse.wallet.checkProofsStates(proofs);
    purse.proofs = proofs.filter((_, at) => states[at].state === 'UNSPENT');
    return sum(purse.proofs);
  },

  readRequest({ text }) {
    return cashu.PaymentRequest.fromEncodedRequest(text).toRawRequest();
  },

  writeRequest({ raw, form }) {
    const request = cashu.PaymentRequest.fromRawRequest(raw);
    return form === 'creqB' ? request.toEncodedCreqB() : request.toEncodedCreqA();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const call = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await actions[call.do](call.with)) ?? null };
  } catch (error) {
    answer = { error: `${error.name}: ${error.message}` };
  }
  const plain = (_, value) => (typeof value === 'bigint' ? Number(value) : value);
  process.stdout.write(`${JSON.stringify(answer, plain)}\n`);
}
