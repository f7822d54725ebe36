//! The admin port over a socket.

use std::sync::atomic::{AtomicBool, Ordering};

use bifrost_analysis::WindowReport;
use bifrost_config::report::StateReport;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request};

use super::*;
use crate::source::kubernetes::tests::{FakeApi, options};
use crate::source::test_store;
use crate::upstream::address::AddressRule;
use crate::upstream::connect::Connector;
use crate::upstream::resolve::Resolver;

struct Port {
    address: std::net::SocketAddr,
    draining: Arc<AtomicBool>,
    store: Arc<Store>,
    heartbeats: Arc<Heartbeats>,
}

async fn open(api: Option<&FakeApi>) -> Port {
    let gatherer = Arc::new(Gatherer::new());
    let store = test_store(gatherer.clone());
    let cluster = match api {
        Some(api) => Some(crate::source::kubernetes::start(options(None), api.client(), store.clone()).await),
        None => None,
    };
    let draining = Arc::new(AtomicBool::default());
    let heartbeats = Heartbeats::new(1);
    let shown = store.clone();
    let admin = Admin {
        store: store.clone(),
        metrics: Arc::new(Metrics::new(gatherer.clone(), move || shown.status())),
        gatherer,
        heartbeats: heartbeats.clone(),
        reach: Reach::new(Connector::new(Resolver::system(), AddressRule::Any)),
        is_draining: Box::new({
            let draining = draining.clone();
            move || draining.load(Ordering::Relaxed)
        }),
        cluster,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::new(admin)));
    Port { address, draining, store, heartbeats }
}

impl Port {
    async fn ask(&self, method: Method, path: &str, token: Option<&str>) -> (u16, String) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "pod");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask(Method::GET, path, None).await
    }
}

fn published() -> FakeApi {
    let api = FakeApi::new(false);
    api.publish("u", 7, 10);
    // sk-1 and token-1
    api.write("secrets", serde_json::json!({"key.main": "c2stMQ==", "admin-token": "dG9rZW4tMQ=="}));
    api
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let port = open(None).await;
    assert_eq!(port.get("/readyz").await, (503, "no configuration yet\n".into()));
    port.store.report_problem("there is no ConfigMap ai-bifrost".into());
    assert_eq!(port.get("/readyz").await.1, "no configuration yet: there is no ConfigMap ai-bifrost\n");

    let port = open(Some(&published())).await;
    assert_eq!(port.get("/readyz").await.0, 200);
    port.draining.store(true, Ordering::Relaxed);
    assert_eq!(port.get("/readyz").await, (503, "draining\n".into()));
}

#[tokio::test]
async fn liveness_health_and_metrics_are_open() {
    let port = open(None).await;
    assert_eq!(port.get("/livez").await.0, 200);
    assert_eq!(port.get("/health").await, (200, r#"{"status":"ok","components":{}}"#.into()));
    let (status, text) = port.get("/metrics").await;
    assert!(status == 200 && text.contains("bifrost_config_last_load_success 0"), "{text}");
    assert_eq!(port.heartbeats.silent(), None);
}

#[tokio::test]
async fn state_and_refresh_ask_for_the_admin_token() {
    let api = published();
    let port = open(Some(&api)).await;
    for token in [None, Some("token-2"), Some("token-"), Some("")] {
        assert_eq!(port.ask(Method::GET, "/state", token).await.0, 401, "{token:?}");
        assert_eq!(port.ask(Method::POST, "/refresh", token).await.0, 401, "{token:?}");
        assert_eq!(port.ask(Method::GET, "/analysis", token).await.0, 401, "{token:?}");
        assert_eq!(port.ask(Method::GET, "/analysis/rollout", token).await.0, 401, "{token:?}");
    }
    let (status, text) = port.ask(Method::GET, "/state", Some("token-1")).await;
    let report: StateReport = serde_json::from_str(&text).unwrap();
    assert_eq!((status, report.gateway_uid.as_str(), report.epoch), (200, "u", 7));
    assert!(!text.contains("sk-1") && !text.contains("token-1"), "{text}");

    api.publish("u", 8, 0);
    let (status, text) = port.ask(Method::POST, "/refresh", Some("token-1")).await;
    let report: StateReport = serde_json::from_str(&text).unwrap();
    assert_eq!((status, report.epoch), (200, 8));
}

#[tokio::test]
async fn the_window_is_told_with_the_epoch_that_began_the_split() {
    let api = published();
    let port = open(Some(&api)).await;
    let ask = async || {
        let (status, text) = port.ask(Method::GET, "/analysis", Some("token-1")).await;
        assert_eq!(status, 200);
        serde_json::from_str::<WindowReport>(&text).unwrap()
    };
    let first = ask().await;
    assert_eq!((first.epoch_mark, first.window.strata().len(), first.instance.is_empty()), (7, 0, false));
    api.publish("u", 8, 10);
    port.ask(Method::POST, "/refresh", Some("token-1")).await;
    assert_eq!(ask().await, first);
    api.publish("u", 9, 25);
    port.ask(Method::POST, "/refresh", Some("token-1")).await;
    assert_eq!(ask().await.epoch_mark, 9);
    let (status, text) = port.ask(Method::GET, "/analysis/rollout", Some("token-1")).await;
    let report: WindowReport = serde_json::from_str(&text).unwrap();
    assert_eq!((status, report.epoch_mark, report.window.strata().len()), (200, 0, 0));
}

#[tokio::test]
async fn without_a_cluster_or_a_token_the_guarded_part_is_closed() {
    let port = open(None).await;
    let (status, text) = port.ask(Method::GET, "/state", Some("")).await;
    assert_eq!(status, 403);
    assert!(text.contains("no cluster"), "{text}");
    let port = open(Some(&FakeApi::new(false))).await;
    assert_eq!(port.ask(Method::GET, "/state", Some("")).await.0, 403);
}

#[test]
fn tokens_are_compared_in_full() {
    assert!(equal(b"abc", b"abc"));
    assert!(!equal(b"abc", b"abd") && !equal(b"ab", b"abc") && !equal(b"abcd", b"abc") && !equal(b"", b"a"));
}
