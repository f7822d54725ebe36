//! A client of the control API for tests. It opens a connection per call, so that it can reach into another network
//! namespace through a dialer of the caller's.

use std::{io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::TcpStream;

use crate::{
    api::{Counts, KeySpec, ModelSpec, Record, RecordQuery, RecordsPage, Users, Vendor},
    rules::Rule,
};

const POLL: Duration = Duration::from_millis(20);
const PAGE: usize = 2_000;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The control port cannot be reached.
    #[error("cannot reach the fake provider: {0}")]
    Connect(#[from] io::Error),
    /// The connection broke.
    #[error("the fake provider did not answer: {0}")]
    Http(#[from] hyper::Error),
    /// The call was refused.
    #[error("the fake provider answered {status}: {body}")]
    Refused {
        /// Status of the answer.
        status: u16,
        /// What it said.
        body: String,
    },
    /// An answer or a request is not what it should be.
    #[error("unexpected answer of the fake provider: {0}")]
    Json(#[from] serde_json::Error),
    /// A call could not be written as a request.
    #[error("bad call: {0}")]
    Call(#[from] http::Error),
    /// What was waited for did not come.
    #[error("after {waited:?} only {seen} requests had come")]
    TimedOut {
        /// How long was waited.
        waited: Duration,
        /// Records that did fit.
        seen: usize,
    },
}

type Dialing = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;
type Dialer = Arc<dyn Fn() -> Dialing + Send + Sync>;

/// The control API of one fake provider.
#[derive(Clone)]
pub struct Control {
    dial: Dialer,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// Of the fake provider whose control port is `addr`.
    pub fn new(addr: SocketAddr) -> Self {
        Self::dialing(move || Box::pin(TcpStream::connect(addr)))
    }

    /// With a function that connects to the control port.
    pub fn dialing(dial: impl Fn() -> Dialing + Send + Sync + 'static) -> Self {
        Self { dial: Arc::new(dial) }
    }

    /// Whether it serves.
    pub async fn health(&self) -> Result<(), ControlError> {
        self.call(Method::GET, "/healthz", Bytes::new()).await.map(drop)
    }

    /// One page of records.
    pub async fn page(&self, query: &RecordQuery) -> Result<RecordsPage, ControlError> {
        let mut path = format!("/records?since={}", query.since);
        let status = query.status.map(|s| s.to_string());
        let limit = query.limit.map(|l| l.to_string());
        for (name, value) in [
            ("user", query.user.as_deref()),
            ("key", query.key.as_deref()),
            ("vendor", query.vendor.map(Vendor::as_str)),
            ("path", query.path.as_deref()),
            ("model", query.model.as_deref()),
            ("status", status.as_deref()),
            ("limit", limit.as_deref()),
        ] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", escape(value)));
            }
        }
        self.get(&path).await
    }

    /// All records that fit and are still kept, oldest first; `limit` is ignored.
    pub async fn records(&self, query: &RecordQuery) -> Result<Vec<Record>, ControlError> {
        let mut query = RecordQuery { limit: Some(PAGE), ..query.clone() };
        let mut all: Vec<Record> = Vec::new();
        loop {
            let page = self.page(&query).await?.records;
            let full = page.len() == PAGE;
            all.extend(page);
            match all.last() {
                Some(last) if full => query.since = last.seq,
                _ => return Ok(all),
            }
        }
    }

    /// Waits until at least `count` records fit, and returns all that do.
    pub async fn wait_for(
        &self,
        query: &RecordQuery,
        count: usize,
        timeout: Duration,
    ) -> Result<Vec<Record>, ControlError> {
        let start = tokio::time::Instant::now();
        loop {
            let records = self.records(query).await?;
            if records.len() >= count {
                return Ok(records);
            }
            if start.elapsed() > timeout {
                return Err(ControlError::TimedOut { waited: timeout, seen: records.len() });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// `seq` of the newest request: where "from now on" begins.
    pub async fn last_seq(&self) -> Result<u64, ControlError> {
        Ok(self.page(&RecordQuery { since: u64::MAX, ..RecordQuery::default() }).await?.last)
    }

    /// The counters.
    pub async fn counts(&self) -> Result<Counts, ControlError> {
        self.get("/counts").await
    }

    /// Users and the keys their requests carried, at one vendor or at all.
    pub async fn users(&self, vendor: Option<Vendor>) -> Result<Users, ControlError> {
        self.get(&vendor.map_or_else(|| "/users".to_owned(), |v| format!("/users?vendor={}", v.as_str()))).await
    }

    /// Forgets records and counters.
    pub async fn reset(&self) -> Result<(), ControlError> {
        self.call(Method::POST, "/reset", Bytes::new()).await.map(drop)
    }

    /// Forgets records, counters and rules.
    pub async fn reset_all(&self) -> Result<(), ControlError> {
        self.call(Method::POST, "/reset?all=true", Bytes::new()).await.map(drop)
    }

    /// Has what is open of a model answered to its end without waits. The name goes into the address as it is.
    pub async fn hurry(&self, model: &str) -> Result<(), ControlError> {
        self.call(Method::POST, &format!("/hurry?model={model}"), Bytes::new()).await.map(drop)
    }

    /// Adds a rule after those there are.
    pub async fn add_rule(&self, rule: &Rule) -> Result<(), ControlError> {
        self.post("/rules", rule).await
    }

    /// The rules, with how often each was used.
    pub async fn rules(&self) -> Result<Vec<Rule>, ControlError> {
        #[derive(serde::Deserialize)]
        struct List {
            rules: Vec<Rule>,
        }
        self.get::<List>("/rules").await.map(|list| list.rules)
    }

    /// Removes all rules.
    pub async fn clear_rules(&self) -> Result<(), ControlError> {
        self.call(Method::DELETE, "/rules", Bytes::new()).await.map(drop)
    }

    /// Makes a key known, or disables it.
    pub async fn set_key(&self, key: &KeySpec) -> Result<(), ControlError> {
        self.post("/keys", key).await
    }

    /// Gives a vendor a model, or takes it away.
    pub async fn set_model(&self, model: &ModelSpec) -> Result<(), ControlError> {
        self.post("/models", model).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ControlError> {
        let body = self.call(Method::GET, path, Bytes::new()).await?;
        Ok(serde_json::from_slice(&body)?)
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> Result<(), ControlError> {
        let body = serde_json::to_vec(body)?;
        self.call(Method::POST, path, body.into()).await.map(drop)
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ControlError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "control")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let tcp = (self.dial)().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            Ok::<_, ControlError>((status, body))
        };
        let driver = tokio::spawn(connection);
        let outcome = exchange.await;
        driver.abort();
        let (status, body) = outcome?;
        if status.is_success() {
            return Ok(body);
        }
        Err(ControlError::Refused { status: status.as_u16(), body: String::from_utf8_lossy(&body).into_owned() })
    }
}

/// A value as part of a query.
fn escape(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
