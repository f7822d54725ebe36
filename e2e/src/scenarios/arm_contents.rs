//! What a request carries to the vendor on either arm: on the baseline arm all that the caller sent, on the bifrost arm a key of the
//! pool and none of the caller's credentials, whichever way they came.

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Control, Record, RecordQuery};
use sha2::{Digest, Sha256};

use super::{
    curl,
    gateway::{self, APP_OPENAI, POOL_OPENAI},
};
use crate::{files, scenarios::Context};

/// Ways to send a credential; the last one is in the query.
const SCHEMES: [&str; 5] = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "?key="];
/// What else tells vendors who somebody is.
const IDENTITY: [(&str, &str); 3] =
    [("openai-organization", "org-of-the-caller"), ("openai-project", "proj-of-the-caller"), ("cookie", "a=b")];
/// What passes on both arms, and what on none.
const PASSES: (&str, &str) = ("openai-beta", "x=y");
const STAYS: (&str, &str) = ("x-bf-secret", "stays");

/// Sends one request for each scheme on each arm and looks at what arrived.
pub(super) async fn check(context: &Context, control: &Control) -> Result<()> {
    control.reset().await?;
    let (baseline, bifrost) = one_of_each_arm(context).await?;
    for scheme in SCHEMES {
        let sent = Sent::new(context, scheme, &baseline);
        sent.send("baseline", None).await?;
        sent.arrived_whole(&sent.record(control).await?).with_context(|| format!("{scheme} on the baseline arm"))?;
        let sent = Sent::new(context, scheme, &bifrost);
        sent.send("bifrost", Some(200)).await?;
        sent.arrived_bare(&sent.record(control).await?).with_context(|| format!("{scheme} on the bifrost arm"))?;
    }
    println!(
        "  {} ways to send a credential: baseline carries all of the caller's and its bytes, bifrost the pool's key and nothing of the caller's",
        SCHEMES.len()
    );
    Ok(())
}

/// Sessions that the split sends to the baseline and to the bifrost arm.
async fn one_of_each_arm(context: &Context) -> Result<(String, String)> {
    let (mut baseline, mut bifrost) = (None, None);
    for number in 0..200 {
        let user = format!("carry-{number}");
        let sent = curl::chat(context, &gateway::url(context), &gateway::chat(&user), true).await?;
        ensure!(sent.status == 200 && sent.reason() == "canary", "{} {}", sent.status, sent.reason());
        match sent.arm() {
            "baseline" => baseline = baseline.or(Some(user)),
            "bifrost" => bifrost = bifrost.or(Some(user)),
            other => anyhow::bail!("the arm {other:?}"),
        }
        if let Some(both) = baseline.clone().zip(bifrost.clone()) {
            return Ok(both);
        }
    }
    anyhow::bail!("200 users and not both arms")
}

/// One request; its bytes are known.
struct Sent<'a> {
    context: &'a Context,
    scheme: &'static str,
    /// Tells it from the others at the vendor.
    trace: String,
    body: String,
}

impl<'a> Sent<'a> {
    fn new(context: &'a Context, scheme: &'static str, user: &str) -> Self {
        // Spelled as no serialiser would: whoever parsed and wrote it again would change it.
        let body = format!(
            "{{ \"model\":\"gpt-4o-mini\" , \"user\":\"{user}\",\n\"temperature\":1.0e0,\"messages\":[{{\"role\":\"user\",\"content\":\"caf\\u00e9\"}}]}}"
        );
        let trace = format!("trace={user}-{}", scheme.trim_matches(['?', '=']));
        Self { context, scheme, trace, body }
    }

    /// The credential as a header, unless the scheme is the query.
    fn credential(&self) -> Option<(&'static str, String)> {
        match self.scheme {
            "?key=" => None,
            "authorization" => Some((self.scheme, format!("Bearer {APP_OPENAI}"))),
            header => Some((header, APP_OPENAI.to_owned())),
        }
    }

    fn query(&self) -> String {
        let key = if self.credential().is_none() { format!("&key={APP_OPENAI}") } else { String::new() };
        format!("{}{key}", self.trace)
    }

    /// The vendor knows one of the schemes; for the others it refuses what the baseline arm brings, and that is its business.
    async fn send(&self, arm: &str, status: Option<u16>) -> Result<()> {
        let url = format!("{}/openai/v1/chat/completions?{}", gateway::url(self.context), self.query());
        let plain = IDENTITY.into_iter().chain([PASSES, STAYS]).map(|(name, value)| (name, value.to_owned()));
        let headers: Vec<_> = plain.chain(self.credential()).map(|(name, value)| format!("{name}: {value}")).collect();
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        let answer = curl::post(self.context, &url, &headers, &self.body).await?;
        ensure!(answer.arm() == arm, "{} took the {} arm ({})", self.scheme, answer.arm(), answer.reason());
        ensure!(status.is_none_or(|status| status == answer.status), "{}: {}", answer.status, answer.body);
        Ok(())
    }

    async fn record(&self, control: &Control) -> Result<Record> {
        let query = RecordQuery { path: Some("/v1/chat/completions".to_owned()), ..RecordQuery::default() };
        let records = control.records(&query).await?;
        let own = |record: &Record| record.query.as_ref().is_some_and(|query| query.starts_with(&self.trace));
        let record = records.into_iter().rev().find(own).context("it did not reach the vendor's path")?;
        ensure!(record.host == "openai.vendors.svc", "it came for the host {}", record.host);
        ensure!(record.header(STAYS.0).is_none(), "{} left the gateway", STAYS.0);
        ensure!(record.header(PASSES.0) == Some(PASSES.1), "{} did not pass", PASSES.0);
        let digest = files::hex(&Sha256::digest(self.body.as_bytes()));
        ensure!(record.body_sha256 == digest && record.body_len == self.body.len() as u64, "other bytes arrived");
        Ok(record)
    }

    fn arrived_whole(&self, record: &Record) -> Result<()> {
        let identity = IDENTITY.into_iter().map(|(name, value)| (name, value.to_owned()));
        for (name, value) in identity.chain(self.credential()) {
            ensure!(record.header(name) == Some(value.as_str()), "{name} arrived as {:?}", record.header(name));
        }
        ensure!(record.query.as_deref() == Some(&self.query()), "the query arrived as {:?}", record.query);
        Ok(())
    }

    fn arrived_bare(&self, record: &Record) -> Result<()> {
        ensure!(record.key.as_deref() == Some(POOL_OPENAI), "not the pool's key");
        let carries = record.headers.iter().any(|(_, value)| value.contains(APP_OPENAI));
        ensure!(!carries && record.query.as_deref() == Some(&self.trace), "the caller's credential arrived");
        let names = SCHEMES.into_iter().filter(|name| *name != "authorization");
        for name in names.chain(IDENTITY.into_iter().map(|(name, _)| name)) {
            ensure!(record.header(name).is_none(), "{name} arrived");
        }
        Ok(())
    }
}
