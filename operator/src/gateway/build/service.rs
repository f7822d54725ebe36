//! The Service that applications call.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::deployment::APP_PORT_NAME;
use super::{Observed, Part, merged, meta, non_empty};
use crate::names;

/// One port; the admin port is not on it.
pub(super) fn build_service(observed: &Observed) -> Service {
    let spec = &observed.gateway.spec.service;
    let mut metadata = meta(observed, Part::Service);
    metadata.labels = Some(merged(&spec.labels, names::labels(observed.name())));
    metadata.annotations = non_empty(&spec.annotations);
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(spec.type_.as_str().to_owned()),
            selector: Some(names::selector(observed.name())),
            ports: Some(vec![ServicePort {
                name: Some(APP_PORT_NAME.to_owned()),
                app_protocol: Some("http".to_owned()),
                protocol: Some("TCP".to_owned()),
                port: spec.port,
                target_port: Some(IntOrString::String(APP_PORT_NAME.to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
