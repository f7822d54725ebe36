//! What scripts, rules and records do, over real connections.

use std::time::{Duration, Instant};

use crate::support::{Fake, HELLO, OPENAI, chat, collect, message, request, scripted, sender};
use bifrost_fake_provider::{Config, Control, Cut, Match, RecordQuery, Rule, Script, TlsFiles, Vendor, make_certs};
use http_body_util::BodyExt as _;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(10);

fn all() -> RecordQuery {
    RecordQuery::default()
}

fn rule(matches: Match, script: Script) -> Rule {
    Rule { matches, script, ..Rule::default() }
}

#[tokio::test]
async fn a_stream_can_be_cut_in_both_ways() {
    let fake = Fake::start().await;
    for how in ["reset", "close"] {
        let answer = fake.chat(&scripted(&format!(r#"{{"cut_after":3,"cut":"{how}"}}"#), true)).await;
        assert!(answer.broken, "{how}: the body must not end well");
        assert_eq!((answer.status, answer.events().len()), (200, 3), "{how}");
    }
    let seen = fake.control.wait_for(&all(), 2, SOON).await.unwrap();
    assert!(seen.iter().all(|r| !r.completed && r.streamed && r.status == 200));
}

#[tokio::test]
async fn a_plain_answer_can_be_cut() {
    let fake = Fake::start().await;
    let answer = fake.chat(&scripted(r#"{"cut_after":1}"#, false)).await;
    assert!(answer.broken && !answer.body.is_empty());
    let declared: usize = answer.header("content-length").parse().unwrap();
    assert!(answer.body.len() < declared);
}

#[tokio::test]
async fn an_error_event_can_be_the_first_or_a_later_one() {
    let fake = Fake::start().await;
    let first = fake.chat(&scripted(r#"{"error_after":0,"type":"server_error","message":"m"}"#, true)).await;
    assert_eq!((first.status, first.broken), (200, false));
    let events = first.events();
    assert_eq!((events.len(), &events[0]["error"]["type"]), (1, &"server_error".into()));
    let body = r#"{"model":"claude-2.1","stream":true,"max_tokens":9,"messages":[{"role":"user",
        "content":"[[fake {\"error_after\":4}]]"}]}"#;
    let later = fake.send(message(body)).await.unwrap();
    let events = later.events();
    assert_eq!((events.len(), &events[4]["error"]["type"]), (5, &"overloaded_error".into()));
}

#[tokio::test]
async fn waits_come_where_they_are_scripted() {
    let fake = Fake::start().await;
    let mut connection = fake.connect().await;
    let script = r#"{"head_delay_ms":60,"first_byte_delay_ms":60,"gap_ms":30,"chunks":3}"#;
    let start = Instant::now();
    let response = connection.send_request(chat(&scripted(script, true))).await.unwrap();
    let head = start.elapsed();
    let mut times = Vec::new();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        frame.unwrap();
        times.push(start.elapsed());
    }
    assert!(head >= Duration::from_millis(60), "head after {head:?}");
    assert!(times[0] >= Duration::from_millis(120), "first byte after {:?}", times[0]);
    assert_eq!(times.len(), 6, "role, three deltas, finish, done: each came by itself");
    assert!(times[5] >= Duration::from_millis(120 + 5 * 30), "{times:?}");
}

#[tokio::test]
async fn sizes_and_usage_are_as_scripted() {
    let fake = Fake::start().await;
    let script = r#"{"answer_bytes":100000,"usage":{"input":11,"output":22,"cached":3}}"#;
    let body = fake.chat(&scripted(script, false)).await.json();
    assert_eq!(body["choices"][0]["message"]["content"].as_str().unwrap().len(), 100_000);
    let usage = &body["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]),
        (&11.into(), &22.into(), &33.into())
    );
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 3);
}

#[tokio::test]
async fn statuses_have_the_vendors_error_unless_a_body_is_given() {
    let fake = Fake::start().await;
    let limited = fake.chat(&scripted(r#"{"status":429,"headers":{"retry-after":"7"}}"#, true)).await;
    assert_eq!((limited.status, limited.header("retry-after")), (429, "7"));
    assert_eq!(limited.json()["error"]["code"], "rate_limit_exceeded");
    let own =
        fake.chat(&scripted(r#"{"status":520,"body":"<html>","headers":{"content-type":"text/html"}}"#, false)).await;
    assert_eq!((own.status, own.text().as_str(), own.header("content-type")), (520, "<html>", "text/html"));
    let quota =
        fake.chat(&scripted(r#"{"status":429,"code":"insufficient_quota","type":"insufficient_quota"}"#, false)).await;
    assert_eq!(quota.json()["error"]["code"], "insufficient_quota");
    let wrong = fake.chat(&scripted(r#"{"stauts":429}"#, false)).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("bad script"));
}

#[tokio::test]
async fn a_header_scripts_one_request() {
    let fake = Fake::start().await;
    let mut scripted = chat(HELLO);
    scripted.headers_mut().insert("x-fake-script", r#"{"status":503}"#.parse().unwrap());
    assert_eq!(fake.send(scripted).await.unwrap().status, 503);
    assert_eq!(fake.chat(HELLO).await.status, 200);
}

#[tokio::test]
async fn a_rule_serves_so_often_and_for_its_key_only() {
    let fake = Fake::start().await;
    let matches = Match { key: Some("sk-test".into()), vendor: Some(Vendor::OpenAi), ..Match::default() };
    let mut rule = rule(matches, Script { status: Some(500), ..Script::default() });
    rule.times = Some(2);
    fake.control.add_rule(&rule).await.unwrap();
    let other = request(OPENAI, "POST", "/v1/chat/completions", &[("authorization", "Bearer sk-other")], HELLO);
    assert_eq!(fake.send(other).await.unwrap().status, 200);
    let statuses = [fake.chat(HELLO).await.status, fake.chat(HELLO).await.status, fake.chat(HELLO).await.status];
    assert_eq!(statuses, [500, 500, 200]);
    assert_eq!(fake.control.rules().await.unwrap()[0].used, 2);
    fake.control.clear_rules().await.unwrap();
    assert!(fake.control.rules().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_can_end_before_an_answer_or_silently_after_one() {
    let fake = Fake::start().await;
    assert!(fake.send(chat(&scripted(r#"{"drop":"reset"}"#, false))).await.is_err());
    assert!(fake.send(chat(&scripted(r#"{"drop":"close"}"#, false))).await.is_err());

    let mut connection = fake.connect().await;
    let answer = collect(connection.send_request(chat(&scripted(r#"{"close":true}"#, false))).await.unwrap()).await;
    assert_eq!((answer.status, answer.broken, answer.header("connection")), (200, false, ""));
    tokio::time::timeout(SOON, async { while connection.ready().await.is_ok() {} }).await.unwrap();

    // Only a connection that was used before: what a vendor's idle timeout looks like to the next request.
    let matches = Match { reused: Some(true), ..Match::default() };
    fake.control.add_rule(&rule(matches, Script { drop: Some(Cut::Close), ..Script::default() })).await.unwrap();
    let mut connection = fake.connect().await;
    assert_eq!(collect(connection.send_request(chat(HELLO)).await.unwrap()).await.status, 200);
    connection.ready().await.unwrap();
    assert!(connection.send_request(chat(HELLO)).await.is_err());
    let seen = fake.control.records(&all()).await.unwrap();
    assert_eq!(seen.iter().map(|r| r.status).collect::<Vec<_>>(), [0, 0, 200, 200, 0]);
    assert_eq!((seen[3].conn, seen[3].conn_request, seen[4].conn_request), (seen[4].conn, 1, 2));
}

#[tokio::test]
async fn a_hanging_request_ends_when_the_client_leaves() {
    let fake = Fake::start().await;
    let mut connection = fake.connect().await;
    let hanging = tokio::spawn(connection.send_request(chat(&scripted(r#"{"hang":true}"#, false))));
    let seen = fake.control.wait_for(&all(), 1, SOON).await.unwrap();
    assert_eq!(seen[0].ended, None);
    hanging.abort();
    drop(connection);
    ended(&fake.control).await;
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_is_noticed() {
    let fake = Fake::start().await;
    let mut connection = fake.connect().await;
    let script = r#"{"gap_ms":60000,"chunks":5}"#;
    let response = connection.send_request(chat(&scripted(script, true))).await.unwrap();
    drop((response, connection));
    ended(&fake.control).await;
}

/// Waits until the only request is over, and checks that it was not completed.
async fn ended(control: &Control) {
    tokio::time::timeout(SOON, async {
        loop {
            let seen = control.records(&all()).await.unwrap();
            if seen[0].ended.is_some() {
                assert!(!seen[0].completed);
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_body_can_be_read_slowly_or_not_at_all() {
    let fake = Fake::start().await;
    let slow = Match { path: Some("/v1/chat/*".into()), ..Match::default() };
    let script = Script { read_bytes_per_second: Some(1000), ..Script::default() };
    fake.control.add_rule(&rule(slow, script)).await.unwrap();
    let start = Instant::now();
    assert_eq!(fake.chat(HELLO).await.status, 200);
    assert!(start.elapsed() >= Duration::from_millis(HELLO.len() as u64 - 1));

    let mut early = chat(HELLO);
    early.headers_mut().insert("x-fake-script", r#"{"early":true,"status":413}"#.parse().unwrap());
    assert_eq!(fake.send(early).await.unwrap().status, 413);
    assert_eq!(fake.control.records(&all()).await.unwrap()[1].body_len, 0);
}

#[tokio::test]
async fn a_record_holds_what_was_sent() {
    let fake = Fake::start().await;
    let mut sent = chat(HELLO);
    sent.headers_mut().append("X-Twice", "a".parse().unwrap());
    sent.headers_mut().append("x-twice", "b".parse().unwrap());
    *sent.uri_mut() = "/v1/chat/completions?a=1&b".parse().unwrap();
    fake.send(sent).await.unwrap();
    fake.chat(&HELLO.replace("u1", "u 2&")).await;

    let found = fake.control.records(&RecordQuery { user: Some("u 2&".into()), ..all() }).await.unwrap();
    assert_eq!(found.len(), 1);
    let record = &fake.control.records(&all()).await.unwrap()[0];
    assert_eq!((record.path.as_str(), record.query.as_deref()), ("/v1/chat/completions", Some("a=1&b")));
    assert_eq!(
        (record.key.as_deref(), record.user.as_deref(), record.model.as_deref()),
        (Some("sk-test"), Some("u1"), Some("gpt-4o-mini"))
    );
    assert_eq!((record.body.as_str(), record.body_len), (HELLO, HELLO.len() as u64));
    let digest = <sha2::Sha256 as sha2::Digest>::digest(HELLO);
    assert_eq!(record.body_sha256, digest.iter().map(|b| format!("{b:02x}")).collect::<String>());
    assert_eq!(record.headers.iter().filter(|(n, _)| n == "x-twice").count(), 2);
    assert_eq!(record.header("host"), Some(OPENAI));
    assert!(record.completed && record.ended.is_some());
    assert!(!format!("{record:?}").contains("sk-test"), "a failing test must not print keys");

    let counts = fake.control.counts().await.unwrap();
    assert_eq!((counts.total, counts.of_key(Vendor::OpenAi, "sk-test")), (2, 2));
    let users = fake.control.users(Some(Vendor::OpenAi)).await.unwrap();
    assert_eq!(users["u1"]["sk-test"], 1);
    fake.control.reset().await.unwrap();
    assert_eq!((fake.control.counts().await.unwrap().total, fake.control.last_seq().await.unwrap()), (0, 0));
}

#[tokio::test]
async fn a_bad_rule_is_refused_and_named() {
    let fake = Fake::start().await;
    let bad = r#"{"match":{"pathh":"x"},"script":{}}"#;
    let tcp = TcpStream::connect(fake.running.control).await.unwrap();
    let answer = collect(sender(tcp).await.send_request(request("c", "POST", "/rules", &[], bad)).await.unwrap()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("pathh"), "{}", answer.text());
}

#[tokio::test]
async fn tls_is_served_under_a_private_ca() {
    let dir = tempfile::tempdir().unwrap();
    let files = make_certs(dir.path(), &["api.openai.com".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let tls = Some(TlsFiles { cert: files.cert, key: files.key });
    let fake = Fake::with(Config { https_port: Some(0), tls, ..Config::default() }).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(files.ca).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let connect = async || {
        let tcp = TcpStream::connect(fake.running.https.unwrap()).await.unwrap();
        let name = ServerName::try_from("api.openai.com").unwrap();
        sender(connector.connect(name, tcp).await.unwrap()).await
    };
    let mut sent = chat(HELLO);
    sent.headers_mut().insert("host", "api.openai.com".parse().unwrap());
    assert_eq!(collect(connect().await.send_request(sent).await.unwrap()).await.status, 200);
    let record = &fake.control.records(&all()).await.unwrap()[0];
    assert_eq!(record.sni.as_deref(), Some("api.openai.com"));
    let cut = connect().await.send_request(chat(&scripted(r#"{"cut_after":2}"#, true))).await.unwrap();
    assert!(collect(cut).await.broken);
}

#[tokio::test]
async fn stopping_lets_open_streams_end() {
    let fake = Fake::start().await;
    let mut connection = fake.connect().await;
    let script = r#"{"gap_ms":20,"chunks":10}"#;
    let response = connection.send_request(chat(&scripted(script, true))).await.unwrap();
    let (answer, ()) = tokio::join!(collect(response), fake.running.stop());
    assert!(!answer.broken && answer.text().ends_with("[DONE]\n\n"));
}
