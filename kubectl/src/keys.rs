//! `keys`: the ProviderKeys of a gateway and what became of each. Never a value: the plugin does not read their Secrets.

use bifrost_crds::conditions::{READY, RESOLVED};
use bifrost_crds::{BifrostGateway, ProviderKey};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt as _};

use crate::cli::GatewayArg;
use crate::failure::Failure;
use crate::run::say;
use crate::session::Session;
use crate::table::table;

/// Prints the keys.
pub(crate) async fn run(session: &Session, gateway: &GatewayArg) -> Result<(), Failure> {
    let gateway = session.gateway(gateway.name.as_deref()).await?;
    let keys = selected(&gateway, session.list::<ProviderKey>("").await?);
    say(&text(&gateway, &keys))
}

/// Those that the gateway's selector chooses, by name.
pub(crate) fn selected(gateway: &BifrostGateway, keys: Vec<ProviderKey>) -> Vec<ProviderKey> {
    let mut keys: Vec<_> = keys.into_iter().filter(|key| chooses(&gateway.spec.provider_key_selector, key)).collect();
    keys.sort_by_key(ResourceExt::name_any);
    keys
}

fn chooses(selector: &LabelSelector, key: &ProviderKey) -> bool {
    // One that cannot be read chooses nothing; the operator says so.
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(key.labels()))
}

fn text(gateway: &BifrostGateway, keys: &[ProviderKey]) -> String {
    if keys.is_empty() {
        return format!(
            "no ProviderKey is chosen by the selector of {}: without keys only the baseline arm works",
            gateway.name_any()
        );
    }
    let rows: Vec<_> = keys.iter().map(row).collect();
    table(["NAME", "PROVIDER", "WEIGHT", "ENABLED", "SECRET", "MODELS", "READY", "RESOLVED", "WHY"], &rows)
}

fn row(key: &ProviderKey) -> [String; 9] {
    let spec = &key.spec;
    let models = if spec.models.is_empty() { "all".to_owned() } else { spec.models.join(",") };
    [
        key.name_any(),
        spec.provider.clone(),
        spec.weight.to_string(),
        spec.enabled.to_string(),
        format!("{}/{}", spec.secret_ref.name, spec.secret_ref.key),
        models,
        state(key, READY),
        state(key, RESOLVED),
        why(key),
    ]
}

/// `True`, or the status with its reason.
fn state(key: &ProviderKey, type_: &str) -> String {
    let conditions = key.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    match conditions.iter().find(|condition| condition.type_ == type_) {
        None => "Unknown".to_owned(),
        Some(condition) if condition.status == "True" => "True".to_owned(),
        Some(condition) => format!("{} ({})", condition.status, condition.reason),
    }
}

/// The words of the first condition that does not hold.
pub(crate) fn why(key: &ProviderKey) -> String {
    let Some(status) = &key.status else { return "no operator has reported on it".to_owned() };
    let bad =
        |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_ && condition.status != "True");
    bad(RESOLVED).or_else(|| bad(READY)).map(|condition| condition.message.clone()).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::status::tests::gateway;

    /// Three keys: one in use, one without its Secret, one switched off.
    pub(crate) fn keys() -> Vec<ProviderKey> {
        serde_yaml_ng::from_str(include_str!("../testdata/keys.yaml")).unwrap()
    }

    #[test]
    fn each_key_says_what_became_of_it() {
        insta::assert_snapshot!(text(&gateway(), &selected(&gateway(), keys())));
    }

    #[test]
    fn a_key_that_the_selector_leaves_out_is_not_the_gateways() {
        let mut gateway = gateway();
        gateway.spec.provider_key_selector.match_labels = Some([("team".to_owned(), "chat".to_owned())].into());
        let chosen: Vec<_> = selected(&gateway, keys()).iter().map(ResourceExt::name_any).collect();
        assert_eq!(chosen, ["openai-main"]);
        assert!(text(&gateway, &[]).contains("only the baseline arm works"));
    }
}
