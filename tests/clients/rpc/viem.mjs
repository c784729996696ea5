// viem: deploy, send, read, filter, subscribe, reverts. Usage: node viem.mjs RPC_URL WS_URL PRIVATE_KEY
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import {
  BaseError, ContractFunctionRevertedError, createPublicClient, createWalletClient, defineChain,
  erc20Abi, http, keccak256, parseEther, toHex, webSocket,
} from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

const [rpcUrl, wsUrl, key] = process.argv.slice(2);
const { abi, bytecode } = JSON.parse(readFileSync("Counter.json", "utf8"));
const account = privateKeyToAccount(key);

const probe = createPublicClient({ transport: http(rpcUrl) });
const chain = defineChain({
  id: await probe.getChainId(),
  name: "OpenGradient",
  nativeCurrency: { name: "native", symbol: "OG", decimals: 18 },
  rpcUrls: { default: { http: [rpcUrl], webSocket: [wsUrl] } },
});
const client = createPublicClient({ chain, transport: http(rpcUrl, { batch: true }), pollingInterval: 50 });
const wallet = createWalletClient({ chain, account, transport: http(rpcUrl) });
const live = createPublicClient({ chain, transport: webSocket(wsUrl) });

// Resolves with the first value that `accept` likes; the watcher is closed in any case.
function first(watch, accept = () => true) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => { stop(); reject(new Error("no notification within 20 s")); }, 20_000);
    const stop = watch((value) => {
      if (accept(value)) { clearTimeout(timer); stop(); resolve(value); }
    }, reject);
  });
}

// Deploy (type 2), and everything a block explorer would ask about it.
const deployHash = await wallet.deployContract({ abi, bytecode, args: [5n] });
const deployed = await client.waitForTransactionReceipt({ hash: deployHash });
assert.equal(deployed.status, "success");
assert.equal(deployed.type, "eip1559");
const address = deployed.contractAddress;
assert.ok((await client.getCode({ address })).length > 2);
const block = await client.getBlock({ blockHash: deployed.blockHash, includeTransactions: true });
assert.equal(block.transactions[deployed.transactionIndex].hash, deployHash);
assert.ok(block.baseFeePerGas > 0n);
assert.equal(block.number, deployed.blockNumber);
assert.equal((await client.getTransaction({ hash: deployHash })).from, deployed.from);
assert.equal(
  (await client.getTransaction({ blockNumber: block.number, index: deployed.transactionIndex })).hash,
  deployHash,
);
assert.equal(await client.getBlockTransactionCount({ blockHash: block.hash }), block.transactions.length);
for (const blockTag of ["latest", "safe", "finalized", "earliest", "pending"]) {
  assert.ok((await client.getBlock({ blockTag })).hash, blockTag);
}

// Read, now and in the past, and at the present time.
const read = (functionName, options = {}) => client.readContract({ address, abi, functionName, ...options });
assert.equal(await read("value"), 5n);
const drift = Number(await read("time")) - Date.now() / 1000;
assert.ok(Math.abs(drift) < 5, `a call runs ${drift} s off the present`);

// Filter and subscribe before sending.
const filter = await client.createContractEventFilter({ address, abi, eventName: "Changed" });
const blockFilter = await client.createBlockFilter();
const pendingFilter = await client.createPendingTransactionFilter();
const seenLog = first((onLogs, onError) =>
  live.watchContractEvent({ address, abi, eventName: "Changed", onLogs, onError }));
const seenHead = first((onBlock, onError) => live.watchBlocks({ onBlock, onError }),
  (head) => head.number > block.number);
const seenPending = first((onTransactions, onError) =>
  live.watchPendingTransactions({ onTransactions, onError }));
// A subscription is set up once a later request on the same socket is answered.
await live.getChainId();
await new Promise((resolve) => setImmediate(resolve));
await live.getBlockNumber();

// Send: simulate, write, wait.
const { request, result } = await client.simulateContract({ address, abi, functionName: "add", args: [7n], account });
assert.equal(result, 12n);
const hash = await wallet.writeContract(request);
const receipt = await client.waitForTransactionReceipt({ hash });
assert.equal(receipt.logs.length, 1);
assert.equal(await read("value"), 12n);
assert.equal(await read("value", { blockNumber: deployed.blockNumber }), 5n);
assert.equal(BigInt(await client.getStorageAt({ address, slot: "0x0" })), 12n);

