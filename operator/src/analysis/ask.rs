//! The requests for metrics: bounded in time and size, to allowed hosts only, and without following anybody anywhere else.

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bifrost_config::{AddressRule, is_local_address};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, RequestBuilder, Response, Url};
use serde::Serialize;

use super::answer::{Answer, of_query, of_webhook};
use super::hosts::HostRule;
use crate::migration::metric::{Metric, Source};

/// What is asked about: the body of a webhook's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// The gateway.
    pub gateway: Named,
    /// The step as the status has it: `2/5`, a phase, a colour, or `-`.
    pub step: String,
    /// Short name of the `spec.migration` and `spec.config` that are followed.
    pub revision: String,
    /// The share that is wanted on the bifrost arm; none where rules decide.
    pub percent: Option<u8>,
}

/// Which gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Asks for metrics. The tests play the answers.
pub trait Ask: Clone + Send + Sync + 'static {
    /// Asks once. Whatever goes wrong is an answer that says nothing.
    fn ask(&self, metric: &Metric, subject: &Subject) -> impl Future<Output = Answer> + Send;
}

/// How long and how much.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest wait for the whole answer.
    pub total: Duration,
    /// Largest answer in bytes.
    pub body: usize,
}

impl Limits {
    /// Those of the product.
    pub const PRODUCT: Self = Self { connect: Duration::from_secs(2), total: Duration::from_secs(5), body: 64 * 1024 };
}

/// Asks over HTTP.
#[derive(Debug, Clone)]
pub struct HttpAsk {
    client: Client,
    hosts: HostRule,
    limits: Limits,
}

/// Why there is no answer. None says anything of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Trouble {
    #[error("its host is none that the operator allows")]
    Host,
    #[error("leads to a loopback or link-local address, which the operator does not allow")]
    Local,
    #[error("the URL cannot be asked")]
    Url,
    #[error("cannot be reached")]
    Unreachable,
    #[error("gave no answer in time")]
    Slow,
    #[error("answered with a redirect, which is not followed")]
    Redirect,
    #[error("answered with {0}xx")]
    Status(u16),
    #[error("the answer is too large")]
    Large,
    #[error("the gateway's name has no place in a query")]
    Name,
}

impl HttpAsk {
    /// A client that goes straight to the hosts, whatever proxies the environment names.
    pub fn new(tls: rustls::ClientConfig, hosts: HostRule, limits: Limits) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(limits.connect)
            .timeout(limits.total)
            // A connection that is kept would be asked after the name leads elsewhere.
            .pool_max_idle_per_host(0)
            .dns_resolver(Arc::new(Resolver(hosts.addresses())))
            .build()?;
        Ok(Self { client, hosts, limits })
    }

    async fn try_ask(&self, metric: &Metric, subject: &Subject) -> Result<Answer, Trouble> {
        // A spec that was accepted once may name hosts that are not allowed any more.
        self.hosts.check(metric.url()).map_err(|_| Trouble::Host)?;
        match &metric.source {
            Source::Prometheus(query) => {
                let mut url = parse(&format!("{}/api/v1/query", query.url))?;
                let text = query.fill(&subject.gateway.namespace, &subject.gateway.name).ok_or(Trouble::Name)?;
                url.query_pairs_mut().append_pair("query", &text);
                Ok(of_query(query, &self.body(self.client.get(url)).await?))
            }
            Source::Webhook { target, .. } => {
                Ok(of_webhook(&self.body(self.client.post(parse(target)?).json(subject)).await?))
            }
        }
    }

    async fn body(&self, request: RequestBuilder) -> Result<Vec<u8>, Trouble> {
        let mut response: Response = request.send().await.map_err(|error| trouble(&error))?;
        match response.status().as_u16() {
            200..=299 => {}
            300..=399 => return Err(Trouble::Redirect),
            status => return Err(Trouble::Status(status / 100)),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| trouble(&error))? {
            if body.len() + chunk.len() > self.limits.body {
                return Err(Trouble::Large);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

impl Ask for HttpAsk {
    async fn ask(&self, metric: &Metric, subject: &Subject) -> Answer {
        self.try_ask(metric, subject).await.unwrap_or_else(|trouble| Answer::unsure(trouble.to_string()))
    }
}

fn parse(text: &str) -> Result<Url, Trouble> {
    Url::parse(text).map_err(|_| Trouble::Url)
}

fn trouble(error: &reqwest::Error) -> Trouble {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<LocalAddress>() {
            return Trouble::Local;
        }
        source = cause.source();
    }
    if error.is_timeout() { Trouble::Slow } else { Trouble::Unreachable }
}

/// Looks names up, and leaves out addresses that no host may have.
struct Resolver(AddressRule);

#[derive(Debug, thiserror::Error)]
#[error("only loopback or link-local addresses")]
struct LocalAddress;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rule = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let is_allowed = |address: &SocketAddr| rule == AddressRule::Any || !is_local_address(address.ip());
            let kept: Vec<_> = found.into_iter().filter(is_allowed).collect();
            if kept.is_empty() {
                return Err(LocalAddress.into());
            }
            let addresses: Addrs = Box::new(kept.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests;
