// ethers: deploy, send, read, filter, subscribe, reverts. Usage: node ethers.mjs RPC_URL WS_URL PRIVATE_KEY
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import {
  Contract, ContractFactory, JsonRpcProvider, Wallet, WebSocketProvider, isError, parseEther, toBeHex,
} from "ethers";

const [rpcUrl, wsUrl, key] = process.argv.slice(2);
const { abi, bytecode } = JSON.parse(readFileSync("Counter.json", "utf8"));
const provider = new JsonRpcProvider(rpcUrl, undefined, { polling: true, pollingInterval: 50, cacheTimeout: -1 });
const wallet = new Wallet(key, provider);
const live = new WebSocketProvider(wsUrl);

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within 20 s`)), 20_000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const contract = await new ContractFactory(abi, bytecode, wallet).deploy(5n);
await contract.waitForDeployment();
const address = await contract.getAddress();
const deployed = await contract.deploymentTransaction().wait();
assert.equal(deployed.status, 1);
assert.equal(deployed.contractAddress, address);
assert.notEqual(await provider.getCode(address), "0x");
assert.equal(await contract.value(), 5n);
const block = await provider.getBlock(deployed.blockNumber, true);
assert.ok(block.prefetchedTransactions.some((tx) => tx.hash === deployed.hash));
assert.equal((await provider.getTransaction(deployed.hash)).blockHash, block.hash);

// Subscribe over WebSocket, and poll over HTTP, before sending.
const watched = new Contract(address, abi, live);
const event = new Promise((resolve) => watched.once("Changed", (by, value) => resolve([by, value])));
const head = new Promise((resolve) => live.once("block", resolve));
const pending = new Promise((resolve) => live.on("pending", resolve));
const polled = new Promise((resolve) => contract.once("Changed", (_by, value) => resolve(value)));
await live.getBlockNumber();
await new Promise((resolve) => setTimeout(resolve, 0));
await live.getBlockNumber();

assert.equal(await contract.add.staticCall(7n), 12n);
const receipt = await (await contract.add(7n)).wait();
assert.equal(receipt.logs[0].args.value, 12n);
assert.equal(await contract.value(), 12n);
assert.equal(await contract.value({ blockTag: deployed.blockNumber }), 5n);
assert.equal(BigInt(await provider.getStorage(address, 0)), 12n);
assert.deepEqual(await within(event, "event subscription"), [wallet.address, 12n]);
assert.ok(await within(head, "block subscription") >= deployed.blockNumber);
assert.equal(await within(pending, "pending subscription"), receipt.hash);
assert.equal(await within(polled, "event polling"), 12n);

const found = await contract.queryFilter(contract.filters.Changed(wallet.address), 0);
assert.deepEqual(found.map((log) => log.transactionHash), [receipt.hash]);
const byHash = await provider.getLogs({ blockHash: receipt.blockHash, address });
assert.equal(byHash.length, 1);
const filterId = await provider.send("eth_newFilter", [{ address, fromBlock: "0x0" }]);
assert.equal((await provider.send("eth_getFilterLogs", [filterId])).length, 1);
assert.deepEqual(await provider.send("eth_getFilterChanges", [filterId]), []);
assert.equal(await provider.send("eth_uninstallFilter", [filterId]), true);

const refusal = async (promise) => {
  try { await promise; } catch (error) { return error; }
  return assert.fail("must revert");
};
const custom = await refusal(contract.add.staticCall(2000n));
assert.ok(isError(custom, "CALL_EXCEPTION"));
assert.equal(custom.revert.name, "TooLarge");
assert.deepEqual([...custom.revert.args], [2000n, 1000n]);
const reason = await refusal(contract.add.estimateGas(13n));
assert.ok(isError(reason, "CALL_EXCEPTION"));
assert.equal(reason.reason, "thirteen is refused");
const failing = await contract.add(13n, { gasLimit: 100_000n });
const failed = await refusal(failing.wait());
assert.ok(isError(failed, "CALL_EXCEPTION"));
assert.equal(failed.receipt.status, 0);

const fees = await provider.getFeeData();
assert.ok(fees.maxFeePerGas > 0n && fees.gasPrice > 0n);
const other = Wallet.createRandom().address;
const legacy = await wallet.sendTransaction({ to: other, value: parseEther("0.25"), type: 0, gasPrice: fees.gasPrice });
await legacy.wait();
assert.equal(await provider.getBalance(other), parseEther("0.25"));
assert.equal(await provider.getTransactionCount(wallet.address, "pending"), legacy.nonce + 1);
const low = await refusal(wallet.sendTransaction({ to: other, value: 1n, nonce: 0 }));
assert.ok(isError(low, "NONCE_EXPIRED"), `${low.code}: ${low.message}`);
const poor = await refusal(wallet.sendTransaction({ to: other, value: parseEther("1000000000"), gasLimit: 21_000n }));
assert.ok(isError(poor, "INSUFFICIENT_FUNDS"), `${poor.code}: ${poor.message}`);
const proof = await provider.send("eth_getProof", [address, ["0x0"], toBeHex(receipt.blockNumber)]);
assert.equal(BigInt(proof.storageProof[0].value), 12n);

await live.destroy();
provider.destroy();
console.log("ethers: passed");
process.exit(0);
