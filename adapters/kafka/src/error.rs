//! Why a source cannot be.

/// Why a source could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// A setting that cannot be.
    #[error("`{setting}` {reason}")]
    Setting { setting: String, reason: String },
    /// librdkafka could not begin, for example because a key could not be read.
    #[error("the client for {brokers} could not be made")]
    Client {
        brokers: String,
        #[source]
        source: rdkafka::error::KafkaError,
    },
    #[error("a thread could not be started")]
    Thread(#[source] std::io::Error),
}
