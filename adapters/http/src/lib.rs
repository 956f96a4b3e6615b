//! Modelog over HTTP: events in, answers out, safe on a developer's machine.
//!
//! ```text
//! connection ─▶ gate ─────────────▶ router ─▶ ingest, writes ─▶ engine
//! time-outs,     Host, Origin, token,       └─▶ reads ─▶ ReadStore, log
//! cap, drain     scope, metrics
//! ```
//!
//! Every route is registered together with its description ([`openapi`]) and with the access it needs, so none can exist
//! undocumented or unguarded. Errors are RFC 9457 problem JSON with a code from one catalogue (`docs/errors.md`).

mod append;
mod binary;
mod body;
mod codes;
mod config;
mod connection;
mod encoding;
mod error;
mod gate;
mod hosts;
mod ingest;
mod maintenance;
mod path;
mod problem;
mod query;
mod reads;
mod retry;
mod router;
mod server;
mod state;
mod status;
mod stream;
mod tokens;
mod traffic;
mod untaken;
mod writes;

pub use codes::{CATALOGUE, Entry};
pub use config::HttpConfig;
pub use error::HttpError;
pub use maintenance::{BackedUp, Compacted, Maintenance, MaintenanceError};
pub use router::openapi;
pub use server::Server;
pub use state::Services;
pub use tokens::hash_token;
