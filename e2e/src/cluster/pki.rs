//! The certificates and keys of a cluster, made anew at every start: they live as long as its state folder.

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use crate::{
    cluster::{layout::Layout, network},
    files,
};

type Authority = CertifiedIssuer<'static, KeyPair>;

/// A user of the API server: the file name of its certificate, the user's name and group.
struct User {
    file: &'static str,
    name: String,
    group: Option<&'static str>,
}

/// The user that everybody works as.
pub(super) const ADMIN: &str = "admin";

/// Writes the authority, the API server's certificate, one certificate and kubeconfig for each user, and the key that
/// signs service account tokens.
pub(super) fn create(layout: &Layout) -> Result<()> {
    let authority = authority("bifrost-local")?;
    files::write(&layout.pki("ca.crt"), authority.pem())?;
    files::write_private(&layout.pki("ca.key"), authority.key().serialize_pem())?;
    // Requests that the API server passes on to an extension API are signed by an authority of their own: otherwise any
    // user certificate could pose as the API server there.
    let front_proxy = self::authority("bifrost-local-front-proxy")?;
    files::write(&layout.pki("front-proxy-ca.crt"), front_proxy.pem())?;
    write_client(layout, &front_proxy, &User { file: "front-proxy", name: "front-proxy-client".into(), group: None })?;
    write_api_server(layout, &authority)?;
    for user in users(layout) {
        write_client(layout, &authority, &user)?;
        let server = format!("https://127.0.0.1:{}", network::API_PORT);
        write_kubeconfig(layout, user.file, &server, &layout.kubeconfig_of(user.file))?;
    }
    let accounts = KeyPair::generate().context("cannot generate a key")?;
    files::write(&layout.pki("service-accounts.pub"), accounts.public_key_pem())?;
    files::write_private(&layout.pki("service-accounts.key"), accounts.serialize_pem())
}

/// Writes the administrator's kubeconfig for outside, where the API server is at `server` (`https://127.0.0.1:16443`).
pub(super) fn write_user_kubeconfig(layout: &Layout, server: &str) -> Result<()> {
    write_kubeconfig(layout, ADMIN, server, &layout.kubeconfig())
}

fn users(layout: &Layout) -> Vec<User> {
    let system = |file: &'static str| User { file, name: format!("system:{file}"), group: None };
    vec![
        User { file: ADMIN, name: "bifrost-admin".into(), group: Some("system:masters") },
        User { file: "kubelet", name: format!("system:node:{}", layout.tag()), group: Some("system:nodes") },
        // What the API server is for kubelet when it fetches logs or runs a command.
        User { file: "kubelet-client", name: "kube-apiserver-kubelet-client".into(), group: Some("system:masters") },
        system("kube-controller-manager"),
        system("kube-scheduler"),
        system("kube-proxy"),
    ]
}

fn authority(name: &str) -> Result<Authority> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().context("cannot generate a key")?;
    CertifiedIssuer::self_signed(params, key).context("cannot sign the authority's certificate")
}

/// The API server's certificate: valid for pods (Service name and address), for the node, and for 127.0.0.1, where both
/// the components inside and the forwarder's clients outside reach it.
fn write_api_server(layout: &Layout, authority: &Authority) -> Result<()> {
    let names = [
        "kubernetes".into(),
        "kubernetes.default".into(),
        "kubernetes.default.svc".into(),
        format!("kubernetes.default.svc.{}", network::DNS_DOMAIN),
        "localhost".into(),
        "127.0.0.1".into(),
        network::KUBERNETES_SERVICE.to_string(),
        network::NODE_ADDRESS.to_string(),
    ];
    let mut params = CertificateParams::new(names).context("bad name for the API server's certificate")?;
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    write_signed(layout, authority, params, "kube-apiserver")
}

fn write_client(layout: &Layout, authority: &Authority, user: &User) -> Result<()> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, user.name.as_str());
    if let Some(group) = user.group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    write_signed(layout, authority, params, user.file)
}

fn write_signed(layout: &Layout, authority: &Authority, mut params: CertificateParams, file: &str) -> Result<()> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    let key = KeyPair::generate().context("cannot generate a key")?;
    let certificate =
        params.signed_by(&key, authority).with_context(|| format!("cannot sign the certificate {file}"))?;
    files::write(&layout.pki(&format!("{file}.crt")), certificate.pem())?;
    files::write_private(&layout.pki(&format!("{file}.key")), key.serialize_pem())
}

/// A kubeconfig with everything inline, so that it can be copied.
fn write_kubeconfig(layout: &Layout, user: &str, server: &str, path: &std::path::Path) -> Result<()> {
    let inline = |file: &str| -> Result<String> { Ok(STANDARD.encode(files::read(&layout.pki(file))?)) };
    let name = layout.tag();
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {
            "server": server,
            "certificate-authority-data": inline("ca.crt")?,
        }}],
        "users": [{"name": name, "user": {
            "client-certificate-data": inline(&format!("{user}.crt"))?,
            "client-key-data": inline(&format!("{user}.key"))?,
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    });
    files::write_private(path, serde_yaml_ng::to_string(&config)?)
}
