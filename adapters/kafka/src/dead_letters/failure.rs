//! Why letters are not sent, and whether waiting helps.

use modelog_engine::LogId;
use modelog_engine::projection::ProjectionError;
use rdkafka::error::{KafkaError as Library, RDKafkaErrorCode as Code};

use super::Names;

/// Why letters are not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// `why` is what is known of the connection.
    #[error("{doing} failed{why}")]
    Library {
        doing: &'static str,
        why: String,
        #[source]
        source: Library,
    },
    #[error("a dead letter was not delivered to {topic}: {code}")]
    NotDelivered { topic: String, code: Code },
    #[error("brokers do not answer{why}")]
    Silence { why: String },
    #[error("there is no topic {topic} to send dead letters to; once it is created, they are sent")]
    NoTopic { topic: String },
    /// What can be told by nobody but a person.
    #[error("{reason}")]
    Hopeless { reason: String },
    #[error("the thread that sends dead letters has ended")]
    Ended,
    #[error("no thread could be started to send dead letters")]
    Thread(#[source] std::io::Error),
}

/// What a failure is about, if that needs a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Time,
    Rights,
    /// Another process has taken over.
    Another,
    Settings,
}

impl Failure {
    /// What librdkafka says went wrong.
    fn code(&self) -> Option<Code> {
        match self {
            Self::Library { source, .. } => source.rdkafka_error_code(),
            Self::NotDelivered { code, .. } => Some(*code),
            _ => None,
        }
    }

    fn needs(&self) -> Needs {
        if matches!(
            self,
            Self::Library {
                source: Library::ClientConfig(..) | Library::ClientCreation(_),
                ..
            }
        ) {
            return Needs::Settings;
        }
        match self.code() {
            Some(
                Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed,
            ) => Needs::Rights,
            Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => {
                Needs::Another
            }
            _ => Needs::Time,
        }
    }

    /// The same, if a transaction has taken so long that brokers have ended it: then nobody else need be there.
    pub(super) fn of_long_transaction(self) -> Self {
        match self.needs() {
            Needs::Another => Self::Silence {
                why: " in time: the transaction was ended by them".into(),
            },
            _ => self,
        }
    }

    /// What the runtime makes of it.
    pub(super) fn into_projection(self, names: &Names) -> ProjectionError {
        if let Self::Hopeless { reason } = self {
            return ProjectionError::Stopped { reason };
        }
        let what = modelog_engine::chain(&self);
        let reason = match self.needs() {
            Needs::Time => return ProjectionError::Unavailable(Box::new(self)),
            Needs::Rights => {
                let Names {
                    topic,
                    group,
                    transactional_id,
                } = names;
                format!(
                    "{what}; allow this user to describe and write the topic {topic}, to describe and write the transactional \
                     id {transactional_id}, and to read the group {group}, then restart the server"
                )
            }
            Needs::Another => format!(
                "{what}; another process sends dead letters of this log to {}: see to it that only one has this log, then \
                 restart the server",
                names.topic
            ),
            Needs::Settings => format!(
                "{what}; change `properties` of the source, which dead letters are sent with too, then restart the server"
            ),
        };
        ProjectionError::Stopped { reason }
    }

    /// The position of our group is none that this program wrote.
    pub(super) fn strange_mark(names: &Names, position: i64) -> Self {
        let Names { topic, group, .. } = names;
        Self::Hopeless {
            reason: format!(
                "the group {group} stands at {position} of {topic}/0, where this program has not put it; delete the group to \
                 have all dead letters sent again, then restart the server"
            ),
        }
    }

    /// The position of our group belongs to another log.
    pub(super) fn foreign_mark(names: &Names, found: LogId) -> Self {
        let group = &names.group;
        Self::Hopeless {
            reason: format!(
                "the group {group} follows log {found}; delete the group to have all dead letters of this log sent, then \
                 restart the server"
            ),
        }
    }

    /// A topic that takes not even headers.
    pub(super) fn no_room(names: &Names) -> Self {
        let topic = &names.topic;
        Self::Hopeless {
            reason: format!(
                "{topic} takes no message of the size of our headers; raise its `max.message.bytes`, then restart the server"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(code: Code) -> ProjectionError {
        let failure = Failure::NotDelivered {
            topic: "dead".into(),
            code,
        };
        failure.into_projection(&Names::new(LogId(uuid::Uuid::nil()), "dead"))
    }

    #[test]
    fn outages_are_waited_out_and_what_needs_a_person_says_what_to_do() {
        for code in [
            Code::MessageTimedOut,
            Code::UnknownTopic,
            Code::NotCoordinator,
        ] {
            assert!(
                matches!(judged(code), ProjectionError::Unavailable(_)),
                "{code:?}"
            );
        }
        for (code, said) in [
            (Code::TopicAuthorizationFailed, "write the topic dead"),
            (
                Code::TransactionalIdAuthorizationFailed,
                "id modelog-dead-letters-00000000-0000-0000-0000-000000000000-dead,",
            ),
            (Code::ProducerFenced, "another process"),
            (Code::Fenced, "another process"),
        ] {
            match judged(code) {
                ProjectionError::Stopped { reason } => assert!(reason.contains(said), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_long_transaction_is_nobodys_doing() {
        let fenced = Failure::NotDelivered {
            topic: "dead".into(),
            code: Code::Fenced,
        };
        let names = Names::new(LogId(uuid::Uuid::nil()), "dead");
        let judged = fenced.of_long_transaction().into_projection(&names);
        assert!(matches!(judged, ProjectionError::Unavailable(_)));
    }
}
