//! What was received: a bounded ring of records, and counters that outlive it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use http::HeaderMap;

use crate::api::{Count, Counts, Record, RecordQuery, RecordsPage, Users, Vendor};

/// Of a body, so much is kept.
const BODY_KEPT: usize = 16 << 10;
/// Memory the kept bodies may take together; then the oldest records go.
const BODIES_KEPT: usize = 256 << 20;
/// Kinds of requests and users that are counted apart.
const KINDS: usize = 10_000;
const USERS: usize = 500_000;
const LIMIT: usize = 1_000;

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A request as it came in, before its answer.
#[derive(Default)]
pub(crate) struct Arrival {
    pub(crate) time: u64,
    pub(crate) vendor: Option<Vendor>,
    pub(crate) host: String,
    pub(crate) sni: Option<String>,
    pub(crate) conn: u64,
    pub(crate) conn_request: u32,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderText,
    pub(crate) key: Option<String>,
    pub(crate) body_len: u64,
    pub(crate) body_sha256: [u8; 32],
    pub(crate) body: Box<[u8]>,
    pub(crate) user: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) streamed: bool,
}

/// Headers as one text: tens of thousands of records are kept, and a map per record would cost ten times as much.
#[derive(Default)]
pub(crate) struct HeaderText(Box<str>);

impl HeaderText {
    pub(crate) fn new(headers: &HeaderMap) -> Self {
        let mut text = String::with_capacity(512);
        for (name, value) in headers {
            text.push_str(name.as_str());
            text.push(':');
            text.push_str(&String::from_utf8_lossy(value.as_bytes()));
            text.push('\n');
        }
        Self(text.into())
    }

    fn pairs(&self) -> Vec<(String, String)> {
        self.0.lines().filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }
}

/// What of a body is kept.
pub(crate) fn kept(body: &[u8]) -> Box<[u8]> {
    body.get(..BODY_KEPT).unwrap_or(body).into()
}

struct Entry {
    seq: u64,
    arrival: Arrival,
    ended: Option<u64>,
    status: u16,
    completed: bool,
}

#[derive(PartialEq, Eq, Hash)]
struct Kind {
    vendor: Option<Vendor>,
    key: Option<String>,
    path: String,
    status: u16,
}

type UserOf = (Option<Vendor>, String);

#[derive(Default)]
struct Inner {
    ring: VecDeque<Entry>,
    bodies: usize,
    last: u64,
    total: u64,
    kinds: HashMap<Kind, u64>,
    /// Requests by vendor and user, then by key.
    users: HashMap<UserOf, Vec<(String, u64)>>,
    /// Counts resets: a record opened before one is not found by its number afterwards.
    era: u64,
}

/// The store of records and counters.
pub(crate) struct Records {
    inner: Mutex<Inner>,
    capacity: usize,
    /// When what was open of a model was to be hurried.
    hurried: Mutex<HashMap<String, Instant>>,
}

impl Records {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { inner: Mutex::default(), capacity: capacity.max(1), hurried: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a request; its answer is told to the record that is returned.
    pub(crate) fn open(self: &Arc<Self>, arrival: Arrival) -> OpenRecord {
        let (opened, model) = (Instant::now(), arrival.model.clone());
        let mut inner = self.lock();
        inner.last += 1;
        let seq = inner.last;
        inner.bodies += arrival.body.len();
        inner.ring.push_back(Entry { seq, arrival, ended: None, status: 0, completed: false });
        while inner.ring.len() > self.capacity || inner.bodies > BODIES_KEPT {
            let Some(old) = inner.ring.pop_front() else { break };
            inner.bodies -= old.arrival.body.len();
        }
        OpenRecord { store: Arc::clone(self), seq, era: inner.era, opened, model, status: None, completed: false }
    }

    /// From now on the answers to what is open of this model are sent without waits.
    pub(crate) fn hurry(&self, model: String) {
        self.hurried.lock().unwrap_or_else(PoisonError::into_inner).insert(model, Instant::now());
    }