const changes = await client.getFilterChanges({ filter });
assert.deepEqual(changes.map((log) => log.args.value), [12n]);
assert.ok((await client.getFilterChanges({ filter: blockFilter })).includes(receipt.blockHash));
assert.ok((await client.getFilterChanges({ filter: pendingFilter })).includes(hash));
assert.ok(await client.uninstallFilter({ filter }));
await assert.rejects(client.getFilterChanges({ filter }), /filter not found/);
const logs = await client.getContractEvents({ address, abi, eventName: "Changed", fromBlock: 0n, args: { by: account.address } });
assert.deepEqual(logs.map((log) => log.transactionHash), [hash]);
assert.equal((await seenLog)[0].transactionHash, hash);
assert.ok((await seenHead).hash);
assert.ok((await seenPending).includes(hash));

// Reverts: a custom error, a reason, and a transaction that fails on chain.
const refusal = async (n) => {
  const error = await client.simulateContract({ address, abi, functionName: "add", args: [n], account })
    .then(() => assert.fail("must revert"), (error) => error);
  assert.ok(error instanceof BaseError);
  return error.walk((cause) => cause instanceof ContractFunctionRevertedError);
};
const custom = await refusal(2000n);
assert.equal(custom.data.errorName, "TooLarge");
assert.deepEqual(custom.data.args, [2000n, 1000n]);
assert.equal((await refusal(13n)).reason, "thirteen is refused");
await assert.rejects(
  client.estimateContractGas({ address, abi, functionName: "add", args: [13n], account }),
  /thirteen is refused/,
);
const failing = await wallet.writeContract({ address, abi, functionName: "add", args: [13n], gas: 100_000n });
assert.equal((await client.waitForTransactionReceipt({ hash: failing })).status, "reverted");

// An approval of a token, as official SDKs make it, when the chain has one there.
const usdc = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";
if (await client.getCode({ address: usdc })) {
  const spender = "0x000000000022D473030F116dDEE9F6B43aC78BA3";
  const approval = await wallet.writeContract({ address: usdc, abi: erc20Abi, functionName: "approve", args: [spender, 77n] });
  assert.equal((await client.waitForTransactionReceipt({ hash: approval })).status, "success");
  assert.equal(await client.readContract({ address: usdc, abi: erc20Abi, functionName: "allowance", args: [account.address, spender] }), 77n);
}

// Fees, proofs, access lists, plain transfers.
const fees = await client.estimateFeesPerGas();
assert.ok(fees.maxFeePerGas >= fees.maxPriorityFeePerGas);
assert.ok((await client.getGasPrice()) > 0n);
const history = await client.getFeeHistory({ blockCount: 4, rewardPercentiles: [25, 75] });
assert.equal(history.baseFeePerGas.length, history.gasUsedRatio.length + 1);
const proof = await client.getProof({ address, storageKeys: [toHex(0, { size: 32 })], blockNumber: receipt.blockNumber });
assert.equal(proof.storageProof[0].value, 12n);
assert.equal(keccak256(proof.accountProof[0]), (await client.getBlock({ blockNumber: receipt.blockNumber })).stateRoot);
const list = await client.createAccessList({ account, to: address, data: "0x3fa4f245" });
assert.equal(list.accessList.length, 1);
const other = privateKeyToAccount(generatePrivateKey());
const paid = await wallet.sendTransaction({ to: other.address, value: parseEther("0.25") });
await client.waitForTransactionReceipt({ hash: paid });
assert.equal(await client.getBalance({ address: other.address }), parseEther("0.25"));
const raw = await account.signTransaction({
  type: "legacy", chainId: chain.id, nonce: await client.getTransactionCount({ address: account.address, blockTag: "pending" }),
  gas: 21_000n, gasPrice: await client.getGasPrice(), to: other.address, value: 1n,
});
const synced = await client.sendRawTransactionSync({ serializedTransaction: raw });
assert.equal(synced.status, "success");
assert.equal(await client.sendRawTransaction({ serializedTransaction: raw }), synced.transactionHash, "a known transaction is harmless");
await assert.rejects(
  wallet.sendTransaction({ to: other.address, value: parseEther("1000000000"), gas: 21_000n }),
  /insufficient funds|exceeds the balance/i,
);

await (await live.transport.getRpcClient()).close();
console.log("viem: passed");
process.exit(0);
