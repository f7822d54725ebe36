use std::sync::Mutex;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Redirect};
use axum::routing::{get, post};
use bifrost_analysis::Verdict;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::migration::guard::guard;

/// What a server was asked.
type Heard = Arc<Mutex<Vec<String>>>;

async fn serve() -> (SocketAddr, Heard) {
    let heard = Heard::default();
    let hear = |State(heard): State<Heard>, RawQuery(query): RawQuery| async move {
        heard.lock().unwrap().push(query.unwrap_or_default());
        r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0.031"]}]}}"#
    };
    let judge = |State(heard): State<Heard>, body: String| async move {
        heard.lock().unwrap().push(body);
        r#"{"verdict":"Fail","why":"secret"}"#
    };
    let large = || async { format!(r#"{{"verdict":"Pass","pad":"{}"}}"#, "x".repeat(Limits::PRODUCT.body)) };
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        r#"{"verdict":"Pass"}"#
    };
    let slow_body = || async {
        let pieces = futures::stream::once(async {
            std::future::pending::<()>().await;
            Ok::<_, std::io::Error>("")
        });
        axum::body::Body::from_stream(pieces).into_response()
    };
    let app = Router::new()
        .route("/api/v1/query", get(hear))
        .route("/judge/", post(judge))
        .route("/large", post(large))
        .route("/slow", post(slow))
        .route("/slow-body", post(slow_body))
        .route("/moved", post(|| async { Redirect::temporary("/judge/") }))
        .route("/moved-on", post(|| async { (StatusCode::FOUND, [(header::LOCATION, "http://elsewhere.example/")]) }))
        .route("/broken", post(|| async { (StatusCode::INTERNAL_SERVER_ERROR, "secret") }))
        .with_state(heard.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, heard)
}

fn asker(hosts: &[String], addresses: AddressRule) -> HttpAsk {
    bounded(hosts, addresses, Limits::PRODUCT)
}

fn bounded(hosts: &[String], addresses: AddressRule, limits: Limits) -> HttpAsk {
    HttpAsk::new(crate::tls::config().unwrap(), HostRule::new(hosts, addresses).unwrap(), limits).unwrap()
}

fn metric(metric: Value) -> Metric {
    let mut metric = metric;
    metric["name"] = json!("m");
    let spec = json!({"canaryPercent": 50, "analysis": {"metrics": [metric]}});
    guard(&serde_json::from_value(spec).unwrap()).unwrap().analysis.unwrap().metrics[0].clone()
}

fn subject() -> Subject {
    let gateway = Named { namespace: "llm".to_owned(), name: "ai".to_owned() };
    Subject { gateway, step: "1/3".to_owned(), revision: "r1".to_owned(), percent: Some(5) }
}

async fn judged(address: SocketAddr, path: &str) -> Answer {
    let total = if path.starts_with("/slow") { Duration::from_millis(300) } else { Limits::PRODUCT.total };
    let asker = bounded(&[address.to_string()], AddressRule::Any, Limits { total, ..Limits::PRODUCT });
    asker.ask(&metric(json!({"webhook": {"url": format!("http://{address}{path}")}})), &subject()).await
}

#[tokio::test]
async fn prometheus_is_asked_with_the_names_filled_in() {
    let (address, heard) = serve().await;
    let asker = asker(&[address.to_string()], AddressRule::Any);
    let ask = async |max: &str| {
        let query = r#"sum(rate(x{n="{{namespace}}",g="{{gateway}}"}[5m])) + 1"#;
        let prometheus = json!({"url": format!("http://{address}/"), "query": query, "max": max});
        asker.ask(&metric(json!({"prometheus": prometheus})), &subject()).await
    };
    let (fail, pass) = (ask("0.02").await, ask("0.04").await);
    assert_eq!((fail.verdict, fail.why.as_str()), (Verdict::Fail, "0.031 is above 0.02"));
    assert_eq!((pass.verdict, pass.value), (Verdict::Pass, Some(0.031)));
    let asked = Url::parse(&format!("http://p/?{}", heard.lock().unwrap()[0])).unwrap();
    let asked: Vec<_> = asked.query_pairs().collect();
    assert_eq!(asked, [("query".into(), r#"sum(rate(x{n="llm",g="ai"}[5m])) + 1"#.into())]);
}

#[tokio::test]
async fn a_webhook_hears_of_the_step_and_its_verdict_is_taken() {
    let (address, heard) = serve().await;
    let answer = judged(address, "/judge/").await;
    assert_eq!((answer.verdict, answer.why.as_str()), (Verdict::Fail, "says Fail"));
    let body: Value = serde_json::from_str(&heard.lock().unwrap()[0]).unwrap();
    let expected =
        json!({"gateway": {"namespace": "llm", "name": "ai"}, "step": "1/3", "revision": "r1", "percent": 5});
    assert_eq!(body, expected);
}

#[tokio::test]
async fn what_goes_wrong_says_nothing_and_shows_nothing_of_a_body() {
    let (address, heard) = serve().await;
    for (path, trouble) in [
        ("/moved", Trouble::Redirect),
        ("/moved-on", Trouble::Redirect),
        ("/large", Trouble::Large),
        ("/slow", Trouble::Slow),
        ("/slow-body", Trouble::Slow),
        ("/broken", Trouble::Status(5)),
        ("/nowhere", Trouble::Status(4)),
    ] {
        assert_eq!(judged(address, path).await, Answer::unsure(trouble.to_string()), "{path}");
    }
    assert!(heard.lock().unwrap().is_empty(), "no redirect was followed");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(judged(free, "").await, Answer::unsure(Trouble::Unreachable.to_string()));
}

#[tokio::test]
async fn a_host_that_is_not_allowed_is_not_asked() {
    let (address, heard) = serve().await;
    let metric = metric(json!({"webhook": {"url": format!("http://{address}/judge/")}}));
    let other = format!("127.0.0.1:{}", address.port() ^ 1);
    for asker in [
        asker(&[], AddressRule::Any),
        asker(&[other], AddressRule::Any),
        asker(&[address.to_string()], AddressRule::NoLocal),
    ] {
        assert_eq!(asker.ask(&metric, &subject()).await, Answer::unsure(Trouble::Host.to_string()));
    }
    assert!(heard.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_name_that_leads_to_a_local_address_is_not_asked() {
    let resolve = async |rule| Resolver(rule).resolve("localhost".parse().unwrap()).await.map(Iterator::count);
    assert!(resolve(AddressRule::NoLocal).await.unwrap_err().is::<LocalAddress>());
    assert!(resolve(AddressRule::Any).await.unwrap() > 0);
}

/// A TLS server for `localhost` that answers every connection with a Pass, and the root that vouches for it.
async fn serve_tls() -> (u16, rustls::RootCertStore) {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()).into();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 18\r\nconnection: close\r\n\r\n{\"verdict\":\"Pass\"}";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, roots)
}

#[tokio::test]
async fn https_needs_a_certificate_that_is_trusted() {
    let (port, roots) = serve_tls().await;
    let url = format!("https://localhost:{port}");
    let metric = metric(json!({"webhook": {"url": url}}));
    let host = format!("localhost:{port}");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trusting = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let rule = HostRule::new(std::slice::from_ref(&host), AddressRule::Any).unwrap();
    let trusting = HttpAsk::new(trusting, rule, Limits::PRODUCT).unwrap();
    assert_eq!(trusting.ask(&metric, &subject()).await.verdict, Verdict::Pass);
    let answer = asker(&[host], AddressRule::Any).ask(&metric, &subject()).await;
    assert_eq!(answer, Answer::unsure(Trouble::Unreachable.to_string()));
}