    /// Forgets all records and counters.
    pub(crate) fn reset(&self) {
        let mut inner = self.lock();
        *inner = Inner { era: inner.era + 1, ..Inner::default() };
    }

    pub(crate) fn page(&self, query: &RecordQuery) -> RecordsPage {
        let inner = self.lock();
        let fitting = inner.ring.iter().filter(|e| e.fits(query));
        RecordsPage {
            records: fitting.take(query.limit.unwrap_or(LIMIT)).map(Entry::record).collect(),
            last: inner.last,
            oldest: inner.ring.front().map_or(0, |e| e.seq),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let inner = self.lock();
        let count = |(kind, count): (&Kind, &u64)| Count {
            vendor: kind.vendor,
            key: kind.key.clone(),
            path: kind.path.clone(),
            status: kind.status,
            count: *count,
        };
        let mut by: Vec<Count> = inner.kinds.iter().map(count).collect();
        by.sort_by(|a, b| (a.vendor, &a.key, &a.path, a.status).cmp(&(b.vendor, &b.key, &b.path, b.status)));
        Counts { total: inner.total, by }
    }

    /// Users with their keys, of one vendor or of all.
    pub(crate) fn users(&self, vendor: Option<Vendor>) -> Users {
        let inner = self.lock();
        let mut users = Users::new();
        for ((of, user), keys) in &inner.users {
            if vendor.is_none() || vendor == *of {
                let sums = users.entry(user.clone()).or_default();
                keys.iter().for_each(|(key, count)| *sums.entry(key.clone()).or_default() += count);
            }
        }
        users
    }
}

impl Inner {
    fn entry(&mut self, seq: u64) -> Option<&mut Entry> {
        let first = self.ring.front()?.seq;
        self.ring.get_mut(usize::try_from(seq.checked_sub(first)?).ok()?)
    }

    /// Counts a request by its status, when that is known.
    fn count(&mut self, seq: u64, status: u16) {
        self.total += 1;
        let Some(entry) = self.entry(seq) else { return };
        entry.status = status;
        let arrival = &entry.arrival;
        let (vendor, key, user) = (arrival.vendor, arrival.key.clone(), arrival.user.clone());
        let mut kind = Kind { vendor, key, path: arrival.path.clone(), status };
        if self.kinds.len() >= KINDS && !self.kinds.contains_key(&kind) {
            "other".clone_into(&mut kind.path);
        }
        let key = kind.key.clone().unwrap_or_default();
        *self.kinds.entry(kind).or_default() += 1;
        let Some(user) = user else { return };
        let of = (vendor, user);
        if self.users.len() < USERS || self.users.contains_key(&of) {
            let keys = self.users.entry(of).or_default();
            match keys.iter_mut().find(|(k, _)| *k == key) {
                Some((_, count)) => *count += 1,
                None => keys.push((key, 1)),
            }
        }
    }
}

impl Entry {
    fn fits(&self, query: &RecordQuery) -> bool {
        let of = &self.arrival;
        let same = |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
        self.seq > query.since
            && same(&query.user, of.user.as_deref())
            && same(&query.key, of.key.as_deref())
            && same(&query.path, Some(&of.path))
            && same(&query.model, of.model.as_deref())
            && query.vendor.is_none_or(|v| of.vendor == Some(v))
            && query.status.is_none_or(|s| s == self.status)
    }

