"""Calls what applications call most, with both SDKs, each thing once, streaming and not.

Addresses and keys come from the environment, as the SDKs read them themselves: OPENAI_BASE_URL, OPENAI_API_KEY,
ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY. Prints one JSON line and ends with 1 if anything failed.
"""

import argparse
import json
import sys

import anthropic
import openai

QUESTION = [{"role": "user", "content": "Say hello."}]


def chat(client, model):
    raw = client.chat.completions.with_raw_response.create(model=model, messages=QUESTION)
    return raw.headers, raw.parse().choices[0].message.content


def chat_stream(client, model):
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    pieces, usage = [], None
    for chunk in raw.parse():
        usage = chunk.usage or usage
        pieces += [choice.delta.content or "" for choice in chunk.choices]
    assert usage is not None, "no usage chunk"
    return raw.headers, "".join(pieces)


def responses(client, model):
    raw = client.responses.with_raw_response.create(model=model, input="Say hello.")
    return raw.headers, raw.parse().output_text


def responses_stream(client, model):
    raw = client.responses.with_raw_response.create(model=model, input="Say hello.", stream=True)
    pieces, completed = [], False
    for event in raw.parse():
        completed |= event.type == "response.completed"
        pieces += [event.delta] if event.type == "response.output_text.delta" else []
    assert completed, "the stream did not complete"
    return raw.headers, "".join(pieces)


def embeddings(client, model):
    raw = client.embeddings.with_raw_response.create(model=model, input=["one", "two"])
    return raw.headers, f"{len(raw.parse().data)} embeddings"


def models(client, _model):
    raw = client.models.with_raw_response.list()
    return raw.headers, f"{len(raw.parse().data)} models"


def messages(client, model):
    raw = client.messages.with_raw_response.create(model=model, max_tokens=100, messages=QUESTION)
    return raw.headers, raw.parse().content[0].text


def messages_stream(client, model):
    raw = client.messages.with_raw_response.create(model=model, max_tokens=100, messages=QUESTION, stream=True)
    pieces, stopped = [], False
    for event in raw.parse():
        stopped |= event.type == "message_stop"
        pieces += [event.delta.text] if event.type == "content_block_delta" else []
    assert stopped, "the stream did not stop"
    return raw.headers, "".join(pieces)


def count_tokens(client, model):
    raw = client.messages.with_raw_response.count_tokens(model=model, messages=QUESTION)
    return raw.headers, f"{raw.parse().input_tokens} tokens"


def describe(error):
    """The error with its causes: the SDKs' own text for a broken connection says nothing more."""
    text = []
    while error is not None:
        text.append(f"{type(error).__name__}: {error}")
        error = error.__cause__
    return " <- ".join(text)


def run(vendor, call, client, model):
    outcome = {"name": f"{vendor}.{call.__name__}", "ok": False, "error": None, "text": None}
    headers = {}
    try:
        headers, outcome["text"] = call(client, model)
        outcome["ok"] = bool(outcome["text"])
    except Exception as error:  # every kind of failure is a result here
        outcome["error"] = describe(error)
        headers = getattr(getattr(error, "response", None), "headers", {})
    outcome["arm"] = headers.get("x-bf-arm")
    outcome["reason"] = headers.get("x-bf-arm-reason")
    outcome["request_id"] = headers.get("x-bf-request-id")
    return outcome


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["openai", "anthropic"], help="one vendor only")
    parser.add_argument("--openai-model", default="gpt-4o-mini")
    parser.add_argument("--embedding-model", default="text-embedding-3-small")
    parser.add_argument("--anthropic-model", default="claude-3-haiku-20240307")
    args = parser.parse_args()

    results = []
    if args.only != "anthropic":
        client = openai.OpenAI(max_retries=0)
        for call in (chat, chat_stream, responses, responses_stream, embeddings, models):
            model = args.embedding_model if call is embeddings else args.openai_model
            results.append(run("openai", call, client, model))
    if args.only != "openai":
        client = anthropic.Anthropic(max_retries=0)
        for call in (messages, messages_stream, count_tokens, models):
            results.append(run("anthropic", call, client, args.anthropic_model))

    ok = all(result["ok"] for result in results)
    versions = {"openai": openai.__version__, "anthropic": anthropic.__version__}
    print(json.dumps({"language": "python", "versions": versions, "ok": ok, "results": results}))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
