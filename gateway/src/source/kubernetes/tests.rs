//! The source against an API server that is a router in this process.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path as Part, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bifrost_config::report::ArmCounts;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::saved::{read_saved, tests::write};
use super::super::store::tests::{members, members_with_candidate, members_without_keys, store};
use super::*;

/// An API server with one namespace. It answers reads and watches of the ConfigMap and the Secret, or nothing at all.
#[derive(Clone)]
pub(crate) struct FakeApi(Arc<Objects>);

struct Objects {
    /// By kind (`configmaps`, `secrets`), with the number of the last write.
    objects: Mutex<BTreeMap<String, Value>>,
    writes: watch::Sender<u64>,
    /// Whether it answers; `Some(status)`: only with this.
    refusal: Mutex<Option<u16>>,
    is_silent: bool,
    /// Whether watches of the Secret tell nothing.
    secrets_lag: AtomicBool,
}

impl FakeApi {
    pub(crate) fn new(is_silent: bool) -> Self {
        Self(Arc::new(Objects {
            objects: Mutex::default(),
            writes: watch::Sender::new(1),
            refusal: Mutex::default(),
            is_silent,
            secrets_lag: AtomicBool::default(),
        }))
    }

    pub(crate) fn write(&self, kind: &str, data: Value) {
        self.0.writes.send_modify(|version| {
            *version += 1;
            let (api, name) = match kind {
                "configmaps" => ("ConfigMap", "ai-bifrost"),
                _ => ("Secret", "ai-bifrost-keys"),
            };
            let metadata =
                json!({"name": name, "namespace": "llm", "uid": kind, "resourceVersion": version.to_string()});
            let object = json!({"apiVersion": "v1", "kind": api, "metadata": metadata, "data": data});
            self.0.objects.lock().unwrap().insert(kind.to_owned(), object);
        });
    }

    pub(crate) fn publish(&self, uid: &str, epoch: u64, percent: u8) {
        self.write("configmaps", json!(members(uid, epoch, percent)));
    }

    /// A Secret with one key, encoded as the API has it.
    fn set_key(&self, encoded: &str) {
        self.write("secrets", json!({"key.main": encoded}));
    }

    pub(crate) fn client(&self) -> Client {
        let router = Router::new()
            .route("/api/v1/namespaces/llm/{kind}", get(list_or_watch))
            .route("/api/v1/namespaces/llm/{kind}/{name}", get(read))
            .with_state(self.clone());
        Client::new(router, "llm")
    }

    async fn admit(&self) -> Result<(), Response> {
        if self.0.is_silent {
            std::future::pending::<()>().await;
        }
        match *self.0.refusal.lock().unwrap() {
            Some(code) => Err(failure(code)),
            None => Ok(()),
        }
    }
}

fn failure(code: u16) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": if code == 404 { "NotFound" } else { "r" }, "message": "m", "code": code});
    (StatusCode::from_u16(code).unwrap(), Json(status)).into_response()
}

async fn read(State(api): State<FakeApi>, Part((kind, _)): Part<(String, String)>) -> Response {
    if let Err(refusal) = api.admit().await {
        return refusal;
    }
    let objects = api.0.objects.lock().unwrap();
    objects.get(&kind).map_or_else(|| failure(404), |object| Json(object).into_response())
}

async fn list_or_watch(
    State(api): State<FakeApi>,
    Part(kind): Part<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    if let Err(refusal) = api.admit().await {
        return refusal;
    }
    assert!(query["fieldSelector"].starts_with("metadata.name=ai-bifrost"), "the role allows that name only");
    if query.get("watch").map(String::as_str) != Some("true") {
        let version = api.0.writes.borrow().to_string();
        let items: Vec<_> = api.0.objects.lock().unwrap().get(&kind).cloned().into_iter().collect();
        return Json(
            json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": version}, "items": items}),
        )
        .into_response();
    }
    let seen: u64 = query["resourceVersion"].parse().unwrap();
    let events = futures::stream::unfold((api, kind, seen), |(api, kind, seen)| async move {
        let mut writes = api.0.writes.subscribe();
        let next = |objects: &BTreeMap<String, Value>| {
            let object = objects.get(&kind)?.clone();
            let version: u64 = object["metadata"]["resourceVersion"].as_str()?.parse().ok()?;
            (version > seen).then_some((object, version))
        };
        loop {
            let found = next(&api.0.objects.lock().unwrap());
            if let Some((object, version)) = found {
                let line = format!("{}\n", json!({"type": "MODIFIED", "object": object}));
                return Some((Ok::<_, std::io::Error>(line), (api, kind, version)));
            }
            writes.changed().await.ok()?;
            if kind == "secrets" && api.0.secrets_lag.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        }
    });
    Body::from_stream(events).into_response()
}

