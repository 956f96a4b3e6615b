//! Freshness: a read sees what its caller wrote before.
//!
//! Stores follow the log; each answer covers the log up to an offset, which `Modelog-Offset` tells. By default a read
//! waits a moment for the tail as it was when the request arrived, and then answers with what there is: someone who
//! looks wants an answer. `?at_least=N` is a demand: what does not cover N is refused as `not_yet`, at once where
//! waiting cannot help because the store is stopped. `?at_least=0` does not wait.
//!
//! Where there is a live store and one with all of history, the first that is fresh enough answers, the live one if both
//! are. What the live one no longer keeps the other answers, once it is as fresh; the header says what that one covers.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::Request;
use axum::http::HeaderName;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use modelog_engine::read::{FallBack, Layered, ReadError, ReadStore};
use modelog_engine::{Engine, NotYet, Offset};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{OpenApi, RefOr};

use super::parameters::Parameters;
use crate::problem::Problem;
use crate::query::Query;
use crate::state::AppState;

/// The end of what an answer covers.
pub(super) const OFFSET: HeaderName = HeaderName::from_static("modelog-offset");
/// How long a read waits for the tail by itself.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it waits when it is told an offset.
const PATIENCE_ASKED: Duration = Duration::from_secs(10);

/// How fresh the answer must be.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Freshness {
    /// The `end_offset` the answer must cover; waits up to 10 s for it. 0 does not wait. Without it, the answer covers
    /// what was in the log when the request arrived, if the store gets there within 500 ms.
    #[param(value_type = Option<u64>)]
    at_least: Option<Offset>,
}

impl Parameters for Freshness {
    const NAMES: &'static [&'static str] = &["at_least"];

    fn read(query: &Query) -> Result<Self, Problem> {
        Ok(Self {
            at_least: query.parsed("at_least", "an offset")?.map(Offset),
        })
    }
}

/// What the answer to a request covers, once that is known.
#[derive(Clone, Debug, Default)]
struct Covered(Arc<Mutex<Option<Offset>>>);

impl Covered {
    fn set(&self, offset: Offset) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(offset);
    }

    fn get(&self) -> Option<Offset> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says on every answer of a route, also on one that nothing was found, what it covers.
pub(super) async fn tell(mut request: Request, next: Next) -> Response {
    let covered = Covered::default();
    request.extensions_mut().insert(covered.clone());
    let mut response = next.run(request).await;
    if let Some(offset) = covered.get() {
        response.headers_mut().insert(OFFSET, offset.0.into());
    }
    response
}

/// How far a store got.
type Reached = Result<Offset, NotYet>;

fn at(reached: &Reached) -> Offset {
    match reached {
        Ok(at) | Err(NotYet::Behind { at, .. } | NotYet::Stopped { at, .. }) => *at,
    }
}

impl Freshness {
    /// Waits until a store is as fresh as asked for, and answers with it.
    ///
    /// # Errors
    /// `not_yet` if none gets there.
    pub(super) async fn wait(
        self,
        parts: &Parts,
        state: &AppState,
    ) -> Result<Arc<dyn ReadStore>, Problem> {
        let covered = parts.extensions.get::<Covered>().cloned();
        let covered = covered.unwrap_or_default();
        let following = self.following(state);
        let reads = &state.services.reads;
        let Some(history) = &state.services.history else {
            let reached = following.reach(&**reads).await?;
            covered.set(at(&reached));
            return match reached {
                Err(not_yet) if self.at_least.is_some() => Err(not_yet.into()),
                _ => Ok(Arc::clone(reads)),
            };
        };
        // The first that gets there; if one does not, the other may.
        let (live, whole) = {
            let mut live = pin!(following.reach(&**reads));
            let mut whole = pin!(following.reach(&**history));
            tokio::select! {
                biased;
                reached = &mut live => match reached? {
                    Ok(at) => (Some(Ok(at)), None),
                    not_yet => (Some(not_yet), Some(whole.await?)),
                },
                reached = &mut whole => match reached? {
                    Ok(at) => (None, Some(Ok(at))),
                    not_yet => (Some(live.await?), Some(not_yet)),
                },
            }
        };
        let live_at = live.as_ref().map(at);
        let whole_at = whole.as_ref().map(at);
        match (live, whole) {
            (Some(Err(not_yet)), Some(Err(_))) if self.at_least.is_some() => Err(not_yet.into()),
            // None got there, and whoever asked takes what there is.
            (Some(live), Some(Err(_))) | (Some(live @ Ok(_)), _) if live_at >= whole_at => {
                let wanted = at(&live);
                covered.set(wanted);
                let behind = Behind {
                    following: Following {
                        wanted,
                        ..following
                    },
                    history: Arc::clone(history),
                    demanded: self.at_least.is_some(),
                    covered,
                };
                let (reads, history) = (Arc::clone(reads), Arc::clone(history));
                Ok(Arc::new(Layered::new(reads, history, behind)))
            }
            _ => {
                covered.set(whole_at.unwrap_or(Offset::ZERO));
                Ok(Arc::clone(history))
            }
        }
    }

    fn following(&self, state: &AppState) -> Following {
        let (wanted, patience) = match self.at_least {
            Some(wanted) => (wanted, PATIENCE_ASKED),
            None => (state.engine().tail(), PATIENCE),
        };
        Following {
            engine: state.engine().clone(),
            wanted,
            patience,
        }
    }
}

/// How far stores must get, and how long that may take.
struct Following {
    engine: Engine,
    wanted: Offset,
    patience: Duration,
}

impl Following {
    async fn reach(&self, store: &dyn ReadStore) -> Result<Reached, ReadError> {
        let name = store.projection();
        if let Some(projection) = self.engine.projection(name) {
            return Ok(projection.wait_for(self.wanted, self.patience).await);
        }
        // Nothing feeds it at present: what it has is what there is.
        let at = store.offset().await?;
        Ok(if self.wanted > at {
            Err(NotYet::Stopped {
                name: name.to_owned(),
                at,
                reason: "it does not run".to_owned(),
            })
        } else {
            Ok(at)
        })
    }
}

/// What happens when the live store no longer keeps what is asked for.
struct Behind {
    /// The other must get as far as the live store was.
    following: Following,
    history: Arc<dyn ReadStore>,
    demanded: bool,
    covered: Covered,
}

#[async_trait]
impl FallBack for Behind {
    async fn before(&self) -> Result<(), ReadError> {
        let reached = self.following.reach(&*self.history).await?;
        self.covered.set(at(&reached));
        match reached {
            Err(not_yet) if self.demanded => Err(not_yet.into()),
            _ => Ok(()),
        }
    }
}

/// Describes the header on every answer of routes that answer from a store.
pub(super) fn describe(api: &mut OpenApi) {
    let header = HeaderBuilder::new()
        .schema(Some(Object::with_type(Type::Integer)))
        .description(Some(
            "The end of what the answer covers, as an `end_offset`.",
        ))
        .build();
    let answers = api
        .paths
        .paths
        .values_mut()
        .filter_map(|path| path.get.as_mut())
        .filter_map(|operation| operation.responses.responses.get_mut("200"));
    for answer in answers {
        if let RefOr::T(answer) = answer {
            let header = header.clone();
            answer
                .headers
                .insert("Modelog-Offset".to_owned(), header.into());
        }
    }
}
