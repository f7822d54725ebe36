"""Sends many requests with one SDK client and counts which arm and which revision served them.

The client reads address and key from the environment. Retries are off: a failed request is a failure. Prints one JSON
line: {requests, failures, first_error, arms: {bifrost, baseline, none}, reasons, revisions, statuses, failed_arms,
failed_revisions, users, seconds, longest_pause, longest_wait}; arms, reasons, revisions and statuses count every answer whose head came,
also one that failed later; failed_arms and failed_revisions count the failures, none where no head came; users names the
revision that answered each, with --name-users; longest_pause is the longest time between the ends of two requests,
longest_wait the longest that one took.
With --until-stdin-closes a line `serving` comes first, after the first request.
"""

import argparse
import asyncio
import collections
import inspect
import json
import os
import threading
import time
import warnings

import anthropic
import httpx2
import openai


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--users", choices=["fixed", "one", "none"], default="none", help="fixed: user-0 to user-(N-1); one: the first")
    parser.add_argument("--first-user", type=int, default=0, help="number of the first user")
    parser.add_argument("--name-users", action="store_true", help="of fixed users: which revision answered each")
    parser.add_argument("--api", choices=["chat", "responses", "messages"], default="chat")
    parser.add_argument("--model", help="default: a small model of the API's vendor")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--tools", action="store_true", help="chat: requests bring a tool")
    parser.add_argument("--prompt", default="Say hello.")
    parser.add_argument("--rate", type=float, help="requests a second at most")
    parser.add_argument("--duration", type=float, help="seconds; instead of --requests")
    parser.add_argument("--until-stdin-closes", action="store_true", help="at most --duration seconds")
    args = parser.parse_args()
    args.model = args.model or ("claude-3-haiku-20240307" if args.api == "messages" else "gpt-4o-mini")
    return args


def make_client(args):
    """One client for all requests, with a connection for each that may be under way."""
    limits = httpx2.Limits(max_connections=args.concurrency, max_keepalive_connections=args.concurrency)
    if args.api == "messages":
        return anthropic.AsyncAnthropic(max_retries=0, http_client=anthropic.DefaultAsyncHttpxClient(limits=limits))
    return openai.AsyncOpenAI(max_retries=0, http_client=openai.DefaultAsyncHttpxClient(limits=limits))


def make_call(client, args):
    """The SDK's method, and the arguments that are the same for every request."""
    question = [{"role": "user", "content": args.prompt}]
    common = {"model": args.model, "stream": args.stream}
    if args.api == "messages":
        return client.messages.with_raw_response.create, {**common, "messages": question, "max_tokens": 100}
    if args.api == "responses":
        return client.responses.with_raw_response.create, {**common, "input": args.prompt}
    if args.tools:
        pay = {"name": "pay", "parameters": {"type": "object", "properties": {"amount": {"type": "number"}}}}
        common["tools"] = [{"type": "function", "function": pay}]
    return client.chat.completions.with_raw_response.create, {**common, "messages": question}


def describe(error):
    """The error with its causes: the SDKs' own text for a broken connection says nothing more."""
    text = []
    while error is not None:
        text.append(f"{type(error).__name__}: {error}")
        error = error.__cause__
    return " <- ".join(text)


class Tally:
    def __init__(self):
        self.requests = self.failures = 0
        self.first_error = None
        self.arms = collections.Counter(bifrost=0, baseline=0, none=0)
        self.reasons = collections.Counter()
        self.revisions = collections.Counter()
        self.statuses = collections.Counter()
        self.failed_arms = collections.Counter(bifrost=0, baseline=0, none=0)
        self.failed_revisions = collections.Counter()
        self.users = {}
        self.ended = None
        self.longest_pause = self.longest_wait = 0.0

    def served(self, headers, status):
        self.arms[headers.get("x-bf-arm", "none")] += 1
        self.statuses[str(status)] += 1
        if reason := headers.get("x-bf-arm-reason"):
            self.reasons[reason] += 1
        if revision := headers.get("x-bf-revision"):
            self.revisions[revision] += 1

    def failed(self, error, headers):
        self.failures += 1
        self.failed_arms[headers.get("x-bf-arm", "none")] += 1
        self.failed_revisions[headers.get("x-bf-revision", "none")] += 1
        self.first_error = self.first_error or describe(error)

    def end(self, began):
        """A request is over, well or not."""
        now = time.monotonic()
        self.longest_wait = max(self.longest_wait, now - began)
        if self.ended is not None:
            self.longest_pause = max(self.longest_pause, now - self.ended)
        self.ended = now


def told_to_stop():
    """An event that is set once stdin is closed."""
    stop = threading.Event()

    def wait():
        while os.read(0, 1024):
            pass
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    return stop


async def one(call, args, common, number, tally):
    options = dict(common)
    user = f"user-{args.first_user + (number if args.users == 'fixed' else 0)}"
    if args.users != "none":
        options.update({"metadata": {"user_id": user}} if args.api == "messages" else {"user": user})
    try:
        raw = await call(**options)
    except Exception as error:  # every kind of failure is counted
        response = getattr(error, "response", None)
        tally.failed(error, {} if response is None else response.headers)
        if response is not None:
            tally.served(response.headers, response.status_code)
        return
    tally.served(raw.headers, raw.status_code)
    if args.name_users:
        tally.users[user] = raw.headers.get("x-bf-revision", "none")
    try:
        answer = raw.parse()
        if inspect.isawaitable(answer):  # in one of the SDKs it is
            answer = await answer
        if args.stream:
            await read_to_end(answer, args.api)
    except Exception as error:
        tally.failed(error, raw.headers)


async def read_to_end(stream, api):
    """Reads a stream; one that was cut may end without an error of its own."""
    ended = False
    async for event in stream:
        if api == "chat":
            ended |= bool(event.choices and event.choices[0].finish_reason)
        else:
            ended |= event.type in ("message_stop", "response.completed")
    if not ended:
        raise RuntimeError("the stream did not come to its end")


async def run(args):
    client = make_client(args)
    call, common = make_call(client, args)
    tally = Tally()
    stop = told_to_stop() if args.until_stdin_closes else threading.Event()
    start = time.monotonic()

    def goes_on():
        if args.duration:
            return time.monotonic() - start < args.duration and not stop.is_set()
        return tally.requests < args.requests

    async def worker():
        while goes_on():
            number = tally.requests
            tally.requests += 1
            if args.rate:
                await asyncio.sleep(max(0.0, start + number / args.rate - time.monotonic()))
            began = time.monotonic()
            await one(call, args, common, number, tally)
            if tally.ended is None and args.until_stdin_closes:
                print("serving", flush=True)
            tally.end(began)

    await asyncio.gather(*(worker() for _ in range(args.concurrency)))
    seconds = time.monotonic() - start
    await client.close()
    return {
        "language": "python",
        "requests": tally.requests,
        "failures": tally.failures,
        "first_error": tally.first_error,
        "arms": tally.arms,
        "reasons": tally.reasons,
        "revisions": tally.revisions,
        "statuses": tally.statuses,
        "failed_arms": tally.failed_arms,
        "failed_revisions": tally.failed_revisions,
        "users": tally.users,
        "seconds": round(seconds, 3),
        "longest_pause": round(tally.longest_pause, 3),
        "longest_wait": round(tally.longest_wait, 3),
    }


if __name__ == "__main__":
    # The SDKs warn about old models, which the fake provider still has.
    warnings.simplefilter("ignore", DeprecationWarning)
    print(json.dumps(asyncio.run(run(arguments()))))
