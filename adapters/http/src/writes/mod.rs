//! The unified API: one call for each kind of fact.
//!
//! A body holds the fields of the fact, without `type` and without what the path says; one object, or an array of them
//! where that makes sense. Everything becomes events, like what comes through `/v1/events`.

mod bodies;
mod changes;
mod creations;
mod facts;
mod removals;

use axum::extract::Request;
use modelog_engine::event::{EntityKind, EntityRef};
use modelog_engine::names::EntityId;
use modelog_engine::{AppendOptions, Channel, OnBacklog, OnConflict, OnCreate};
use modelog_formats::{Decoded, Options};
use utoipa_axum::router::OpenApiRouter;

use crate::append::{Call, Done, append, decoding};
use crate::body::{Received, expect_json, receive};
use crate::codes::Code;
use crate::problem::Problem;
use crate::query::Query;
use crate::retry::Retry;
use crate::state::AppState;

pub(crate) use bodies::add_schemas;

/// Routes that need the scope `ingest`.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    creations::routes()
        .merge(facts::routes())
        .merge(changes::routes())
        .merge(removals::routes())
}

/// A request of the unified API, before its body is read.
struct Write<'a> {
    state: &'a AppState,
    query: Query,
    by_id: bool,
    create: OnCreate,
}

impl<'a> Write<'a> {
    /// A request that states a fact.
    fn fact(state: &'a AppState, request: &Request) -> Result<Self, Problem> {
        let query = Query::parse(request.uri().query(), &["by", "strict"])?;
        Ok(Self {
            state,
            by_id: query.by_id()?,
            query,
            create: OnCreate::Merge,
        })
    }

    /// A request that creates an entity.
    fn creation(state: &'a AppState, request: &Request) -> Result<Self, Problem> {
        let query = Query::parse(request.uri().query(), &["by", "strict", "on_conflict"])?;
        let words = [("refuse", OnCreate::Refuse), ("merge", OnCreate::Merge)];
        Ok(Self {
            state,
            by_id: query.by_id()?,
            create: query
                .word("on_conflict", &words)?
                .unwrap_or(OnCreate::Refuse),
            query,
        })
    }

    /// The name behind a part of the path. Names need not be known: facts come in any order.
    fn name(&self, kind: EntityKind, part: String) -> Result<String, Problem> {
        if self.by_id {
            Ok(self.named(kind, &part)?.1)
        } else {
            Ok(part)
        }
    }

    /// Model and version behind two parts of the path.
    fn version(&self, model: String, version: String) -> Result<(String, String), Problem> {
        if !self.by_id {
            if version.starts_with('@') {
                return Err(Problem::new(
                    Code::BadPath,
                    "what is changed is named by its version, not by an alias",
                ));
            }
            return Ok((model, version));
        }
        let (parent, name) = self.named(EntityKind::Version, &version)?;
        let model_name = self.name(EntityKind::Model, model)?;
        let names = self.state.engine().names();
        if names.id(EntityKind::Model, &model_name) != Some(parent) {
            return Err(Problem::not_found(
                "version",
                format!("{version} of the model {model_name:?}"),
            ));
        }
        Ok((model_name, name))
    }

    /// Parent and name behind an id.
    fn named(&self, kind: EntityKind, part: &str) -> Result<(EntityId, String), Problem> {
        let id: EntityId = part.parse().map_err(|_| {
            Problem::new(
                Code::BadPath,
                format!("with `?by=id` the {kind} must be a number"),
            )
        })?;
        let names = self.state.engine().names();
        match names.name(kind, id) {
            Some((parent, name)) => Ok((parent, (*name).to_owned())),
            None => Err(Problem::not_found(kind, format!("with the id {id}"))),
        }
    }

    /// Checks that an entity has been named, by whatever event.
    fn expect(&self, entity: &EntityRef) -> Result<(), Problem> {
        let names = self.state.engine().names();
        let id = match &entity.parent {
            None => names.id(entity.kind, &entity.name),
            Some(model) => names
                .id(EntityKind::Model, model)
                .and_then(|model| names.version_id(model, &entity.name)),
        };
        match id {
            Some(_) => Ok(()),
            None => Err(Problem::not_found(
                entity.kind,
                format!("{:?}", entity.name),
            )),
        }
    }

    /// Reads the body and appends what it is decoded to.
    async fn append<T: Send + 'static>(
        &self,
        request: Request,
        body: Expect,
        decode: impl FnOnce(&[u8], &Options) -> Result<(Decoded, T), Problem> + Send + 'static,
    ) -> Result<Done<T>, Problem> {
        let (head, content) = request.into_parts();
        let received = match body {
            Expect::Nothing => Received::nothing(self.state),
            Expect::Json => {
                expect_json(&head.headers)?;
                receive(self.state, &head.headers, content).await?
            }
            // A body without a type must be empty, else a page of another site could send it.
            Expect::JsonOrNothing => {
                let typed = expect_json(&head.headers);
                if let Err(problem) = typed
                    && !axum::body::HttpBody::is_end_stream(&content)
                {
                    return Err(problem);
                }
                receive(self.state, &head.headers, content).await?
            }
        };
        let call = Call {
            received,
            options: AppendOptions {
                channel: Channel::Http,
                backlog: OnBacklog::Refuse,
                id_conflict: OnConflict::Refuse,
                create: self.create,
            },
            retry: Retry::of(&head, "application/json")?,
        };
        let options = Options {
            strict: self.query.flag("strict")?,
            ..decoding(self.state)
        };
        append(self.state, call, move |bytes| decode(bytes, &options)).await
    }
}

/// What body a request must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Nothing,
    Json,
    JsonOrNothing,
}

/// A body of JSON without what may stand around it.
fn json_text(body: &[u8]) -> &[u8] {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    body.strip_prefix(BYTE_ORDER_MARK)
        .unwrap_or(body)
        .trim_ascii()
}
