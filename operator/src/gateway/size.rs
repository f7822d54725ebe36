//! Whether what is wanted can be published: it has to fit into one ConfigMap and one Secret. Pure.

use bifrost_config::{Config, Problem};

use super::draft::CA_BUNDLE;
use super::publish::{TooLarge, stable_text};
use super::validate::Wanted;

/// Most bytes of all key values of a gateway. The API server takes 1 MiB, of which the rest is for keys that are on their way out.
const MAX_VALUES: usize = 768 << 10;
/// Most bytes of what is published in one ConfigMap, less what the operator notes there.
const MAX_PUBLISHED: usize = 960 << 10;
/// The member that chooses the keys.
const KEYS: &str = "spec.providerKeySelector";

/// Names the member that takes the most room.
pub fn check(wanted: &Wanted) -> Result<(), Problem> {
    let mut all = serde_json::to_string(&wanted.migration.rules).map_or(0, |text| text.len());
    for config in std::iter::once(&wanted.config).chain(&wanted.candidate) {
        all += stable_text(config).map_err(|error| too_large(config, error))?.len();
    }
    if all > MAX_PUBLISHED {
        let message = format!(
            "the stable revision, the candidate and the rules of the migration have {all} bytes together, and at most {MAX_PUBLISHED} can be published: roll this change out with spec.rollout.strategy Rolling"
        );
        return Err(Problem::too_large("spec.config", message));
    }
    let bytes: usize = wanted.values.values().map(|value| value.expose().len()).sum();
    if bytes > MAX_VALUES {
        let message = format!(
            "the values of the ProviderKeys have {bytes} bytes, and at most {MAX_VALUES} fit into a Secret: choose fewer"
        );
        return Err(Problem::too_large(KEYS, message));
    }
    Ok(())
}

fn too_large(config: &Config, error: TooLarge) -> Problem {
    let ca_bundle = config.ca_bundle.as_ref().map_or(0, String::len);
    let keys = serde_json::to_string(&config.keys).map_or(0, |text| text.len());
    let providers = serde_json::to_string(&config.providers).map_or(0, |text| text.len());
    match ca_bundle.max(keys).max(providers) {
        most if most == ca_bundle => {
            Problem::too_large(CA_BUNDLE, format!("{error}; {most} of them are certificates: name a member with fewer"))
        }
        most if most == keys => Problem::too_large(
            KEYS,
            format!("{error}; {most} of them are ProviderKeys: choose fewer, or list fewer models in them"),
        ),
        most => {
            Problem::too_large("spec.config.providers", format!("{error}; {most} of them are providers: list fewer"))
        }
    }
}
