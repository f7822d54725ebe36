//! The way to the providers: names, addresses, connections, TLS.

pub mod address;
pub mod connect;
pub mod pool;
pub mod resolve;
pub mod tls;
