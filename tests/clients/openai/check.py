"""Use the official OpenAI client unmodified, with the official x402 transport below it.

usage: check.py DEVNET_JSON ACCOUNT MODEL
"""

import asyncio
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import httpx  # noqa: E402
import openai  # noqa: E402
from eth_account import Account  # noqa: E402
from registry import gateway, load, report  # noqa: E402
from x402 import x402Client  # noqa: E402
from x402.http.clients.httpx import x402AsyncTransport  # noqa: E402
from x402.mechanisms.evm.exact import ExactEvmScheme  # noqa: E402
from x402.mechanisms.evm.upto import UptoEvmScheme  # noqa: E402

devnet, account, model = load()
endpoint, context = gateway(devnet)
LIMIT = 32
MESSAGES = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Say hello to Alan in a few words."}]},
]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "Current time in a zone",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
    },
}


def paying(client_base):
    signer = Account.from_key(account["private_key"])
    client_base.register("eip155:*", UptoEvmScheme(signer))
    client_base.register("eip155:*", ExactEvmScheme(signer))
    return x402AsyncTransport(client_base, httpx.AsyncHTTPTransport(verify=context))


def usage(of):
    return {"prompt_tokens": of.prompt_tokens, "completion_tokens": of.completion_tokens}


async def main():
    http_client = httpx.AsyncClient(transport=paying(x402Client()), timeout=120)
    # A retry would be a second payment.
    client = openai.AsyncOpenAI(base_url=endpoint + "/v1", api_key="unused", http_client=http_client, max_retries=0)

    listed = [m.id async for m in client.models.list()]
    assert model in listed and set(devnet["models"]) <= set(listed), listed
    assert (await client.models.retrieve(model)).id == model

    answer = await client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=LIMIT, temperature=0)
    text = answer.choices[0].message.content
    assert text and answer.id and answer.object == "chat.completion" and answer.created, answer
    assert answer.model_extra["tee_signature"], answer
    report("chat", usage(answer.usage), text, answer.choices[0].finish_reason, "usdc")

    stream = await client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=LIMIT, temperature=0, stream=True, stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert all(c.id == chunks[0].id and c.object == "chat.completion.chunk" and c.created for c in chunks), chunks
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert streamed == text, (streamed, text)
    final = chunks[-1]
    assert final.usage and final.choices[0].finish_reason and final.model_extra["tee_signature"], final
    report("chat-stream", usage(final.usage), streamed, final.choices[0].finish_reason, "usdc")

    answer = await client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=64, temperature=0, tools=[TOOL], tool_choice="required",
    )
    call = answer.choices[0].message.tool_calls[0]
    assert answer.choices[0].finish_reason == "tool_calls" and call.function.name == "get_time", answer
    assert isinstance(json.loads(call.function.arguments)["zone"], str), call
    report("tools", usage(answer.usage), call.function.arguments, "tool_calls", "usdc")

    completion = await client.completions.create(model=model, prompt="Say ok", max_tokens=LIMIT, temperature=0)
    assert completion.choices[0].text and completion.object == "text_completion", completion
    report("completion", usage(completion.usage), completion.choices[0].text, completion.choices[0].finish_reason, "usdc")

    # What is wrong is said as OpenAI says it, before any payment.
    for wrong, error, code in (
        ({"model": "no-such-model", "messages": MESSAGES}, openai.NotFoundError, 404),
        ({"model": model, "messages": []}, openai.BadRequestError, 400),
    ):
        try:
            await client.chat.completions.create(**wrong)
        except error as refused:
            assert refused.status_code == code and refused.body["message"] and refused.body["code"], refused.body
        else:
            raise AssertionError(f"{wrong} was accepted")

    # Without a payer, the challenge comes as an error with what is needed.
    bare = openai.AsyncOpenAI(
        base_url=endpoint + "/v1", api_key="unused", http_client=httpx.AsyncClient(verify=context), max_retries=0
    )
    try:
        await bare.chat.completions.create(model=model, messages=MESSAGES)
    except openai.APIStatusError as refused:
        assert refused.status_code == 402 and refused.response.headers["payment-required"], refused
    else:
        raise AssertionError("an unpaid request was answered")


asyncio.run(main())
