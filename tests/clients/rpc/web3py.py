"""web3.py: deploy, send, read, filter, subscribe, reverts. Usage: web3py.py RPC_URL WS_URL PRIVATE_KEY"""

import asyncio
import json
import sys
import time

from eth_account import Account
from web3 import AsyncWeb3, Web3, WebSocketProvider
from web3.exceptions import ContractCustomError, ContractLogicError, TransactionNotFound, Web3RPCError

rpc_url, ws_url, key = sys.argv[1:4]
with open("Counter.json", encoding="utf8") as file:
    artifact = json.load(file)
w3 = Web3(Web3.HTTPProvider(rpc_url))
account = Account.from_key(key)
chain_id = w3.eth.chain_id


def send(transaction):
    """Signs and sends; returns the receipt."""
    signed = account.sign_transaction(transaction)
    tx_hash = w3.eth.send_raw_transaction(signed.raw_transaction)
    assert w3.eth.send_raw_transaction(signed.raw_transaction) == tx_hash, "resending is harmless"
    return w3.eth.wait_for_transaction_receipt(tx_hash, timeout=20, poll_latency=0.02)


def base(**more):
    nonce = w3.eth.get_transaction_count(account.address, "pending")
    return {"from": account.address, "nonce": nonce, "chainId": chain_id, **more}


def refusal(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"must raise {kind}")


# Deploy with a legacy transaction (type 0, EIP-155), as official clients send them.
factory = w3.eth.contract(abi=artifact["abi"], bytecode=artifact["bytecode"])
deployed = send(factory.constructor(5).build_transaction(base(gasPrice=w3.eth.gas_price)))
assert deployed.status == 1 and deployed.type == 0, deployed
counter = w3.eth.contract(deployed.contractAddress, abi=artifact["abi"])
assert counter.functions.value().call() == 5
assert abs(counter.functions.time().call() - time.time()) < 5, "a call runs at the present time"
block = w3.eth.get_block(deployed.blockNumber, full_transactions=True)
assert block.transactions[deployed.transactionIndex].hash == deployed.transactionHash
assert block.baseFeePerGas > 0
for tag in ("latest", "safe", "finalized", "earliest", "pending"):
    assert w3.eth.get_block(tag).hash, tag
    assert w3.eth.get_balance(account.address, tag) >= 0

# Filter, then send with dynamic fees.
changed = counter.events.Changed.create_filter(from_block="latest")
blocks = w3.eth.filter("latest")
pending = w3.eth.filter("pending")
receipt = send(counter.functions.add(7).build_transaction(base()))
assert receipt.status == 1 and receipt.type == 2, receipt
assert [log.args.value for log in changed.get_new_entries()] == [12]
assert changed.get_new_entries() == []
assert receipt.blockHash in blocks.get_new_entries()
assert receipt.transactionHash in pending.get_new_entries()
assert w3.eth.uninstall_filter(changed.filter_id)
logs = counter.events.Changed().get_logs(from_block=0, argument_filters={"by": account.address})
assert [log.transactionHash for log in logs] == [receipt.transactionHash]
assert counter.functions.value().call() == 12
assert counter.functions.value().call(block_identifier=deployed.blockNumber) == 5
assert counter.functions.value().call(block_identifier=receipt.blockHash) == 12
assert int.from_bytes(w3.eth.get_storage_at(counter.address, 0), "big") == 12
assert w3.eth.get_transaction_by_block(receipt.blockNumber, 0).hash == receipt.transactionHash
assert w3.eth.get_block_receipts(receipt.blockNumber)[0].transactionHash == receipt.transactionHash
assert w3.eth.get_block_transaction_count(receipt.blockHash) >= 1
refusal(TransactionNotFound, lambda: w3.eth.get_transaction("0x" + "11" * 32))
refusal(TransactionNotFound, lambda: w3.eth.get_transaction_receipt("0x" + "11" * 32))

# Reverts: data, reason, and a transaction that fails on chain.
custom = refusal(ContractCustomError, lambda: counter.functions.add(2000).call())
assert custom.data.endswith(f"{2000:064x}{1000:064x}"), custom.data
reason = refusal(ContractLogicError, lambda: counter.functions.add(13).estimate_gas({"from": account.address}))
assert "execution reverted: thirteen is refused" in str(reason), reason
failing = send(counter.functions.add(13).build_transaction(base(gas=100_000)))
assert failing.status == 0
low = account.sign_transaction({**base(gas=21_000, gasPrice=w3.eth.gas_price, to=account.address, value=1), "nonce": 0})
error = refusal(Web3RPCError, lambda: w3.eth.send_raw_transaction(low.raw_transaction))
assert "nonce too low" in str(error), error

# The rest of what the library asks for.
assert w3.net.version == str(chain_id) and w3.eth.accounts == [] and w3.eth.syncing is False
assert w3.client_version
assert w3.eth.max_priority_fee > 0
history = w3.eth.fee_history(4, "latest", [10, 50])
assert len(history.baseFeePerGas) == len(history.gasUsedRatio) + 1
proof = w3.eth.get_proof(counter.address, [0], "latest")
assert proof.storageProof[0].value == (12).to_bytes(1, "big"), proof.storageProof
other = Account.create().address
paid = send(base(to=other, value=10**17, gas=21_000, maxFeePerGas=w3.eth.gas_price * 2, maxPriorityFeePerGas=1, type=2))
assert paid.status == 1 and w3.eth.get_balance(other) == 10**17


async def subscribe():
    """Heads, logs and pending transactions over one WebSocket."""
    async with AsyncWeb3(WebSocketProvider(ws_url)) as live:
        ids = {
            await live.eth.subscribe("newHeads"): "head",
            await live.eth.subscribe("logs", {"address": counter.address}): "log",
            await live.eth.subscribe("newPendingTransactions"): "pending",
        }
        transaction = counter.functions.add(1).build_transaction(base())
        signed = account.sign_transaction(transaction)
        tx_hash = await live.eth.send_raw_transaction(signed.raw_transaction)
        seen = {}
        async for message in live.socket.process_subscriptions():
            kind, result = ids[message["subscription"]], message["result"]
            if kind == "pending":
                seen[kind] = result == tx_hash or seen.get(kind, False)
            elif kind == "log":
                assert result.transactionHash == tx_hash
                seen[kind] = True
            else:
                seen[kind] = result.number > 0
            if len(seen) == 3 and all(seen.values()):
                break
        for subscription in ids:
            assert await live.eth.unsubscribe(subscription)


asyncio.run(asyncio.wait_for(subscribe(), 20))
print("web3.py: passed")
