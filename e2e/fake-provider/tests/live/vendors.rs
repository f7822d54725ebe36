//! The vendors' own behaviour: hosts, credentials, errors, shapes, compression.

use crate::support::{ANTHROPIC, Fake, HELLO, OPENAI, chat, events, message, request};
use bifrost_fake_provider::{Config, KeySpec, Vendor};

const STREAM: &str = r#"{"model":"gpt-4o-mini","stream":true,"stream_options":{"include_usage":true},
    "messages":[{"role":"user","content":"hi"}]}"#;
const CLAUDE: &str =
    r#"{"model":"claude-3-sonnet-20240229","max_tokens":100,"messages":[{"role":"user","content":"hi"}]}"#;

#[tokio::test]
async fn a_foreign_host_is_misdirected_and_recorded() {
    let fake = Fake::start().await;
    let answer = fake.send(request("api.example.com", "GET", "/v1/models", &[], "")).await.unwrap();
    assert_eq!(answer.status, 421);
    let seen = fake.control.records(&Default::default()).await.unwrap();
    assert_eq!((seen[0].vendor, seen[0].host.as_str(), seen[0].status), (None, "api.example.com", 421));
}

#[tokio::test]
async fn openai_says_what_is_wrong_with_a_request() {
    let fake = Fake::start().await;
    let key = ("authorization", "Bearer sk-test");
    let org = ("openai-organization", "org-other");
    let post = |path: &str, headers: &[(&str, &str)], body: &str| request(OPENAI, "POST", path, headers, body);
    let path = "/v1/chat/completions";
    for (request, status, code) in [
        (post("/chat/completions", &[key], HELLO), 404, None),
        (request(OPENAI, "GET", path, &[key], ""), 405, Some("method_not_supported")),
        (post(path, &[], HELLO), 401, None),
        (post(path, &[("authorization", "Bearer dummy")], HELLO), 401, Some("invalid_api_key")),
        (post(path, &[key, org], HELLO), 401, Some("mismatched_organization")),
        (post(path, &[key], "{"), 400, None),
        (post(path, &[key], r#"{"model":"gpt-4o-mini"}"#), 400, Some("missing_required_parameter")),
        (post(path, &[key], r#"{"model":"nope","messages":[]}"#), 404, Some("model_not_found")),
    ] {
        let answer = fake.send(request).await.unwrap();
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, error["code"].as_str()), (status, code), "{error}");
        assert!(error["message"].is_string() && error.get("param").is_some(), "{error}");
        assert!(answer.header("x-request-id").starts_with("req_"));
    }
}

#[tokio::test]
async fn anthropic_says_what_is_wrong_with_a_request() {
    let fake = Fake::start().await;
    let (key, version) = (("x-api-key", "sk-ant-test"), ("anthropic-version", "2023-06-01"));
    let post = |path: &str, headers: &[(&str, &str)], body: &str| request(ANTHROPIC, "POST", path, headers, body);
    let path = "/v1/messages";
    for (request, status, kind) in [
        (post("/messages", &[key, version], CLAUDE), 404, "not_found_error"),
        (post(path, &[version], CLAUDE), 401, "authentication_error"),
        (post(path, &[("x-api-key", "dummy"), version], CLAUDE), 401, "authentication_error"),
        (post(path, &[key], CLAUDE), 400, "invalid_request_error"),
        (post(path, &[key, version], "[]"), 400, "invalid_request_error"),
        (post(path, &[key, version], r#"{"model":"claude-2.1","messages":[]}"#), 400, "invalid_request_error"),
        (post(path, &[key, version], r#"{"model":"gpt-4o","max_tokens":1,"messages":[{}]}"#), 404, "not_found_error"),
    ] {
        let answer = fake.send(request).await.unwrap();
        let body = answer.json();
        assert_eq!((answer.status, body["error"]["type"].as_str()), (status, Some(kind)), "{body}");
        assert_eq!(
            (body["type"].as_str(), body["request_id"].as_str()),
            (Some("error"), Some(answer.header("request-id")))
        );
    }
}

#[tokio::test]
async fn a_chat_has_the_vendors_shape_and_headers() {
    let fake = Fake::start().await;
    let answer = fake.chat(HELLO).await;
    let body = answer.json();
    assert_eq!(answer.status, 200);
    assert_eq!((&body["object"], &body["model"]), (&"chat.completion".into(), &"gpt-4o-mini-2024-07-18".into()));
    assert!(body["choices"][0]["message"]["content"].is_string() && body["usage"]["total_tokens"].is_u64());
    assert!(answer.text().starts_with("{\n  \"id\": \"chatcmpl-"), "pretty-printed, id first");
    assert!(
        answer.header("openai-organization").starts_with("org-") && answer.header("set-cookie").contains("__cf_bm")
    );
    assert_eq!(answer.header("x-ratelimit-limit-requests"), "10000");
}

#[tokio::test]
async fn a_chat_stream_is_role_text_finish_usage_done() {
    let fake = Fake::start().await;
    let plain = fake.chat(HELLO).await.json()["choices"][0]["message"]["content"].clone();
    let answer = fake.chat(STREAM).await;
    assert_eq!(answer.header("content-type"), "text/event-stream; charset=utf-8");
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    let events = answer.events();
    let delta = |i: usize| &events[i]["choices"][0]["delta"];
    assert_eq!((&delta(0)["role"], &delta(0)["content"]), (&"assistant".into(), &"".into()));
    let text: String = events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, plain);
    let (finish, usage) = (&events[events.len() - 2], &events[events.len() - 1]);
    assert_eq!(finish["choices"][0]["finish_reason"], "stop");
    assert!(usage["choices"].as_array().unwrap().is_empty() && usage["usage"]["total_tokens"].is_u64());
    assert!(finish["usage"].is_null());
}

#[tokio::test]
async fn a_response_belongs_to_the_account_that_made_it() {
    let fake = Fake::start().await;
    let send = async |key: &str, body: String| {
        let auth = format!("Bearer {key}");
        fake.send(request(OPENAI, "POST", "/v1/responses", &[("authorization", &auth)], &body)).await.unwrap()
    };
    let first = send("sk-a", r#"{"model":"gpt-4o","input":"hi"}"#.to_owned()).await.json();
    let id = first["id"].as_str().unwrap();
    let next = format!(r#"{{"model":"gpt-4o","input":"and","previous_response_id":"{id}"}}"#);
    assert_eq!(send("sk-a", next.clone()).await.status, 200);
    let refused = send("sk-b", next).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (404, &"previous_response_not_found".into()));

    let unkept = send("sk-a", r#"{"model":"gpt-4o","input":"hi","store":false}"#.to_owned()).await.json();
    let path = format!("/v1/responses/{}", unkept["id"].as_str().unwrap());
    let gone = fake.send(request(OPENAI, "GET", &path, &[("authorization", "Bearer sk-a")], "")).await.unwrap();
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn a_response_stream_is_typed_numbered_and_has_no_done() {
    let fake = Fake::start().await;
    let body = r#"{"model":"gpt-4o","input":"hi","stream":true}"#;
    let answer = fake.send(request(OPENAI, "POST", "/v1/responses", &[("authorization", "Bearer sk-a")], body)).await;
    let answer = answer.unwrap();
    let events = answer.events();
    assert_eq!(events.first().unwrap()["type"], "response.created");
    assert_eq!(events.last().unwrap()["type"], "response.completed");
    assert!(events.iter().enumerate().all(|(i, e)| e["sequence_number"] == i), "numbered from 0 without a gap");
    assert!(!answer.text().contains("[DONE]"));
    let text: String = events.iter().filter_map(|e| e["delta"].as_str()).collect();
    assert_eq!(events.last().unwrap()["response"]["output"][0]["content"][0]["text"], text);
}

#[tokio::test]
async fn a_message_stream_has_the_vendors_events() {
    let fake = Fake::start().await;
    let plain = fake.send(message(CLAUDE)).await.unwrap().json();
    let answer = fake.send(message(&CLAUDE.replacen('{', r#"{"stream":true,"#, 1))).await.unwrap();
    let events = answer.events();
    let mut kinds: Vec<_> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    let text: String = events.iter().filter_map(|e| e["delta"]["text"].as_str()).collect();
    assert_eq!(plain["content"][0]["text"], text);
    assert!(answer.text().starts_with("event: message_start\ndata: {\"type\":\"message_start\""));
}

#[tokio::test]
async fn small_endpoints_answer() {
    let fake = Fake::start().await;
    let key = [("authorization", "Bearer sk-test")];
    let call = async |method: &str, path: &str, body: &str| {
        let answer = fake.send(request(OPENAI, method, path, &key, body)).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    };
    assert!(call("GET", "/v1/models", "").await["data"].as_array().unwrap().len() > 10);
    assert_eq!(call("GET", "/v1/models/gpt-4o", "").await["id"], "gpt-4o");
    let body = r#"{"model":"text-embedding-3-small","input":["a","b"]}"#;
    assert_eq!(call("POST", "/v1/embeddings", body).await["data"][1]["embedding"].as_array().unwrap().len(), 16);
    assert_eq!(call("POST", "/v1/moderations", r#"{"input":"x"}"#).await["results"][0]["flagged"], false);
    assert!(call("POST", "/v1/images/generations", r#"{"prompt":"x"}"#).await["data"][0]["b64_json"].is_string());
    let body = r#"{"model":"gpt-3.5-turbo-instruct","prompt":"x"}"#;
    assert!(call("POST", "/v1/completions", body).await["choices"][0]["text"].is_string());
    let count = request(
        ANTHROPIC,
        "POST",
        "/v1/messages/count_tokens",
        &[("authorization", "Bearer sk-ant-oat"), ("anthropic-version", "2023-06-01")],
        CLAUDE,
    );
    assert!(fake.send(count).await.unwrap().json()["input_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn an_upload_is_measured_and_belongs_to_its_account() {
    let fake = Fake::start().await;
    let kind = "multipart/form-data; boundary=X";
    let body = "--X\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--X\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\r\n12345\r\n--X--\r\n";
    let headers = [("authorization", "Bearer sk-a"), ("content-type", kind)];
    let file = fake.send(request(OPENAI, "POST", "/v1/files", &headers, body)).await.unwrap().json();
    assert_eq!((&file["bytes"], &file["filename"]), (&5.into(), &"a.jsonl".into()));
    let path = format!("/v1/files/{}", file["id"].as_str().unwrap());
    let of = async |key: &str| fake.send(request(OPENAI, "GET", &path, &[("authorization", key)], "")).await.unwrap();
    assert_eq!((of("Bearer sk-a").await.status, of("Bearer sk-b").await.status), (200, 404));
}

#[tokio::test]
async fn answers_are_compressed_when_the_client_allows_it() {
    let fake = Fake::start().await;
    for (body, stream) in [(HELLO, false), (STREAM, true)] {
        let mut request = chat(body);
        request.headers_mut().insert("accept-encoding", "gzip, deflate".parse().unwrap());
        let answer = fake.send(request).await.unwrap();
        assert_eq!(answer.header("content-encoding"), "gzip");
        let text = answer.inflated();
        if stream {
            assert!(text.ends_with("data: [DONE]\n\n") && events(&text).len() > 3);
        } else {
            assert!(text.contains("\"chat.completion\""));
        }
        assert_eq!(fake.chat(body).await.header("content-encoding"), "");
    }
}

#[tokio::test]
async fn keys_and_models_come_and_go() {
    let key =
        |enabled| KeySpec { vendor: Vendor::OpenAi, key: "sk-test".into(), account: Some("acme".into()), enabled };
    let fake = Fake::with(Config { keys: vec![key(true)], strict_keys: true, ..Config::default() }).await;
    let answer = fake.chat(HELLO).await;
    assert_eq!((answer.status, answer.header("openai-organization")), (200, "org-acme"));
    fake.control.set_key(&key(false)).await.unwrap();
    assert_eq!(fake.chat(HELLO).await.status, 401);
    fake.control.set_key(&key(true)).await.unwrap();
    let gone = bifrost_fake_provider::ModelSpec { vendor: Vendor::OpenAi, model: "gpt-4o-mini".into(), enabled: false };
    fake.control.set_model(&gone).await.unwrap();
    assert_eq!(fake.chat(HELLO).await.status, 404);
}
