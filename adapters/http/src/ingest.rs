//! `POST /v1/events`: events of any kinds, in any format, durable when it answers.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use modelog_engine::event::Kind;
use modelog_engine::{AppendOptions, Channel, OnBacklog, OnConflict, OnCreate};
use modelog_formats::{DecodeErrors, Decoded, Format, OnError, Options, decode};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::append::{Call, append, decoding};
use crate::binary::Binary;
use crate::body::{media_type, receive};
use crate::codes::Code;
use crate::problem::{Problem, Problems, WriteProblems};
use crate::query::Query;
use crate::retry::Retry;
use crate::state::AppState;

/// Routes that need the scope `ingest`.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Media types and what they are.
const FORMATS: [(&str, Format); 5] = [
    ("application/json", Format::Json),
    ("application/x-ndjson", Format::Ndjson),
    ("application/cloudevents+json", Format::CloudEvent),
    (
        "application/cloudevents-batch+json",
        Format::CloudEventBatch,
    ),
    ("application/vnd.apache.arrow.stream", Format::Arrow),
];

/// The media types, as errors list them.
static TAKEN: LazyLock<String> = LazyLock::new(|| {
    let listed = FORMATS.map(|(name, _)| name).join(", ");
    format!("{listed}, and a CloudEvent in binary mode, whose headers begin with ce-")
});

/// What a request brings.
enum Sent {
    Body(Format),
    Binary(Binary),
}

impl Sent {
    /// What the headers say, and the same in words.
    fn of(headers: &HeaderMap) -> Result<(Self, String), Problem> {
        if let Some(binary) = Binary::of(headers)? {
            let words = binary.fingerprint();
            return Ok((Self::Binary(binary), words));
        }
        let media_type = media_type(headers, &TAKEN)?;
        match FORMATS.into_iter().find(|(name, _)| *name == media_type) {
            Some((_, format)) => Ok((Self::Body(format), media_type)),
            None => Err(Problem::new(
                Code::UnsupportedMediaType,
                format!("{media_type:?} is not taken here; taken: {}", *TAKEN),
            )),
        }
    }

    fn decode(&self, bytes: &[u8], options: &Options) -> Result<Decoded, DecodeErrors> {
        match self {
            Self::Body(format) => decode(bytes, *format, options),
            Self::Binary(binary) => binary.decode(bytes, options),
        }
    }
}

/// What became of a call.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Taken {
    /// Events that are in the log now.
    accepted: u32,
    /// Events that are in the log only as a record of having been rejected; with `?on_error=skip`.
    rejected: u32,
    /// Events that were in the log before.
    duplicates: u32,
    /// Offset of the first event appended; null if none was.
    first_offset: Option<u64>,
    /// Offset after the last event appended; null if none was.
    end_offset: Option<u64>,
    /// How often each field came that its kind does not have. They are kept in `extra`.
    unknown_fields: BTreeMap<String, u64>,
}

/// Appends events of any kinds, all or none, unless `on_error=skip`. They are durable when it answers.
///
/// A CloudEvent in binary mode has its attributes in headers that begin with `ce-`, and its data as the body: an object of
/// the kind's fields, or, with a type of KServe's inference logger, a request or response as it was sent.
#[utoipa::path(
    post,
    path = "/v1/events",
    tag = "events",
    params(
        ("on_error" = Option<String>, Query,
         description = "`refuse` (default): one bad event refuses the call. `skip`: good events are appended, bad ones recorded as `EventRejected`."),
        ("strict" = Option<bool>, Query, description = "Refuse fields that the kind does not have."),
        ("kind" = Option<String>, Query,
         description = "The kind of the events of an Arrow stream whose schema does not say it as `modelog.kind`."),
        ("Idempotency-Key" = Option<String>, Header,
         description = "Any string of up to 128 bytes: a repeat with the same key gets the first answer again."),
        ("Modelog-Producer" = Option<String>, Header,
         description = "`id;epoch;sequence`: calls are taken once and in order; a higher epoch fences older instances."),
        ("Content-Encoding" = Option<String>, Header, description = "`gzip` or `zstd`."),
        ("ce-specversion" = Option<String>, Header,
         description = "`1.0`: the request is a CloudEvent in binary mode, unless its Content-Type is one of CloudEvents. `ce-type`, `ce-source` and `ce-id` are needed then, `ce-time` and others may be there; values are percent-encoded."),
    ),
    request_body(
        description = "Events; an empty body is an empty call. Bounded as sent and decompressed: 64 MiB unless configured otherwise.",
        content(
            (ref("#/components/schemas/EventOrEvents") = "application/json"),
            (String = "application/x-ndjson"),
            (Object = "application/cloudevents+json"),
            (Vec<Object> = "application/cloudevents-batch+json"),
            (ref("#/components/schemas/ArrowStream") = "application/vnd.apache.arrow.stream"),
        )
    ),
    responses(
        (status = 200, body = Taken, description = "The events are durable."),
        Problems,
        WriteProblems,
    )
)]
async fn events(State(state): State<AppState>, request: Request) -> Result<Json<Taken>, Problem> {
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query(), &["on_error", "strict", "kind"])?;
    let (sent, said) = Sent::of(&parts.headers)?;
    let options = options(&state, &query, &sent)?;
    let append_options = AppendOptions {
        channel: Channel::Http,
        backlog: OnBacklog::Refuse,
        id_conflict: match options.on_error {
            OnError::Refuse => OnConflict::Refuse,
            OnError::Record => OnConflict::Record,
        },
        create: OnCreate::Merge,
    };
    let retry = Retry::of(&parts, &said)?;
    let call = Call {
        received: receive(&state, &parts.headers, body).await?,
        options: append_options,
        retry,
    };
    let done = append(&state, call, move |bytes| {
        Ok((sent.decode(bytes, &options)?, ()))
    })
    .await?;
    let appended = done.appended;
    Ok(Json(Taken {
        accepted: appended.accepted,
        rejected: appended.rejected,
        duplicates: appended.duplicates,
        first_offset: appended.first.map(|first| first.0),
        end_offset: appended.first.map(|_| appended.end.0),
        unknown_fields: done.unknown_fields,
    }))
}

fn options(state: &AppState, query: &Query, sent: &Sent) -> Result<Options, Problem> {
    let on_error = [("refuse", OnError::Refuse), ("skip", OnError::Record)];
    let kind = query
        .text("kind")
        .map(|kind| {
            kind.parse::<Kind>()
                .map_err(|error| Problem::bad_parameter("kind", format!("names no kind: {error}")))
        })
        .transpose()?;
    if kind.is_some() && !matches!(sent, Sent::Body(Format::Arrow)) {
        return Err(Problem::bad_parameter(
            "kind",
            "is for Arrow streams; other events name their own",
        ));
    }
    Ok(Options {
        strict: query.flag("strict")?,
        on_error: query.word("on_error", &on_error)?.unwrap_or_default(),
        kind,
        ..decoding(state)
    })
}
