//! The life of one request: received, recorded, scripted, answered.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Request, Response, StatusCode, request::Parts};
use hyper::body::Incoming;

use crate::{
    anthropic,
    api::Vendor,
    body::FakeBody,
    openai,
    records::{self, Arrival, HeaderText, OpenRecord, now_ms},
    reply::Reply,
    request::{Call, Received, credential, random_id, read_body},
    script::Script,
    server::Conn,
    shared::{Shared, host_of},
};

/// The connection ends without an answer: as scripted, or because the client left.
#[derive(Debug, thiserror::Error)]
#[error("no answer")]
pub(crate) struct NoAnswer;

/// Answers one request of vendor traffic.
pub(crate) async fn handle(
    shared: Arc<Shared>,
    conn: Arc<Conn>,
    request: Request<Incoming>,
) -> Result<Response<FakeBody>, NoAnswer> {
    let time = now_ms();
    let host = host_of(&request);
    let vendor = shared.vendor(&host);
    let (parts, body) = request.into_parts();
    let conn_request = conn.next_request();
    let mut arrival =
        Arrival { time, vendor, host, sni: conn.sni(), conn: conn.id, conn_request, ..Arrival::default() };
    let mut call = call(vendor.unwrap_or(Vendor::OpenAi), &parts, conn_request > 1);
    fill(&mut arrival, &parts, &call);

    let from_header = Script::from_header(&call.headers);
    let (early, pace) = body_orders(&shared, &call, from_header.as_ref().ok().and_then(Option::as_ref));
    let received = if early { Some(Received::unread()) } else { read_body(body, shared.max_body, pace).await };
    let Some(received) = received else {
        drop(shared.records.open(arrival));
        return Err(NoAnswer);
    };
    call.set_body(received.body.clone());
    fill_body(&mut arrival, &received, &call);
    let record = shared.records.open(arrival);

    let Some(_) = vendor else { return Ok(misdirected(&call, &conn, record)) };
    let script = match from_header.and_then(|script| choose(&shared, &call, script)) {
        Ok(script) => script,
        Err(wrong) => return Ok(bad_script(&call, &wrong, &conn, record)),
    };
    wait(&script).await;
    if let Some(how) = script.drop {
        conn.end(how);
        return Err(NoAnswer);
    }
    let reply = answer(&shared, &call, &script, received.too_large);
    let headers = match call.vendor {
        Vendor::OpenAi => openai::headers(&reply, &call),
        Vendor::Anthropic => anthropic::headers(&reply, &call),
    };
    Ok(reply.into_response(headers, &call.headers, &script, &conn, record))
}

fn call(vendor: Vendor, parts: &Parts, reused: bool) -> Call {
    Call {
        vendor,
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        headers: parts.headers.clone(),
        credential: credential(Some(vendor), &parts.headers),
        reused,
        request_id: random_id(if vendor == Vendor::OpenAi { "req_" } else { "req_01" }, 24),
        started: Instant::now(),
        body: bytes::Bytes::new(),
        json: None,
    }
}

fn fill(arrival: &mut Arrival, parts: &Parts, call: &Call) {
    arrival.method = call.method.to_string();
    arrival.path.clone_from(&call.path);
    arrival.query = parts.uri.query().map(str::to_owned);
    arrival.headers = HeaderText::new(&parts.headers);
    // A foreign host's request may carry either vendor's credential.
    arrival.key = credential(arrival.vendor, &parts.headers);
}

fn fill_body(arrival: &mut Arrival, received: &Received, call: &Call) {
    arrival.body_len = received.body.len() as u64;
    arrival.body_sha256 = received.sha256;
    arrival.body = records::kept(&received.body);
    arrival.user = call.user().map(str::to_owned);
    arrival.model = call.text("model").map(str::to_owned);
    arrival.streamed = call.streams();
}

/// How the body is to be read: not at all, or at some speed.
fn body_orders(shared: &Shared, call: &Call, header: Option<&Script>) -> (bool, Option<u64>) {
    let orders = |script: &Script| (script.early, script.read_bytes_per_second);
    header.map(orders).or_else(|| shared.rules().peek(&call.head()).map(orders)).unwrap_or_default()
}

/// The script in force: of the header, else of the prompt, else of the rules.
fn choose(shared: &Shared, call: &Call, header: Option<Script>) -> Result<Script, String> {
    if let Some(script) = header {
        return Ok(script);
    }
    if memchr::memmem::find(&call.body, b"[[fake ").is_some()
        && let Some(prompt) = call.prompt()
        && let Some(script) = Script::from_prompt(&prompt)?
    {
        return Ok(script);
    }
    let mut rules = shared.rules();
    let ruled = if rules.is_empty() { None } else { rules.take(&call.head(), &call.body_view()) };
    Ok(ruled.unwrap_or_default())
}

async fn wait(script: &Script) {
    if script.hang {
        // Ends when the client leaves: hyper then drops the request.
        std::future::pending::<()>().await;
    }
    if script.head_delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(script.head_delay_ms)).await;
    }
}

fn answer(shared: &Shared, call: &Call, script: &Script, too_large: bool) -> Reply {
    if let Some(status) = script.status.and_then(|s| StatusCode::from_u16(s).ok()) {
        return match (&script.body, call.vendor) {
            (Some(body), _) => Reply::scripted(status, body),
            (None, _) if status.is_success() => Reply::json(status, "{}"),
            (None, Vendor::OpenAi) => openai::scripted_error(status, script),
            (None, Vendor::Anthropic) => anthropic::scripted_error(call, status, script),
        };
    }
    match call.vendor {
        Vendor::OpenAi if too_large => openai::too_large(),
        Vendor::OpenAi => openai::answer(shared, call, script),
        Vendor::Anthropic if too_large => anthropic::too_large(call),
        Vendor::Anthropic => anthropic::answer(shared, call, script),
    }
}

/// What a content network says to a name it does not serve.
fn misdirected(call: &Call, conn: &Arc<Conn>, record: OpenRecord) -> Response<FakeBody> {
    let reply = Reply::whole(StatusCode::MISDIRECTED_REQUEST, "text/plain", "421 Misdirected Request\n");
    reply.into_response(HeaderMap::new(), &call.headers, &Script::default(), conn, record)
}

fn bad_script(call: &Call, wrong: &str, conn: &Arc<Conn>, record: OpenRecord) -> Response<FakeBody> {
    let status = StatusCode::BAD_REQUEST;
    let script = Script { message: Some(wrong.to_owned()), ..Script::default() };
    let reply = match call.vendor {
        Vendor::OpenAi => openai::scripted_error(status, &script),
        Vendor::Anthropic => anthropic::scripted_error(call, status, &script),
    };
    reply.into_response(HeaderMap::new(), &call.headers, &Script::default(), conn, record)
}
