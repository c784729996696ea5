"""What a stranger needs to reach a gateway: its certificate, as the registry publishes it."""

import json
import ssl
import sys

from web3 import Web3

OHTTP = [
    {"name": name, "type": kind}
    for name, kind in (
        ("keyId", "uint8"), ("kemId", "uint16"), ("kdfId", "uint16"), ("aeadId", "uint16"),
        ("publicKey", "bytes"), ("keyConfig", "bytes"), ("registeredAt", "uint256"),
    )
]
TEE = [
    {"name": name, "type": kind}
    for name, kind in (
        ("owner", "address"), ("paymentAddress", "address"), ("endpoint", "string"), ("publicKey", "bytes"),
        ("tlsCertificate", "bytes"), ("pcrHash", "bytes32"), ("teeType", "uint8"), ("enabled", "bool"),
        ("registeredAt", "uint256"), ("lastHeartbeatAt", "uint256"),
    )
] + [{"name": "ohttpConfig", "type": "tuple", "components": OHTTP}]
ABI = [{
    "name": "getActiveTEEs", "type": "function", "stateMutability": "view",
    "inputs": [{"name": "teeType", "type": "uint8"}],
    "outputs": [{"name": "", "type": "tuple[]", "components": TEE}],
}]


def load():
    """devnet.json, and the account named on the command line."""
    devnet = json.load(open(sys.argv[1]))
    return devnet, next(a for a in devnet["accounts"] if a["name"] == sys.argv[2]), sys.argv[3]


def gateway(devnet):
    """The endpoint of the one active gateway and a TLS context that trusts its certificate and nothing else."""
    chain = Web3(Web3.HTTPProvider(devnet["network"]["rpc_url"]))
    registry = chain.eth.contract(address=Web3.to_checksum_address(devnet["contracts"]["tee_registry"]), abi=ABI)
    active = registry.functions.getActiveTEEs(0).call()
    assert len(active) == len(devnet["gateways"]) == 1, active
    endpoint, certificate = active[0][2], active[0][4]
    assert endpoint == devnet["gateways"][0]["url"], endpoint
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=certificate)
    return endpoint, context


def report(case, usage, text, finish_reason, asset):
    """One line per paid request, for the caller to compare charges with."""
    line = {"case": case, "usage": usage, "text": text, "finish_reason": finish_reason, "asset": asset}
    print(json.dumps(line), flush=True)
