//! The fronts: how each dialect's paths and errors look. A new front is one row of paths here and one row in the catalogue.

pub mod error;
pub mod route;
