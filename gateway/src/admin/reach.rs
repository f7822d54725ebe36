//! Whether this pod reaches the pods of a candidate's own. They are ready before the proxies of all nodes know of them, and a request
//! that cannot be forwarded counts against the candidate: its share only rises once every pod has reached them.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::HEALTH_PATH;
use crate::pipeline::forward::{ROLLOUT_HEADER, is_taken};
use crate::snapshot::{Forward, Snapshot, Tried};
use crate::upstream::connect::{Connector, Destination};

/// New connections in a row that must lead to it: pods of the candidate before may still stand behind the same address.
const IN_A_ROW: usize = 4;
/// Longest time of one look. Who asks for the report waits a second for it.
const LIMIT: Duration = Duration::from_millis(500);

/// Asks the candidate's pods whether they are there, until they are.
pub struct Reach {
    connector: Connector,
    /// How many connections in a row led to an endpoint, by its id. What fails there once there were enough is the candidate's fault.
    known: Mutex<Option<(usize, usize)>>,
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reach").field("known", &self.known).finish_non_exhaustive()
    }
}

impl Reach {
    /// Nothing was reached yet.
    pub fn new(connector: Connector) -> Self {
        Self { connector, known: Mutex::default() }
    }

    /// The id of the endpoint of this configuration's candidate, once it is reached.
    pub async fn reached(&self, snapshot: Option<&Snapshot>) -> Option<usize> {
        let Some(Tried::There(to)) = snapshot.and_then(|snapshot| snapshot.tried.as_ref()) else {
            *self.lock() = None;
            return None;
        };
        let id = to.endpoint.id;
        let before = self.lock().filter(|(known, _)| *known == id).map_or(0, |(_, in_a_row)| in_a_row);
        let mut in_a_row = before;
        // What was reached within the limit counts at the next look too: a busy machine may need several.
        let _ = timeout(LIMIT, async {
            while in_a_row < IN_A_ROW {
                if !self.answers(to).await {
                    in_a_row = 0;
                    break;
                }
                in_a_row += 1;
            }
        })
        .await;
        let mut known = self.lock();
        // Unless somebody who asked meanwhile knows better.
        if *known != Some((id, IN_A_ROW)) {
            *known = Some((id, in_a_row));
        }
        known.and_then(|(_, in_a_row)| (in_a_row >= IN_A_ROW).then_some(id))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(usize, usize)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether whoever is behind a new connection takes what is forwarded.
    async fn answers(&self, to: &Forward) -> bool {
        let base = &to.endpoint.base;
        let destination = Destination { host: &base.host, port: base.port, tls: None };
        let Ok(stream) = self.connector.connect_tcp(destination).await else { return false };
        let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(stream)).await else { return false };
        // It ends with the sender.
        tokio::spawn(connection);
        let request = Request::get(HEALTH_PATH)
            .header(header::HOST, &to.endpoint.authority)
            .header(ROLLOUT_HEADER, &to.revision)
            .body(Empty::<Bytes>::new());
        let Ok(request) = request else { return false };
        // An older image has no such page, and refuses it in its own name.
        sender.send_request(request).await.is_ok_and(|response| is_taken(&response, to, true))
    }
}
