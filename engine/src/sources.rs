//! What sources of events tell of themselves: programs that read from elsewhere into the log, such as a member of a Kafka
//! consumer group.

/// Where a source stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// `kafka:` and the group.
    pub name: String,
    pub state: SourceState,
    /// Why it is not simply running.
    pub reason: Option<String>,
    /// The identity of what it reads from, once that is known.
    pub cluster: Option<String>,
    /// What it was told to read.
    pub topics: Vec<String>,
    /// How often partitions were given or taken.
    pub rebalances: u64,
    /// Those it has now, by topic and number.
    pub partitions: Vec<PartitionStatus>,
}

/// What a source is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// It has not reached anybody yet, or nobody any more, and tries again.
    Connecting,
    Running,
    /// It runs, and something of it needs to be looked at.
    Degraded,
    /// It needs a person.
    Failed,
    /// It was ended.
    Stopped,
}

impl SourceState {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// Where a source stands in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    pub topic: String,
    pub partition: i32,
    /// The next position to become durable in the log, once that is known.
    pub position: Option<i64>,
    /// The position committed to the group, as far as this member knows.
    pub committed: Option<i64>,
    /// How many positions lie before it, if that is known.
    pub lag: Option<i64>,
    pub state: PartitionState,
    pub reason: Option<String>,
}

/// What a source does with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionState {
    /// It is not known yet where to start.
    Waiting,
    Reading,
    /// It waits for the log to take events.
    Paused,
    /// It is not read until a person decides.
    Halted,
    /// There are events, and none comes.
    Stalled,
}

impl PartitionState {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Reading => "reading",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::Stalled => "stalled",
        }
    }
}
