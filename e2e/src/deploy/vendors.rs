//! The fake vendors in a namespace of their own, behind TLS under a private CA.

use anyhow::{Context as _, Result};
use bifrost_fake_provider::{Control, make_certs};
use serde_json::json;

use super::{manifest, rolled_out};
use crate::{
    images::Images,
    progress::Step,
    target::{ServicePort, Target},
};

/// Where they run.
pub const VENDORS_NAMESPACE: &str = "vendors";
/// The ConfigMap with their CA, in every namespace that trusts them.
const CA_CONFIG_MAP: &str = "vendors-ca";
const HOSTS: &[&str] = &[
    "openai.vendors.svc",
    "openai.vendors.svc.cluster.local",
    "anthropic.vendors.svc",
    "anthropic.vendors.svc.cluster.local",
];

/// The running vendors.
#[derive(Debug, Clone)]
pub struct Vendors {
    /// PEM of the CA behind their certificate.
    pub ca: String,
}

impl Vendors {
    /// Starts them; the certificate of an earlier start stays.
    pub async fn install(target: &Target, images: &Images) -> Result<Self> {
        let step = Step::start("Starting the fake vendors");
        let access = target.access()?;
        access.apply(None, &manifest("local/namespaces.yaml", None)?).await?;
        let ca = match Self::installed_ca(target).await {
            Ok(ca) => ca,
            Err(_) => Self::make_certificate(target).await?,
        };
        access.apply(None, &manifest("local/vendors.yaml", Some(&images.fake_provider))?).await?;
        rolled_out(target, VENDORS_NAMESPACE, "fake-provider").await?;
        step.done();
        Ok(Self { ca })
    }

    /// Makes their CA known in a namespace: ConfigMap `vendors-ca`, key `ca.crt`.
    pub async fn trust_in(&self, target: &Target, namespace: &str) -> Result<()> {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CA_CONFIG_MAP}, "data": {"ca.crt": self.ca}});
        target.access()?.apply(Some(namespace), &object.to_string()).await.map(drop)
    }

    /// Their control port: scripts, and what they received. It stays open as long as the first value lives.
    pub async fn control(target: &Target) -> Result<(ServicePort, Control)> {
        let port = target.forward_service(VENDORS_NAMESPACE, "fake-control", 8081).await?;
        let control = Control::new(port.address());
        Ok((port, control))
    }

    async fn installed_ca(target: &Target) -> Result<String> {
        let access = target.access()?;
        let get = |kind: &str, name: &str, path: &str| {
            access.kubectl(["--namespace", VENDORS_NAMESPACE, "get", kind, name, "--output", path].map(str::to_owned))
        };
        get("secret", "vendors-tls", "name").await?;
        get("configmap", CA_CONFIG_MAP, r"jsonpath={.data.ca\.crt}").await
    }

    async fn make_certificate(target: &Target) -> Result<String> {
        let place = tempfile::tempdir().context("cannot make a temporary folder")?;
        let hosts: Vec<String> = HOSTS.iter().map(|host| (*host).to_owned()).collect();
        let files = make_certs(place.path(), &hosts)?;
        let read = |path: &std::path::Path| crate::files::read(path);
        let (ca, cert, key) = (read(&files.ca)?, read(&files.cert)?, read(&files.key)?);
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "vendors-tls"},
             "stringData": {"tls.crt": cert, "tls.key": key}},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CA_CONFIG_MAP}, "data": {"ca.crt": ca}},
        ]});
        target.access()?.apply(Some(VENDORS_NAMESPACE), &objects.to_string()).await?;
        Ok(ca)
    }
}
