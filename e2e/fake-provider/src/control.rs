//! The control API: rules, keys, models, records, counters. JSON over plain HTTP on a port of its own.
//!
//! | call | what |
//! |---|---|
//! | `GET /healthz` | `ok` |
//! | `GET /records?since=&user=&key=&vendor=&path=&model=&status=&limit=` | requests received |
//! | `GET /counts` | counters by vendor, key, path and status |
//! | `GET /users?vendor=` | user → key → requests |
//! | `POST /reset` | forget records and counters (`?all=true`: rules too) |
//! | `POST /hurry?model=` | what is open of a model is answered to its end without waits |
//! | `GET`, `POST`, `DELETE /rules` | list, add one or a list, remove all |
//! | `POST /keys` | make a key known, or disable it |
//! | `POST /models` | give the vendor a model, or take it away |

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    api::{Counts, KeySpec, ModelSpec, RecordQuery, RecordsPage, Users, Vendor},
    rules::Rule,
    shared::Shared,
};

/// Serves until told to stop.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let app = router(shared);
    let stop = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    // It ends with the process; a listener that breaks shows as refused connections.
    let _ = axum::serve(listener, app).with_graceful_shutdown(stop).await;
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/records", get(records))
        .route("/counts", get(counts))
        .route("/users", get(users))
        .route("/reset", post(reset))
        .route("/hurry", post(hurry))
        .route("/rules", get(list_rules).post(add_rules).delete(clear_rules))
        .route("/keys", post(set_key))
        .route("/models", post(set_model))
        .with_state(shared)
}

type Shares = State<Arc<Shared>>;

async fn records(State(shared): Shares, Query(query): Query<RecordQuery>) -> Json<RecordsPage> {
    Json(shared.records.page(&query))
}

async fn counts(State(shared): Shares) -> Json<Counts> {
    Json(shared.records.counts())
}

#[derive(Deserialize)]
struct OfVendor {
    vendor: Option<Vendor>,
}

async fn users(State(shared): Shares, Query(of): Query<OfVendor>) -> Json<Users> {
    Json(shared.records.users(of.vendor))
}

#[derive(Deserialize)]
struct HowMuch {
    #[serde(default)]
    all: bool,
}

async fn reset(State(shared): Shares, Query(how): Query<HowMuch>) -> StatusCode {
    shared.records.reset();
    if how.all {
        shared.rules().clear();
    }
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct OfModel {
    model: String,
}

async fn hurry(State(shared): Shares, Query(of): Query<OfModel>) -> StatusCode {
    shared.records.hurry(of.model);
    StatusCode::NO_CONTENT
}

#[derive(Serialize)]
struct RuleList {
    rules: Vec<Rule>,
}

async fn list_rules(State(shared): Shares) -> Json<RuleList> {
    Json(RuleList { rules: shared.rules().list().to_vec() })
}

/// One rule or several. Read as text first: an untagged type would hide which member is wrong.
async fn add_rules(State(shared): Shares, body: String) -> axum::response::Response {
    let parsed = if body.trim_start().starts_with('[') {
        serde_json::from_str::<Vec<Rule>>(&body)
    } else {
        serde_json::from_str(&body).map(|rule| vec![rule])
    };
    match parsed {
        Ok(rules) => {
            let mut all = shared.rules();
            rules.into_iter().for_each(|rule| all.add(rule));
            StatusCode::NO_CONTENT.into_response()
        }
        Err(wrong) => (StatusCode::BAD_REQUEST, format!("bad rule: {wrong}")).into_response(),
    }
}

async fn clear_rules(State(shared): Shares) -> StatusCode {
    shared.rules().clear();
    StatusCode::NO_CONTENT
}

async fn set_key(State(shared): Shares, Json(spec): Json<KeySpec>) -> StatusCode {
    shared.accounts_mut().set(spec);
    StatusCode::NO_CONTENT
}

async fn set_model(State(shared): Shares, Json(spec): Json<ModelSpec>) -> StatusCode {
    shared.models_mut().set(spec);
    StatusCode::NO_CONTENT
}
