//! The preview: its port serves the colour of a blue-green migration that is not active, and what only the active colour could serve is
//! refused there, so that nobody takes the one for the other. Or it serves the candidate of a rollout, on both arms.

use bifrost_config::Strategy;

use super::choose::Choice;
use super::{Arm, Reason};
use crate::front::error::{Fault, GatewayError};
use crate::front::route::Route;
use crate::server::Door;
use crate::snapshot::Snapshot;

/// The one arm that a port serves; none where it serves both.
pub fn only_arm(door: Door, snapshot: &Snapshot) -> Result<Option<Arm>, GatewayError> {
    if door != Door::Preview {
        return Ok(None);
    }
    let table = snapshot.traffic();
    let shown = table.rollout.as_ref().filter(|rollout| rollout.preview);
    match table.strategy {
        Strategy::BlueGreen if table.is_green() => Ok(Some(Arm::Baseline)),
        Strategy::BlueGreen => Ok(Some(Arm::Bifrost)),
        other => match shown {
            Some(_) if snapshot.tried.is_some() => Ok(None),
            Some(rollout) => Err(no_preview(format!("this pod cannot use the candidate {}", rollout.revision))),
            None => Err(no_preview(format!(
                "no candidate of a rollout is shown, and the migration's strategy is {}, while only BlueGreen has a colour that is not active",
                other.as_str()
            ))),
        },
    }
}

fn no_preview(why: String) -> GatewayError {
    GatewayError::new(Fault::NoPreview, format!("there is no preview: {why}; call the port for applications"))
}

/// Refuses what the preview could serve with the active colour's arm only.
pub fn check(only: Option<Arm>, choice: &Choice<'_>, route: &Route<'_>) -> Result<(), GatewayError> {
    match only {
        Some(only) if only != choice.arm => {
            Err(GatewayError::new(Fault::NotInPreview, why_not(choice.reason, only, route)))
        }
        _ => Ok(()),
    }
}

fn why_not(reason: Reason, only: Arm, route: &Route<'_>) -> String {
    let way_out = match reason {
        Reason::NoCredential => "it has no credential of its own: send your own key of the provider",
        Reason::VirtualKey => "its credential is one of the gateway's: send your own key of the provider",
        Reason::OtherProvider | Reason::ProviderPrefix | Reason::AmbiguousProvider => {
            "its model has a provider's name in front: name it as the provider does"
        }
        Reason::Fallbacks => "its body has \"fallbacks\", which the provider does not know: take them out",
        _ => "call the port for applications",
    };
    match only {
        Arm::Baseline => format!(
            "the preview is blue, straight to the provider, and this request can only go through the gateway: {way_out}"
        ),
        Arm::Bifrost => format!(
            "the preview is green, through the gateway, and {} always goes straight to the provider with your own credential: call the port for applications",
            route.rest
        ),
    }
}
