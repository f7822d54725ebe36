//! The gateway: serves the vendors' own APIs to applications and calls the vendors behind them.
//!
//! A request's way: [`server`] accepts it, [`front`] knows its dialect, [`pipeline`] carries it from `admit` to `record`,
//! [`upstream`] holds the connections to the providers. What it acts upon is one [`snapshot`], put together by [`source`] from a
//! cluster's ConfigMap and Secret or from a file, and swapped whole. [`telemetry`] counts; [`admin`] shows.

pub mod admin;
pub mod allocator;
pub mod cli;
pub mod deadline;
pub mod front;
pub mod http;
pub mod memory;
pub mod pipeline;
pub mod rules;
pub mod server;
pub mod shadow;
pub mod snapshot;
pub mod source;
pub mod telemetry;
pub mod upstream;
