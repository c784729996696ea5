"""Pay a gateway with the official x402 client, its spend controls as they come.

usage: check.py DEVNET_JSON ACCOUNT MODEL

The gateway offers OPG first and USDC second. With default spend controls the client may only pay in USDC; with OPG
allowed it takes OPG, because that comes first. Both the httpx and the requests flavours are driven.
"""

import asyncio
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import httpx  # noqa: E402
import requests  # noqa: E402
from eth_account import Account  # noqa: E402
from registry import gateway, load, report  # noqa: E402
from x402 import x402Client, x402ClientSync  # noqa: E402
from x402.http.clients.httpx import x402AsyncTransport  # noqa: E402
from x402.http.clients.requests import x402HTTPAdapter  # noqa: E402
from x402.mechanisms.evm.exact import ExactEvmScheme  # noqa: E402
from x402.mechanisms.evm.upto import UptoEvmScheme  # noqa: E402

devnet, account, model = load()
endpoint, context = gateway(devnet)
signer = Account.from_key(account["private_key"])
OPG = devnet["contracts"]["opg"]
LIMIT = 32


def register(client):
    client.register("eip155:*", UptoEvmScheme(signer))
    client.register("eip155:*", ExactEvmScheme(signer))
    return client


def body(stream=False):
    asked = {
        "model": model, "max_tokens": LIMIT, "temperature": 0,
        "messages": [{"role": "user", "content": "Say hello to Grace in a few words."}],
    }
    return asked | {"stream": True} if stream else asked


def check(case, answer, asset):
    choice = answer["choices"][0]
    assert choice["message"]["content"] and choice["finish_reason"] in ("stop", "length"), answer
    assert answer["tee_signature"] and answer["tee_id"] == devnet["gateways"][0]["tee_id"], answer
    report(case, answer["usage"], choice["message"]["content"], choice["finish_reason"], asset)
    return choice["message"]["content"]


def check_stream(case, lines, asset):
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert data[-1] == "[DONE]", data
    events = [json.loads(event) for event in data[:-1]]
    text = "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])
    final = events[-1]
    assert final["usage"] and final["tee_signature"] and final["choices"][0]["finish_reason"], final
    assert not any("usage" in event for event in events[:-1])
    report(case, final["usage"], text, final["choices"][0]["finish_reason"], asset)
    return text


async def with_httpx():
    url = endpoint + "/v1/chat/completions"
    # The client does not pass `verify=` on; a transport of one's own carries the pin.
    transport = x402AsyncTransport(register(x402Client()), httpx.AsyncHTTPTransport(verify=context))
    async with httpx.AsyncClient(transport=transport, timeout=120) as client:
        response = await client.post(url, json=body())
        assert response.status_code == 200, response.text
        whole = check("httpx", response.json(), "usdc")
        async with client.stream("POST", url, json=body(stream=True)) as response:
            assert response.status_code == 200, await response.aread()
            assert response.headers["content-type"].startswith("text/event-stream")
            streamed = check_stream("httpx-stream", [line async for line in response.aiter_lines()], "usdc")
        assert streamed == whole, (streamed, whole)

    allowed = register(x402Client()).set_spend_controls(
        {"allowed_assets": [{"network": "eip155:*", "asset": OPG, "max_amount_per_payment": str(10**18)}]}
    )
    transport = x402AsyncTransport(allowed, httpx.AsyncHTTPTransport(verify=context))
    async with httpx.AsyncClient(transport=transport, timeout=120) as client:
        response = await client.post(url, json=body())
        assert response.status_code == 200, response.text
        check("httpx-opg", response.json(), "opg")


class Pinned(x402HTTPAdapter):
    """Carries the pin into requests' pool, as its documentation has it."""

    def init_poolmanager(self, *arguments, **named):
        super().init_poolmanager(*arguments, ssl_context=context, assert_hostname=False, **named)

    def cert_verify(self, connection, url, verify, cert):
        # The context decides; requests would load its own list of authorities.
        pass


def with_requests():
    session = requests.Session()
    session.mount("https://", Pinned(register(x402ClientSync())))
    response = session.post(endpoint + "/v1/chat/completions", json=body(), timeout=120)
    assert response.status_code == 200, response.text
    check("requests", response.json(), "usdc")


asyncio.run(with_httpx())
with_requests()
