//! The Service that serves the colour that is not active.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::deployment::{PREVIEW_PORT, PREVIEW_PORT_NAME};
use super::{Observed, Part, meta};
use crate::names;

/// One port, only inside the cluster, whatever type the applications' Service has.
pub(super) fn build_preview_service(observed: &Observed) -> Service {
    Service {
        metadata: meta(observed, Part::Preview),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(names::selector(observed.name())),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                app_protocol: Some("http".to_owned()),
                protocol: Some("TCP".to_owned()),
                port: PREVIEW_PORT,
                target_port: Some(IntOrString::String(PREVIEW_PORT_NAME.to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
