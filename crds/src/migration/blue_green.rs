//! `spec.migration.blueGreen`: all or nothing, with a preview of the other.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Blue is straight to the vendor, green through the gateway. A Service of its own, NAME-bifrost-preview, serves the colour that is
/// not active.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BlueGreenSpec {
    /// The colour that applications get. A change is in force within two seconds, also on connections that are open; streams
    /// end on the colour on which they began.
    #[schemars(schema_with = "schema::words::<Colour>")]
    pub active: Colour,
    /// Automatic promotion: with active: Green, green is at first served by the preview only, and becomes active after this.
    /// Absent: it becomes active at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<PreviewSpec>,
}

/// What must be waited for before green becomes active.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.hold) || self.pause")
        .message("a preview without hold and pause ends at once: set hold, such as 10m, or pause: true")
        .field_path(".hold")
        .reason(Reason::FieldValueRequired)
)]
pub struct PreviewSpec {
    /// How long every ready pod must have confirmed the preview, such as 10m. Absent: no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::hold")]
    pub hold: Option<String>,
    /// Whether somebody must ask for it: kubectl bifrost promote, or the annotation bifrost.dev/request: promote/ID.
    #[serde(default)]
    pub pause: bool,
}

/// A colour.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Straight to the vendor.
    Blue,
    /// Through the gateway.
    Green,
}