pub(crate) fn options(dirs: Option<&tempfile::TempDir>) -> ClusterOptions {
    let dir = |name: &str| dirs.map(|dirs| dirs.path().join(name));
    let options = ClusterOptions {
        namespace: "llm".into(),
        name: "ai".into(),
        state_dir: dir("state"),
        mounted_config: dir("config"),
        mounted_keys: dir("keys"),
    };
    for dir in [&options.state_dir, &options.mounted_config, &options.mounted_keys].into_iter().flatten() {
        std::fs::create_dir_all(dir).unwrap();
    }
    options
}

fn mount(options: &ClusterOptions, members: Option<&Members>, key: Option<&str>) {
    for (name, text) in members.into_iter().flatten() {
        std::fs::write(options.mounted_config.as_ref().unwrap().join(name), text).unwrap();
    }
    if let Some(key) = key {
        std::fs::write(options.mounted_keys.as_ref().unwrap().join("key.main"), key).unwrap();
    }
}

fn in_use(store: &Store) -> (String, u64, Option<String>) {
    let snapshot = store.snapshot().expect("a configuration is in use");
    let value = snapshot.parts.keys.values.get("main").map(|value| value.expose().to_owned());
    (snapshot.parts.traffic.gateway_uid.clone(), snapshot.parts.traffic.epoch, value)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = timeout(Duration::from_secs(30), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

#[tokio::test(start_paused = true)]
async fn changes_of_configmap_and_secret_are_followed_and_saved() {
    let (api, store, dirs) = (FakeApi::new(false), store(), tempfile::tempdir().unwrap());
    api.publish("u", 7, 10);
    api.set_key("c2stMQ==");
    let _handle = start(options(Some(&dirs)), api.client(), store.clone()).await;
    assert_eq!(in_use(&store), ("u".into(), 7, Some("sk-1".into())));
    api.publish("u", 8, 25);
    until("the new table is in use", || in_use(&store).1 == 8).await;
    api.set_key("c2stMg==");
    until("the new value is in use", || in_use(&store).2.as_deref() == Some("sk-2")).await;
    let saved = || read_saved(&dirs.path().join("state")).unwrap();
    until("the new table is saved, without keys", || saved() == Some(members("u", 8, 25))).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_in_use_with_its_value_although_the_secrets_watch_lags() {
    let (api, store) = (FakeApi::new(false), store());
    api.write("configmaps", json!(members_without_keys("u", 7, 10)));
    let _handle = start(options(None), api.client(), store.clone()).await;
    assert_eq!(in_use(&store), ("u".into(), 7, None));
    api.0.secrets_lag.store(true, Ordering::Relaxed);
    api.set_key("c2stMQ==");
    api.publish("u", 8, 10);
    until("the new table is in use", || in_use(&store).1 == 8).await;
    assert_eq!(in_use(&store).2.as_deref(), Some("sk-1"));
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_of_the_api_the_newest_copy_serves_with_the_mounted_keys() {
    for (saved_epoch, mounted_epoch) in [(9, 6), (6, 9)] {
        let (api, store, dirs) = (FakeApi::new(true), store(), tempfile::tempdir().unwrap());
        let options = options(Some(&dirs));
        write(options.state_dir.as_ref().unwrap(), &members("u", saved_epoch, 0));
        mount(&options, Some(&members("u", mounted_epoch, 100)), Some("sk-mounted"));
        let before = tokio::time::Instant::now();
        let _handle = start(options, api.client(), store.clone()).await;
        assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
        assert_eq!(in_use(&store), ("u".into(), 9, Some("sk-mounted".into())));
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_with_the_api_away_keeps_the_candidate() {
    for saved in [true, false] {
        let (api, store, dirs) = (FakeApi::new(true), store(), tempfile::tempdir().unwrap());
        let options = options(Some(&dirs));
        match saved {
            true => write(options.state_dir.as_ref().unwrap(), &members_with_candidate("u", 9)),
            false => mount(&options, Some(&members_with_candidate("u", 9)), Some("sk-mounted")),
        }
        let _handle = start(options, api.client(), store.clone()).await;
        let report = store.report(ArmCounts::default(), None);
        assert_eq!((report.epoch, report.candidate.as_deref(), report.problem), (9, Some("next"), None), "{saved}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_that_fell_behind_what_was_saved_does_not_undo_it() {
    let (api, store, dirs) = (FakeApi::new(false), store(), tempfile::tempdir().unwrap());
    let options = options(Some(&dirs));
    write(options.state_dir.as_ref().unwrap(), &members("u", 9, 0));
    api.publish("u", 8, 100);
    api.set_key("c2stMQ==");
    let _handle = start(options, api.client(), store.clone()).await;
    assert_eq!(in_use(&store), ("u".into(), 9, Some("sk-1".into())));
    assert!(store.problem().unwrap().contains("epoch 8"));
}

#[tokio::test(start_paused = true)]
async fn a_new_gateway_of_the_same_name_wins_over_what_was_saved() {
    let (api, store, dirs) = (FakeApi::new(false), store(), tempfile::tempdir().unwrap());
    let options = options(Some(&dirs));
    write(options.state_dir.as_ref().unwrap(), &members("old", 9, 0));
    api.publish("new", 1, 100);
    api.set_key("c2stMQ==");
    let _handle = start(options, api.client(), store.clone()).await;
    assert_eq!((in_use(&store).0.as_str(), in_use(&store).1), ("new", 1));
}

#[tokio::test(start_paused = true)]
async fn an_api_that_comes_late_is_heard() {
    let (api, store) = (FakeApi::new(false), store());
    *api.0.refusal.lock().unwrap() = Some(503);
    let _handle = start(options(None), api.client(), store.clone()).await;
    assert!(!store.is_ready());
    assert!(store.problem().is_some());
    api.publish("u", 7, 10);
    api.set_key("c2stMQ==");
    *api.0.refusal.lock().unwrap() = None;
    until("the configuration is in use", || store.is_ready()).await;
    assert_eq!((in_use(&store).1, store.problem()), (7, None));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_reads_anew_and_says_when_it_cannot() {
    let (api, store) = (FakeApi::new(false), store());
    api.publish("u", 7, 10);
    api.set_key("c2stMQ==");
    let handle = start(options(None), api.client(), store.clone()).await;
    api.publish("u", 8, 0);
    handle.refresh().await.unwrap();
    assert_eq!(in_use(&store).1, 8);
    *api.0.refusal.lock().unwrap() = Some(403);
    assert!(handle.refresh().await.is_err());
    assert_eq!((in_use(&store).1, store.report(ArmCounts::default(), None).problem), (8, None));
}

#[tokio::test(start_paused = true)]
async fn a_published_configuration_that_cannot_be_read_is_reported_and_changes_nothing() {
    let (api, store) = (FakeApi::new(false), store());
    api.publish("u", 7, 10);
    api.set_key("c2stMQ==");
    let handle = start(options(None), api.client(), store.clone()).await;
    api.write("configmaps", json!({"stable.json": "{", "traffic.json": "{}"}));
    handle.refresh().await.unwrap();
    assert_eq!(in_use(&store).1, 7);
    assert!(store.problem().unwrap().contains("stable.json"), "{:?}", store.problem());
    let mut later = members("u", 8, 100);
    let rules = later["traffic.json"].replacen('{', r#"{"rules":[{"weekdays":["Mon"]}],"#, 1);
    later.insert("traffic.json".into(), rules);
    api.write("configmaps", json!(later));
    handle.refresh().await.unwrap();
    assert_eq!(in_use(&store).1, 7);
    assert!(store.problem().unwrap().contains("weekdays"), "{:?}", store.problem());
    api.publish("u", 8, 10);
    until("the next good one is in use", || in_use(&store).1 == 8).await;
    assert_eq!(store.problem(), None);
}
