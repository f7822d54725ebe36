//! The problems of manifests. Pure.

use bifrost_config::{AddressRule, Problem, Provider, check_key, validate};
use bifrost_crds::{BifrostGateway, MAX_NAME_LENGTH, ProviderKey};
use bifrost_operator::gateway::{draft, metadata, selector};
use bifrost_operator::rollout::plan;
use kube::ResourceExt;
use kube::core::SelectorExt as _;

use super::documents::{Documents, Placed, key_of};

/// What was found.
pub(super) struct Findings {
    /// What the API server or the operator would refuse.
    pub(super) problems: Vec<String>,
    /// What the files leave open.
    pub(super) warnings: Vec<String>,
}

/// Judges everything.
pub(super) fn lint(documents: &Documents, addresses: AddressRule) -> Findings {
    let mut findings = Findings { problems: documents.problems.clone(), warnings: Vec::new() };
    for gateway in &documents.gateways {
        self::gateway(gateway, documents, addresses, &mut findings);
    }
    for key in &documents.keys {
        self::key(key, documents, addresses, &mut findings);
    }
    findings
}

/// The text of the bundle that a gateway names, if the files hold it.
pub(super) fn ca_bundle(gateway: &BifrostGateway, documents: &Documents) -> Option<String> {
    let reference = gateway.spec.config.ca_bundle_ref.as_ref()?;
    let (namespace, _) = key_of(gateway);
    documents.config_maps.get(&(namespace, reference.name.clone()))?.get(&reference.key).cloned()
}

/// The keys of a gateway: those of its namespace that its selector chooses.
pub(super) fn keys<'a>(gateway: &BifrostGateway, documents: &'a Documents) -> Vec<&'a ProviderKey> {
    let Ok(selector) = selector::selector(gateway) else { return Vec::new() };
    let keys = documents.keys.iter().map(|key| &key.resource).filter(|key| key.namespace() == gateway.namespace());
    keys.filter(|key| selector.matches(key.labels())).collect()
}

fn gateway(placed: &Placed<BifrostGateway>, documents: &Documents, addresses: AddressRule, findings: &mut Findings) {
    let gateway = &placed.resource;
    let draft = draft::draft(gateway, ca_bundle(gateway, documents));
    let mut problems: Vec<_> = name(gateway).into_iter().collect();
    problems.extend(validate(&draft, addresses).err().into_iter().flatten());
    problems.extend(selector::selector(gateway).err());
    problems.extend(metadata::check(&gateway.spec));
    problems.extend(plan::read(&gateway.spec.rollout).err().into_iter().flatten());
    findings.problems.extend(problems.iter().map(|problem| format!("{}: {problem}", placed.place)));
    let keys = keys(gateway, documents);
    for (index, provider) in gateway.spec.config.providers.iter().enumerate() {
        if !keys.iter().any(|key| key.spec.provider == provider.name && key.spec.enabled) {
            findings.warnings.push(format!(
                "{}: spec.config.providers[{index}]: no enabled ProviderKey of these files belongs to {}",
                placed.place, provider.name
            ));
        }
    }
    let rollout = super::rollout::warnings(gateway);
    findings.warnings.extend(rollout.iter().map(|warning| format!("{}: {warning}", placed.place)));
    if gateway.spec.config.ca_bundle_ref.is_some() && ca_bundle(gateway, documents).is_none() {
        findings.warnings.push(format!(
            "{}: {}: is not in these files, so it is not checked",
            placed.place,
            draft::CA_BUNDLE
        ));
    }
}

fn key(placed: &Placed<ProviderKey>, documents: &Documents, addresses: AddressRule, findings: &mut Findings) {
    let key = &placed.resource;
    let mut problems: Vec<_> = name(key).into_iter().collect();
    let draft = draft::key(key);
    let gateways = documents.gateways.iter().map(|gateway| &gateway.resource);
    let gateways: Vec<_> = gateways.filter(|gateway| gateway.namespace() == key.namespace()).collect();
    // Of gateways with problems of their own nothing is known.
    let known =
        gateways.iter().filter_map(|gateway| Some(validate(&draft::draft(gateway, None), addresses).ok()?.0.providers));
    let answers: Vec<_> = known.map(|providers: Vec<Provider>| check_key(&draft, &providers)).collect();
    if !answers.iter().any(Result::is_ok) {
        problems.extend(answers.into_iter().find_map(Result::err));
    }
    findings.problems.extend(problems.iter().map(|problem| format!("{}: {problem}", placed.place)));
    if gateways.is_empty() {
        findings.warnings.push(format!("{}: these files hold no gateway of its namespace", placed.place));
    }
    let reference = &key.spec.secret_ref;
    let (namespace, _) = key_of(key);
    match documents.secrets.get(&(namespace, reference.name.clone())) {
        Some(members) if !members.contains(&reference.key) => findings.problems.push(format!(
            "{}: spec.secretRef.key: Secret {} of these files has no member {}",
            placed.place, reference.name, reference.key
        )),
        // Secrets are often elsewhere, for good reasons.
        _ => {}
    }
}

fn name(resource: &impl ResourceExt) -> Option<Problem> {
    let name = resource.name_any();
    let is_label = name.len() <= MAX_NAME_LENGTH
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let message = format!(
        "{name:?} must be a DNS-1035 label of at most {MAX_NAME_LENGTH} characters: lower-case letters, digits and '-', a letter first, no '-' at the end"
    );
    (!is_label).then(|| Problem::invalid("metadata.name", message))
}
