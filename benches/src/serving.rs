//! Ingest alone: the API over an engine that nothing follows, in a process of its own.
//!
//! The program has no such mode, since a log that nobody can ask is of little use. Here it says what the stores cost.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use modelog_engine::Engine;
use modelog_http::{
    BackedUp, Compacted, HttpConfig, Maintenance, MaintenanceError, Server, Services,
};
use modelog_sql::{SqlConfig, SqlStore};

/// Serves a data directory on a free port until the process is ended, and says where on stderr.
///
/// # Errors
/// If the directory cannot be opened, or the server fails.
pub async fn serve_ingest_alone(data: &Path) -> Result<()> {
    let engine = Engine::open(data)?;
    // It is never asked.
    let store = SqlStore::new(SqlConfig {
        directory: data.to_owned(),
        ..SqlConfig::default()
    })?;
    let services = Services {
        engine,
        reads: Arc::new(store.reads()),
        history: None,
        metrics: Arc::new(String::new),
        sources: Arc::new(Vec::new),
        maintenance: Arc::new(Nobody),
    };
    let config = HttpConfig {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ..HttpConfig::default()
    };
    let server = Server::bind(config, services).await?;
    eprintln!("ingest alone on http://{}", server.local_addr());
    server.serve(std::future::pending()).await?;
    Ok(())
}

/// Nobody compacts, nobody makes backups.
#[derive(Debug)]
struct Nobody;

const NOT_HERE: &str = "this server takes events, and nothing else";

#[async_trait]
impl Maintenance for Nobody {
    async fn compact(&self) -> Result<Compacted, MaintenanceError> {
        Err(MaintenanceError::Compaction(NOT_HERE.into()))
    }

    async fn back_up(&self, _: PathBuf, _: Option<u32>) -> Result<BackedUp, MaintenanceError> {
        Err(MaintenanceError::Backup(NOT_HERE.into()))
    }

    fn failing(&self) -> Vec<&'static str> {
        Vec::new()
    }
}
