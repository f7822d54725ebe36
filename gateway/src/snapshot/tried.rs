//! What a rollout tries beside the stable revision, as far as a pod can serve it: a configuration of its own, or where the
//! candidate's own pods are.

use std::sync::Arc;
use std::time::Duration;

use bifrost_config::published::Rollout;
use bifrost_config::{BaseUrl, Config, Network, Scheme};
use http::HeaderValue;

use super::{Endpoint, Parts, Snapshot, number_of};
use crate::upstream::tls::TlsRoots;

/// What the limits of a forwarded request lie above those of the providers: it is the candidate that should say that one is over.
const SLACK: Duration = Duration::from_secs(10);
/// A pod in the same cluster acknowledges within milliseconds; one whose node is gone never does, and says nothing.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// A rollout's candidate, ready to serve.
#[derive(Debug)]
pub enum Tried {
    /// In this process, under a configuration of its own.
    Here(Arc<Snapshot>),
    /// By pods of its own, which run another image.
    There(Forward),
}

/// Where requests go that the candidate's own pods serve.
#[derive(Debug)]
pub struct Forward {
    /// Where its pods are.
    pub endpoint: Arc<Endpoint>,
    /// The candidate's name, as its pods expect to be asked for it.
    pub revision: HeaderValue,
    /// Longest wait for an answer's head, and for the whole of a plain one.
    pub whole: Duration,
    /// Longest silence within a stream.
    pub idle: Duration,
    /// Largest request body that may be meant for it, in bytes.
    pub max_request_body: u64,
}

impl Tried {
    /// The candidate of these parts; none without a rollout. The error says why this one cannot be used.
    pub(super) fn of(parts: &Parts, roots: &TlsRoots) -> Result<Option<Self>, String> {
        let Some(rollout) = &parts.traffic.rollout else { return Ok(None) };
        let unusable = |problem: String| format!("the candidate {} cannot be used: {problem}", rollout.revision);
        let tried = match &rollout.forward {
            Some(url) => Forward::to(url, rollout, parts).map(Self::There),
            None => parts
                .of_candidate(rollout)
                .and_then(|parts| Snapshot::build(parts, roots).map(Self::Here).map_err(|error| error.to_string())),
        };
        tried.map(Some).map_err(unusable)
    }

    /// Whether requests get to it from here, where `reached` is the id of the endpoint that was reached.
    pub fn is_reached(&self, reached: Option<usize>) -> bool {
        match self {
            Self::Here(_) => true,
            Self::There(to) => reached == Some(to.endpoint.id),
        }
    }

    /// Largest request body that may be meant for it, in bytes.
    pub fn max_request_body(&self) -> u64 {
        match self {
            Self::Here(snapshot) => snapshot.max_request_body(),
            Self::There(forward) => forward.max_request_body,
        }
    }
}

impl Forward {
    /// The candidate's pods check its configuration themselves: an older image may not know all of it.
    fn to(url: &str, rollout: &Rollout, parts: &Parts) -> Result<Self, String> {
        let base = BaseUrl::parse(url).map_err(|error| format!("rollout.forward {error}"))?;
        if base.scheme != Scheme::Http {
            return Err("rollout.forward must begin with http://".to_owned());
        }
        let header = |text: &str| HeaderValue::from_str(text).map_err(|_| format!("{text:?} cannot stand in a header"));
        let longest = |of: fn(&Network) -> u64| {
            let limits = parts.configs().flat_map(|config| &config.providers).map(|provider| of(&provider.network));
            Duration::from_millis(limits.max().unwrap_or(0)).saturating_add(SLACK)
        };
        Ok(Self {
            endpoint: Arc::new(Endpoint {
                // A candidate's own connections: its pods may stand beside those of the one before, behind the same name.
                id: number_of(format!("{:?}://{}#{}", base.scheme, base.authority(), rollout.revision)),
                authority: header(&base.authority())?,
                base,
                tls: None,
                unacknowledged: Some(UNACKNOWLEDGED),
            }),
            revision: header(&rollout.revision)?,
            whole: longest(|network| network.request_timeout_ms.max(network.first_byte_timeout_ms)),
            idle: longest(|network| network.stream_idle_timeout_ms),
            max_request_body: parts.configs().map(|config| config.client.max_request_body).max().unwrap_or(0),
        })
    }
}

impl Parts {
    /// The parts of the candidate alone: its configuration under its name, the same table and keys.
    fn of_candidate(&self, rollout: &Rollout) -> Result<Self, String> {
        let config = match &self.tried {
            None => self.config.clone(),
            Some(tried) => tried.clone()?,
        };
        let mut traffic = self.traffic.clone();
        traffic.revision.clone_from(&rollout.revision);
        traffic.rollout = None;
        Ok(Self { config, tried: None, traffic, ..self.clone() })
    }

