"""Run the unmodified OpenGradient SDK against a network described by devnet.json.

usage: check.py DEVNET_JSON ACCOUNT MODEL [CASES]

CASES is a comma-separated list of: approve, plain, stream, tools, tools-stream, structured, completion, all (default),
quick (one plain chat). Each case runs in the settlement modes `private` and `batch`. For every paid request one line of
JSON goes to standard output: {"case", "mode", "usage", "text", "finish_reason"}; the caller compares charges with it.
Any failed check ends the script with a traceback.
"""

import asyncio
import json
import os
import sys

devnet = json.load(open(sys.argv[1]))
account = next(a for a in devnet["accounts"] if a["name"] == sys.argv[2])
model = "local/" + sys.argv[3]  # the SDK sends what follows the slash
ALL = ["approve", "plain", "stream", "tools", "tools-stream", "structured", "completion"]
asked = (sys.argv[4] if len(sys.argv) > 4 else "all").split(",")
cases = ALL if asked == ["all"] else asked

# Read once, when the SDK is imported.
os.environ["BASE_MAINNET_RPC"] = devnet["payment"]["rpc_url"]

import opengradient as og  # noqa: E402

QUESTION = [{"role": "user", "content": "Say hello to Ada in a few words."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
SCHEMA = {
    "name": "person",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
}
LIMIT = 48


def report(case, mode, usage, text, finish_reason):
    line = {"case": case, "mode": mode.value, "usage": usage, "text": text, "finish_reason": finish_reason}
    print(json.dumps(line), flush=True)


def signed(result):
    assert result.tee_signature and result.tee_timestamp, result
    assert "0x" + result.tee_id.removeprefix("0x") in [g["tee_id"].lower() for g in devnet["gateways"]], result.tee_id
    assert result.tee_payment_address.lower() in [g["payment_address"].lower() for g in devnet["gateways"]]


def tool_calls(calls):
    for call in calls:
        assert call["type"] == "function" and call["id"], call
        assert call["function"]["name"] == "get_weather", call
        assert isinstance(json.loads(call["function"]["arguments"])["city"], str), call


async def plain(llm, mode):
    result = await llm.chat(model, QUESTION, max_tokens=LIMIT, x402_settlement_mode=mode)
    signed(result)
    assert result.chat_output["role"] == "assistant" and result.chat_output["content"], result
    assert result.finish_reason in ("stop", "length"), result.finish_reason
    report("plain", mode, result.usage, result.chat_output["content"], result.finish_reason)
    return result.chat_output["content"]


async def stream(llm, mode):
    answer = await llm.chat(model, QUESTION, max_tokens=LIMIT, x402_settlement_mode=mode, stream=True)
    chunks = [chunk async for chunk in answer]
    assert sum(chunk.is_final for chunk in chunks) == 1 and chunks[-1].is_final, chunks
    final = chunks[-1]
    signed(final)
    assert len(chunks) > 2, "it comes in pieces"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text and final.usage and final.choices[0].finish_reason in ("stop", "length"), final
    usage = {"prompt_tokens": final.usage.prompt_tokens, "completion_tokens": final.usage.completion_tokens}
    report("stream", mode, usage, text, final.choices[0].finish_reason)
    return text


async def tools(llm, mode):
    result = await llm.chat(model, QUESTION, max_tokens=LIMIT, tools=[TOOL], x402_settlement_mode=mode)
    signed(result)
    calls = result.chat_output.get("tool_calls") or []
    tool_calls(calls)
    # A small model may prefer to talk; what it may not do is both claim and omit a call.
    assert bool(calls) == (result.finish_reason == "tool_calls"), result
    assert calls or result.chat_output["content"], result
    report("tools", mode, result.usage, json.dumps(calls) if calls else result.chat_output["content"], result.finish_reason)
    return result.usage


async def tools_stream(llm, mode):
    answer = await llm.chat(model, QUESTION, max_tokens=LIMIT, tools=[TOOL], x402_settlement_mode=mode, stream=True)
    chunks = [chunk async for chunk in answer]
    assert len(chunks) == 1 and chunks[0].is_final, chunks
    signed(chunks[0])
    choice = chunks[0].choices[0]
    tool_calls(choice.delta.tool_calls or [])
    # The SDK drops usage here; the caller takes it from the same request without streaming.
    report("tools-stream", mode, None, choice.delta.content, choice.finish_reason)


async def structured(llm, mode):
    shape = og.ResponseFormat(type="json_schema", json_schema=SCHEMA)
    result = await llm.chat(model, QUESTION, max_tokens=LIMIT, response_format=shape, x402_settlement_mode=mode)
    signed(result)
    person = json.loads(result.chat_output["content"])
    assert set(person) == {"name", "age"}, person
    assert isinstance(person["name"], str) and isinstance(person["age"], int), person
    report("structured", mode, result.usage, result.chat_output["content"], result.finish_reason)

    shape = og.ResponseFormat(type="json_object")
    result = await llm.chat(model, QUESTION, max_tokens=LIMIT, response_format=shape, x402_settlement_mode=mode)
    assert isinstance(json.loads(result.chat_output["content"]), dict), result
    report("json-object", mode, result.usage, result.chat_output["content"], result.finish_reason)


async def completion(llm, mode):
    result = await llm.completion(model, "Say ok", max_tokens=LIMIT, x402_settlement_mode=mode)
    signed(result)
    assert result.completion_output, result
    # The SDK gives no usage here.
    report("completion", mode, None, result.completion_output, None)


async def main():
    llm = og.LLM(
        account["private_key"],
        rpc_url=devnet["network"]["rpc_url"],
        tee_registry_address=devnet["contracts"]["tee_registry"],
    )
    if "approve" in cases:
        first = llm.ensure_opg_approval(min_allowance=5)
        assert first.allowance_before == 0 and first.allowance_after >= 5 * 10**18 and first.tx_hash, first
        again = llm.ensure_opg_approval(min_allowance=5)
        assert again.tx_hash is None and again.allowance_after == first.allowance_after, again
    if cases == ["quick"]:
        await plain(llm, og.x402SettlementMode.BATCH_HASHED)
    for mode in (og.x402SettlementMode.PRIVATE, og.x402SettlementMode.BATCH_HASHED):
        if "plain" in cases:
            whole = await plain(llm, mode)
            if "stream" in cases:
                assert await stream(llm, mode) == whole, "the same question, the same answer"
        if "tools" in cases:
            await tools(llm, mode)
        if "tools-stream" in cases:
            await tools_stream(llm, mode)
        if "structured" in cases:
            await structured(llm, mode)
        if "completion" in cases:
            await completion(llm, mode)
    await llm.close()


asyncio.run(main())
