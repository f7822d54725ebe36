//! Writes objects. Every write is refused once this process no longer leads, and carries the uid of the object that was read, so
//! that an object of another owner that took the name in between is never changed.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::fields::applied_fields;
use super::object::{Mode, Object, cannot_be_replaced, data_patch, differs, is_immutable};
use super::reset::{own_ports, own_spec};
use super::{FIELD_MANAGER, brief, is_invalid};
use crate::leader::Leadership;

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The object was as it should be.
    Unchanged,
    /// It was not there.
    Created,
    /// It follows what is wanted now.
    Changed,
    /// What is wanted is the same as before: somebody else had changed the object.
    Repaired,
}

/// Why an object was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another process may lead by now.
    #[error("this process does not lead any more")]
    NotLeading,
    /// It has to be made anew, and its name is not free yet.
    #[error("{kind} {name} is immutable and being deleted: a finalizer keeps it")]
    Terminating {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The API server.
    #[error("{kind} {name}: {}", shown(kind, source))]
    Api {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// The client's error; of a Secret its text may hold what was sent, so it is not shown.
        source: Box<kube::Error>,
    },
}

impl WriteError {
    /// Whether reading again and repeating is all that is needed.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { source, .. } if super::is_conflict(source))
    }

    /// Whether the API server answered, and would answer the same at once: it was reached, this process leads, and nobody wrote in
    /// between.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::NotLeading => false,
            Self::Terminating { .. } => true,
            Self::Api { source, .. } => matches!(**source, kube::Error::Api(_)) && !self.is_conflict(),
        }
    }

    /// What the API server does not take of an object, for every kind that may be shown.
    pub fn refused(&self) -> Option<&Status> {
        match self {
            Self::Api { kind, source, .. } if kind != SECRET => match source.as_ref() {
                kube::Error::Api(status) if status.code == 422 => Some(status),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The one kind whose contents may stand in the API server's answer and must not be shown.
const SECRET: &str = "Secret";

fn shown(kind: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if kind != SECRET && !status.message.is_empty() => {
            format!("{}: {}", brief(error), status.message)
        }
        error => brief(error),
    }
}

/// What was written last, so that what did not change since need not be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    uid: Option<String>,
    version: Option<String>,
    wanted: u64,
}

type RecordKey = (String, String, String);

/// Writes objects of one or more gateways.
pub struct Writer {
    client: Client,
    leadership: Arc<Leadership>,
    records: Mutex<HashMap<RecordKey, Record>>,
}

impl Writer {
    /// Writes with this client while this process leads.
    pub fn new(client: Client, leadership: Arc<Leadership>) -> Self {
        Self { client, leadership, records: Mutex::default() }
    }

    /// Makes the object as it shall be. `live` is the object as it was read, which must be ours.
    pub async fn write(
        &self,
        namespace: &str,
        object: &Object,
        live: Option<&DynamicObject>,
    ) -> Result<(Outcome, Option<DynamicObject>), WriteError> {
        let api = self.api(namespace, &object.resource)?;
        let key = (namespace.to_owned(), object.resource.kind.clone(), object.name.clone());
        let wanted = fingerprint(&object.body);
        let before = self.record(&key);
        if let (Some(before), Some(live)) = (&before, live)
            && *before == (Record { uid: live.uid(), version: live.resource_version(), wanted })
        {
            return Ok((Outcome::Unchanged, None));
        }
        if object.mode == Mode::Data && live.is_some_and(cannot_be_replaced) {
            return Err(WriteError::Terminating { kind: object.resource.kind.clone(), name: object.name.clone() });
        }
        let after = match object.mode {
            Mode::Data => self.write_data(&api, object, live).await,
            Mode::Apply | Mode::Ports => self.apply(&api, object, live).await.map(Some),
        };
        let after = after.map_err(|source| error(&object.resource, &object.name, source))?;
        let outcome = match (live, &after) {
            (_, None) => Outcome::Unchanged,
            (Some(live), Some(after)) if !differs(live, after) => Outcome::Unchanged,
            (None, _) if before.is_some() => Outcome::Repaired,
            (None, _) => Outcome::Created,
            _ if before.as_ref().is_some_and(|before| before.wanted == wanted) => Outcome::Repaired,
            _ => Outcome::Changed,
        };
        if let Some(current) = after.as_ref().or(live) {
            let record = Record { uid: current.uid(), version: current.resource_version(), wanted };
            self.lock().insert(key, record);
        }
        Ok((outcome, after))
    }

    /// Deletes the object of this uid.
    pub async fn delete(
        &self,
        namespace: &str,
        resource: &ApiResource,
        name: &str,
        uid: Option<String>,
    ) -> Result<(), WriteError> {
        let api = self.api(namespace, resource)?;
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid, resource_version: None }),
            ..DeleteParams::background()
        };
        match api.delete(name, &params).await {
            Err(source) if !super::is_not_found(&source) => Err(error(resource, name, source)),
            _ => {
                self.lock().remove(&(namespace.to_owned(), resource.kind.clone(), name.to_owned()));
                Ok(())
            }
        }
    }

    /// Whether this process leads.
    pub fn may_write(&self) -> bool {
        self.leadership.holds()
    }

    /// Forgets what was written for a gateway's objects.
    pub fn forget(&self, namespace: &str, names: &[String]) {
        self.lock().retain(|(ns, _, name), _| ns != namespace || !names.contains(name));
    }

    async fn apply(
        &self,
        api: &Api<DynamicObject>,
        object: &Object,
        live: Option<&DynamicObject>,
    ) -> Result<DynamicObject, kube::Error> {
        // What is created this way becomes ours by server-side apply when it is applied for the first time.
        let Some(live) = live else { return create(api, object).await };
        let live = own_fields(api, &object.name, live.clone()).await?;
        if object.mode == Mode::Ports
            && let Some(patch) = own_ports(&live, &object.body)
        {
            merge(api, &object.name, &patch).await?;
        }
        match server_side_apply(api, object, live.uid()).await {
            // What others wrote contradicts what is ours, and apply takes nothing of theirs away. Where the fault is in ours alone this
            // is refused the same way, and changes nothing.
            Err(error) if is_invalid(&error) => {
                let Some(patch) = own_spec(&live, &object.body) else { return Err(error) };
                merge(api, &object.name, &patch).await?;
                server_side_apply(api, object, live.uid()).await
            }
            done => done,
        }
    }

    /// Creates, or changes exactly the version that was read.
    async fn write_data(
        &self,
        api: &Api<DynamicObject>,
        object: &Object,
        live: Option<&DynamicObject>,
    ) -> Result<Option<DynamicObject>, kube::Error> {
        let Some(live) = live else { return create(api, object).await.map(Some) };
        if is_immutable(live) {
            // Should this process end between the two, the next one makes the object of what it finds. Only a key whose source Secret
            // is gone as well is lost then: its last value was here and nowhere else but in the pods, which keep it until they end.
            let preconditions = Preconditions { uid: live.uid(), resource_version: live.resource_version() };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
            api.delete(&object.name, &params).await?;
            return create(api, object).await.map(Some);
        }
        match data_patch(live, &object.body) {
            None => Ok(None),
            Some(patch) => merge(api, &object.name, &patch).await.map(Some),
        }
    }

    fn api(&self, namespace: &str, resource: &ApiResource) -> Result<Api<DynamicObject>, WriteError> {
        if !self.leadership.holds() {
            return Err(WriteError::NotLeading);
        }
        Ok(Api::namespaced_with(self.client.clone(), namespace, resource))
    }

    fn record(&self, key: &RecordKey) -> Option<Record> {
        self.lock().get(key).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RecordKey, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fails if somebody was quicker: server-side apply would take over whatever has the name by now.
async fn create(api: &Api<DynamicObject>, object: &Object) -> Result<DynamicObject, kube::Error> {
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let new: DynamicObject = serde_json::from_value(object.body.clone()).map_err(kube::Error::SerdeError)?;
    api.create(&params, &new).await
}

/// Makes what this operator created or merged its own by server-side apply, as far as it is not.
async fn own_fields(api: &Api<DynamicObject>, name: &str, live: DynamicObject) -> Result<DynamicObject, kube::Error> {
    match applied_fields(&live, FIELD_MANAGER) {
        None => Ok(live),
        Some(patch) => merge(api, name, &patch).await,
    }
}

async fn server_side_apply(
    api: &Api<DynamicObject>,
    object: &Object,
    uid: Option<String>,
) -> Result<DynamicObject, kube::Error> {
    let mut body = object.body.clone();
    if let Some(uid) = uid {
        body["metadata"]["uid"] = json!(uid);
    }
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&object.name, &params, &Patch::Apply(&body)).await
}

async fn merge(api: &Api<DynamicObject>, name: &str, patch: &Value) -> Result<DynamicObject, kube::Error> {
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(name, &params, &Patch::Merge(patch)).await
}

fn error(resource: &ApiResource, name: &str, source: kube::Error) -> WriteError {
    WriteError::Api { kind: resource.kind.clone(), name: name.to_owned(), source: Box::new(source) }
}

/// Never stored outside this process.
fn fingerprint(body: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.to_string().hash(&mut hasher);
    hasher.finish()
}