    /// As a pod of the candidate `own` holds them: it serves that revision and no other, so nothing is split or forwarded there. Where
    /// its configuration cannot be used, the rest says so and serves nobody who asks for it.
    pub fn held_by_candidate(mut self, own: &str) -> Self {
        match self.traffic.rollout.take() {
            None => self,
            Some(rollout) if rollout.revision != own => Self { tried: None, ..self },
            Some(rollout) => match self.of_candidate(&rollout) {
                Ok(parts) => parts,
                Err(_) => {
                    self.traffic.rollout = Some(Rollout { forward: None, ..rollout });
                    self
                }
            },
        }
    }

    /// The configurations that these parts are of.
    pub fn configs(&self) -> impl Iterator<Item = &Config> {
        let tried = self.tried.as_ref().and_then(|tried| tried.as_ref().ok());
        std::iter::once(&self.config).chain(tried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::snapshot;

    fn parts(tried: Option<Result<(), String>>, forward: Option<&str>) -> Parts {
        let text = |megabytes: u32| {
            format!(
                r#"{{"client":{{"max_request_body_size_mb":{megabytes}}},"providers":{{"openai":{{"keys":[{{"value":"sk-a"}}]}}}}}}"#
            )
        };
        let mut parts = snapshot(&text(1)).parts.clone();
        parts.tried = tried.map(|tried| tried.map(|()| snapshot(&text(3)).parts.config.clone()));
        parts.traffic.rollout = Some(Rollout {
            revision: "next".into(),
            config: None,
            percent: 10,
            since: 1,
            salt: "s".into(),
            forward: forward.map(str::to_owned),
            preview: false,
        });
        parts
    }

    fn built(parts: Parts) -> Arc<Snapshot> {
        Snapshot::build(parts, &TlsRoots::with_file(None).unwrap()).unwrap()
    }

    #[test]
    fn a_configuration_of_its_own_is_a_second_snapshot() {
        let snapshot = built(parts(Some(Ok(())), None));
        let Some(Tried::Here(tried)) = &snapshot.tried else { panic!("{:?}", snapshot.tried) };
        assert_eq!((snapshot.max_request_body(), tried.max_request_body()), (1 << 20, 3 << 20));
        assert_eq!((snapshot.most_request_body(), tried.most_request_body()), (3 << 20, 3 << 20));
        assert_eq!((snapshot.revision.to_str().unwrap(), tried.revision.to_str().unwrap()), ("rev", "next"));
        assert!(tried.tried.is_none() && tried.upstreams[0].choose_key(None, 0).is_ok());
        // Without one it has that of the stable revision.
        let snapshot = built(parts(None, None));
        assert!(matches!(&snapshot.tried, Some(Tried::Here(tried)) if tried.revision == "next"));
    }

    #[test]
    fn what_cannot_be_used_is_reported_and_everything_else_serves() {
        let mut bad = parts(Some(Err("candidate.json is missing".into())), None);
        let snapshot = built(bad.clone());
        assert!(snapshot.tried.is_none());
        assert_eq!(snapshot.problem.as_deref(), Some("the candidate next cannot be used: candidate.json is missing"));
        for (forward, told) in [("ftp://a", "must begin"), ("https://a", "http://"), ("http://a/?b", "no query")] {
            let problem = built(parts(None, Some(forward))).problem.clone().unwrap();
            assert!(problem.contains("rollout.forward") && problem.contains(told), "{problem}");
        }
        bad.traffic.rollout.as_mut().unwrap().revision = "no\nheader".into();
        bad.tried = None;
        assert!(built(bad).problem.as_ref().unwrap().contains("revision cannot stand in a header"));
    }

    #[test]
    fn pods_of_its_own_need_no_configuration_that_this_image_can_read() {
        let url = "http://ai-bifrost-candidate.llm.svc:8082";
        let snapshot = built(parts(Some(Err("unknown".into())), Some(url)));
        let Some(Tried::There(forward)) = &snapshot.tried else { panic!("{:?}", snapshot.tried) };
        assert_eq!((forward.endpoint.base.port, forward.max_request_body), (8082, 1 << 20));
        assert_eq!((&forward.whole, snapshot.problem.as_ref()), (&Duration::from_secs(610), None));
        assert_eq!(built(parts(Some(Ok(())), Some(url))).most_request_body(), 3 << 20);
    }

    #[test]
    fn a_pod_of_the_candidate_serves_it_and_no_other() {
        let url = Some("http://ai-bifrost-candidate.llm.svc:8082");
        let own = built(parts(Some(Ok(())), url).held_by_candidate("next"));
        assert_eq!((own.revision.to_str().unwrap(), own.max_request_body()), ("next", 3 << 20));
        let another = built(parts(Some(Ok(())), url).held_by_candidate("before"));
        assert_eq!((another.revision.to_str().unwrap(), another.max_request_body()), ("rev", 1 << 20));
        let unusable = built(parts(Some(Err("unknown".into())), url).held_by_candidate("next"));
        assert_eq!(unusable.revision, "rev");
        assert!(unusable.problem.as_ref().unwrap().contains("unknown"));
        assert!([own, another, unusable].iter().all(|held| held.tried.is_none()));
    }
}