    fn record(&self) -> Record {
        let of = &self.arrival;
        Record {
            seq: self.seq,
            time: of.time,
            ended: self.ended,
            vendor: of.vendor,
            host: of.host.clone(),
            sni: of.sni.clone(),
            conn: of.conn,
            conn_request: of.conn_request,
            method: of.method.clone(),
            path: of.path.clone(),
            query: of.query.clone(),
            headers: of.headers.pairs(),
            key: of.key.clone(),
            body_len: of.body_len,
            body_sha256: of.body_sha256.iter().map(|b| format!("{b:02x}")).collect(),
            body: String::from_utf8_lossy(&of.body).into_owned(),
            user: of.user.clone(),
            model: of.model.clone(),
            streamed: of.streamed,
            status: self.status,
            completed: self.completed,
        }
    }
}

/// The record of a request that is not over; dropping it ends the request.
pub(crate) struct OpenRecord {
    store: Arc<Records>,
    seq: u64,
    era: u64,
    opened: Instant,
    model: Option<String>,
    status: Option<u16>,
    completed: bool,
}

impl OpenRecord {
    /// Whether its answer is to be sent without waits.
    pub(crate) fn is_hurried(&self) -> bool {
        let hurried = self.store.hurried.lock().unwrap_or_else(PoisonError::into_inner);
        self.model.as_ref().and_then(|model| hurried.get(model)).is_some_and(|at| *at > self.opened)
    }

    /// The answer's status is decided.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = Some(status);
        self.with(|inner, seq| inner.count(seq, status));
    }

    /// The whole answer is handed over.
    pub(crate) fn complete(&mut self) {
        self.completed = true;
    }

    fn with(&self, act: impl FnOnce(&mut Inner, u64)) {
        let mut inner = self.store.lock();
        if inner.era == self.era {
            act(&mut inner, self.seq);
        }
    }
}

impl Drop for OpenRecord {
    fn drop(&mut self) {
        self.with(|inner, seq| {
            if self.status.is_none() {
                inner.count(seq, 0);
            }
            if let Some(entry) = inner.entry(seq) {
                entry.ended = Some(now_ms());
                entry.completed = self.completed;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(user: &str, key: &str) -> Arrival {
        Arrival {
            vendor: Some(Vendor::OpenAi),
            user: Some(user.to_owned()),
            key: Some(key.to_owned()),
            ..Arrival::default()
        }
    }

    fn store(capacity: usize) -> Arc<Records> {
        Arc::new(Records::new(capacity))
    }

    #[test]
    fn the_ring_is_bounded_and_the_counters_are_not() {
        let records = store(3);
        for i in 0..10 {
            records.open(arrival(&format!("u{i}"), "k")).answered(200);
        }
        let page = records.page(&RecordQuery::default());
        assert_eq!(page.records.iter().map(|r| r.seq).collect::<Vec<_>>(), [8, 9, 10]);
        assert_eq!((page.last, page.oldest), (10, 8));
        assert_eq!(records.counts().of_key(Vendor::OpenAi, "k"), 10);
        assert_eq!(records.users(None).len(), 10);
    }

    #[test]
    fn a_record_says_how_its_request_ended() {
        let records = store(10);
        let mut whole = records.open(arrival("a", "k"));
        whole.answered(200);
        whole.complete();
        drop(whole);
        let open = records.open(arrival("b", "k"));
        let seen = records.page(&RecordQuery::default()).records;
        assert!(seen[0].completed && seen[0].ended.is_some() && seen[1].ended.is_none());
        drop(open);
        let seen = records.page(&RecordQuery { since: 1, ..RecordQuery::default() }).records;
        assert_eq!((seen[0].status, seen[0].completed, seen[0].ended.is_some()), (0, false, true));
    }

    #[test]
    fn what_is_open_of_a_model_is_hurried_and_what_comes_after_is_not() {
        let records = store(10);
        let of = |model: &str| Arrival { model: Some(model.to_owned()), ..arrival("a", "k") };
        let (open, other) = (records.open(of("m")), records.open(of("n")));
        assert!(!open.is_hurried());
        records.hurry("m".to_owned());
        let later = records.open(of("m"));
        assert_eq!([open.is_hurried(), other.is_hurried(), later.is_hurried()], [true, false, false]);
    }

    #[test]
    fn an_old_record_does_not_touch_what_came_after_a_reset() {
        let records = store(10);
        let old = records.open(arrival("a", "k"));
        records.reset();
        let _new = records.open(arrival("b", "k"));
        drop(old);
        let page = records.page(&RecordQuery::default());
        assert_eq!((page.records.len(), page.records[0].ended, records.counts().total), (1, None, 0));
    }
}
