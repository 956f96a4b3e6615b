//! The catalogue of everything this API can answer instead of what was asked for. `docs/errors.md` prints it.

use axum::http::StatusCode;

/// What went wrong, in one stable word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BadRequest,
    BadPath,
    BadParameter,
    UnknownParameter,
    BadCursor,
    BadBody,
    BadEncoding,
    InvalidEvents,
    Unauthorized,
    Forbidden,
    HostNotAllowed,
    CrossSite,
    ControlOnly,
    NotFound,
    NoSuchRoute,
    MethodNotAllowed,
    NotAcceptable,
    RequestTimeout,
    IdConflict,
    EntityConflict,
    StaleProducer,
    SequenceGap,
    PositionLost,
    NotRebuildable,
    Busy,
    NotKept,
    TooLarge,
    UnsupportedMediaType,
    UnsupportedEncoding,
    KeyReused,
    BadDestination,
    Backlog,
    Internal,
    LogDamaged,
    BackupFailed,
    NotYet,
    StoreUnavailable,
    CompactionFailed,
    DiskFull,
    Poisoned,
    Closing,
    OutcomeUnknown,
}

/// A code as users meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The `code` of the problem.
    pub code: &'static str,
    /// The HTTP status it comes with.
    pub status: u16,
    /// What it means; the `title` of the problem.
    pub meaning: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// What `Retry-After` says, in seconds; none if repeating the request will not help.
    pub retry_after: Option<u32>,
}

const fn entry(
    code: &'static str,
    status: u16,
    meaning: &'static str,
    remedy: &'static str,
) -> Entry {
    Entry {
        code,
        status,
        meaning,
        remedy,
        retry_after: None,
    }
}

const fn retry(seconds: u32, entry: Entry) -> Entry {
    Entry {
        retry_after: Some(seconds),
        ..entry
    }
}

/// Every code there is.
pub const CATALOGUE: &[Entry] = &[
    entry(
        "bad_request",
        400,
        "The request is not HTTP as it should be",
        "See `detail` for the header that is missing or malformed.",
    ),
    entry(
        "bad_path",
        400,
        "A part of the path is not a name",
        "Percent-encode names in UTF-8, `/` as `%2F`; with `?by=id` give a number.",
    ),
    entry(
        "bad_parameter",
        400,
        "A query parameter has a value it cannot have",
        "See `errors` for the parameter and what it takes.",
    ),
    entry(
        "unknown_parameter",
        400,
        "There is no such query parameter",
        "See `detail` for the nearest one; `GET /openapi.json` lists them all.",
    ),
    entry(
        "bad_cursor",
        400,
        "The cursor is not one that this list gave out",
        "Take `next_cursor` from the page before, unchanged, or leave it out to start over.",
    ),
    entry(
        "bad_body",
        400,
        "The body ended early or could not be read",
        "Send the whole body again. Nothing of it was appended.",
    ),
    entry(
        "bad_encoding",
        400,
        "The body is not what `Content-Encoding` says",
        "Compress the body again, or send it as it is without `Content-Encoding`.",
    ),
    entry(
        "invalid_events",
        400,
        "Events were refused; nothing was appended",
        "Mend the places listed in `errors`, or append the good events with `?on_error=skip`.",
    ),
    entry(
        "unauthorized",
        401,
        "A valid token is needed",
        "Send `Authorization: Bearer TOKEN` with a token whose hash is in the token file.",
    ),
    entry(
        "forbidden",
        403,
        "The token does not allow this",
        "Use a token with the scope named in `detail`.",
    ),
    entry(
        "host_not_allowed",
        403,
        "The Host of the request is not one of ours",
        "Use an IP address or localhost, add the name to `allowed_hosts`, or send a token.",
    ),
    entry(
        "cross_site",
        403,
        "A page of another site made this request",
        "Call the API from a program, or from a page that this server delivered.",
    ),
    entry(
        "control_only",
        403,
        "This is done through the control socket only",
        "Run the command on the server's machine, on its data directory: `modelog backup DEST --data DIR`.",
    ),
    entry(
        "not_found",
        404,
        "There is nothing of that name",
        "Check the spelling, case included; deleted entities are found again once restored.",
    ),
    entry(
        "no_such_route",
        404,
        "The API has no such route",
        "`GET /openapi.json` lists all routes; a `/` within a name is written `%2F`.",
    ),
    entry(
        "method_not_allowed",
        405,
        "The route does not take this method",
        "Use one of the methods in the `Allow` header.",
    ),
    entry(
        "not_acceptable",
        406,
        "The answer has no form that `Accept` allows",
        "Ask for `application/json`, or where offered `application/vnd.apache.arrow.stream`.",
    ),
    entry(
        "request_timeout",
        408,
        "The body did not arrive in time",
        "Send smaller bodies, or over a faster connection. Nothing was appended.",
    ),
    entry(
        "id_conflict",
        409,
        "An event with the same id and other content exists",
        "Give the event an id of its own; nothing of the call was appended.",
    ),
    entry(
        "entity_conflict",
        409,
        "The entity exists with other attributes",
        "Send the same attributes, or merge the new ones with `?on_conflict=merge`.",
    ),
    entry(
        "stale_producer",
        409,
        "A newer call or a newer instance of the producer was here",
        "Start with a higher epoch; this call is not in the log unless it was answered before.",
    ),
    entry(
        "sequence_gap",
        409,
        "Calls of the producer are missing in between",
        "Go on with the sequence named in `detail`.",
    ),
    entry(
        "position_lost",
        409,
        "The position belongs to another log, or to history that no longer exists",
        "Start over: with `from=0` from the beginning, or without `from` and `Last-Event-ID` from now.",
    ),
    entry(
        "not_rebuildable",
        409,
        "The projection cannot be built again: it holds a part of the log itself, or has effects that cannot be taken back",
        "Nothing needs to be done. What is damaged in Parquet comes back from a backup; what a dead letter topic lost is in the log.",
    ),
    entry(
        "busy",
        409,
        "The same work is under way already",
        "Wait until it is done, then ask again.",
    ),
    entry(
        "not_kept",
        410,
        "The store that answers keeps what is new only, and no other is there",
        "Ask for less, or for what is newer; or let a store with all of history answer.",
    ),
    entry(
        "too_large",
        413,
        "The body is larger than allowed, as sent or decompressed",
        "Split it into several calls.",
    ),
    entry(
        "unsupported_media_type",
        415,
        "The body has no type that is taken here",
        "Set `Content-Type` to one of those in `detail`.",
    ),
    entry(
        "unsupported_encoding",
        415,
        "The body is compressed in a way that is not understood",
        "Compress with gzip or zstd, once, or not at all.",
    ),
    entry(
        "key_reused",
        422,
        "The idempotency key was used for another request",
        "Use a new key for every new request; the same only to repeat one.",
    ),
    entry(
        "bad_destination",
        422,
        "The place for the backup cannot be used",
        "Name a directory that is not there yet, is empty, or holds backups of this log.",
    ),
    retry(
        1,
        entry(
            "backlog",
            429,
            "More is waiting to be taken than there is room for",
            "Wait as `Retry-After` says and send the same request again.",
        ),
    ),
    entry(
        "internal",
        500,
        "The server made a mistake",
        "The server's log says more; please report it.",
    ),
    entry(
        "log_damaged",
        500,
        "Stored events cannot be read",
        "Run `modelog verify`; it names the damage.",
    ),
    entry(
        "backup_failed",
        500,
        "The backup was not made",
        "See `detail` for the reason; earlier backups are as they were.",
    ),
    retry(
        1,
        entry(
            "not_yet",
            503,
            "The store has not come as far as was asked for",
            "Ask again later, or with `?at_least=0` for what it has. `GET /v1/projections` says why.",
        ),
    ),
    retry(
        5,
        entry(
            "store_unavailable",
            503,
            "The store that answers reads cannot be reached",
            "Ask again later; events are taken all the same. `GET /v1/projections` says more.",
        ),
    ),
    retry(
        60,
        entry(
            "compaction_failed",
            503,
            "Parquet files could not be written",
            "See `detail` for the reason; the log keeps what is not in Parquet, and it is tried again by itself.",
        ),
    ),
    retry(
        10,
        entry(
            "disk_full",
            503,
            "The disk is full; nothing was appended",
            "Make room on the disk of the data directory; events are taken again by themselves.",
        ),
    ),
    retry(
        60,
        entry(
            "poisoned",
            503,
            "The log stopped taking events after a failed write; nothing was appended",
            "Look at the disk, then restart the server. Reads go on.",
        ),
    ),
    retry(
        5,
        entry(
            "closing",
            503,
            "The server is shutting down; nothing was appended",
            "Send the same request again once it is back.",
        ),
    ),
    retry(
        60,
        entry(
            "outcome_unknown",
            503,
            "Writing failed, and whether the events were appended is not known",
            "Send the same request again after a restart of the server, with event ids or the same idempotency key.",
        ),
    ),
];

// The last code has the last entry; a test looks at all the others.
const _: () = assert!(Code::OutcomeUnknown as usize + 1 == CATALOGUE.len());

impl Code {
    /// What the catalogue says.
    pub(crate) const fn entry(self) -> &'static Entry {
        &CATALOGUE[self as usize]
    }

    pub(crate) fn status(self) -> StatusCode {
        StatusCode::from_u16(self.entry().status).expect("the catalogue holds HTTP statuses")
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// The tables of `docs/errors.md`.
    fn tables() -> String {
        let mut text = String::from("| code | status | means | what to do |\n|---|---|---|---|\n");
        for entry in CATALOGUE {
            let Entry {
                code,
                status,
                meaning,
                remedy,
                retry_after,
            } = entry;
            let retry = retry_after.map_or(String::new(), |seconds| format!(", {seconds} s"));
            writeln!(
                text,
                "| `{code}` | {status}{retry} | {meaning} | {remedy} |"
            )
            .unwrap();
        }
        text.push_str("\n## Errors of events\n\n| code | means | what to do |\n|---|---|---|\n");
        for error in modelog_formats::ERROR_CODES {
            let escaped = |text: &str| text.replace('|', "\\|");
            let (meaning, remedy) = (escaped(error.meaning), escaped(error.remedy));
            writeln!(text, "| `{}` | {meaning} | {remedy} |", error.code).unwrap();
        }
        text
    }

    const ALL: [Code; CATALOGUE.len()] = [
        Code::BadRequest,
        Code::BadPath,
        Code::BadParameter,
        Code::UnknownParameter,
        Code::BadCursor,
        Code::BadBody,
        Code::BadEncoding,
        Code::InvalidEvents,
        Code::Unauthorized,
        Code::Forbidden,
        Code::HostNotAllowed,
        Code::CrossSite,
        Code::ControlOnly,
        Code::NotFound,
        Code::NoSuchRoute,
        Code::MethodNotAllowed,
        Code::NotAcceptable,
        Code::RequestTimeout,
        Code::IdConflict,
        Code::EntityConflict,
        Code::StaleProducer,
        Code::SequenceGap,
        Code::PositionLost,
        Code::NotRebuildable,
        Code::Busy,
        Code::NotKept,
        Code::TooLarge,
        Code::UnsupportedMediaType,
        Code::UnsupportedEncoding,
        Code::KeyReused,
        Code::BadDestination,
        Code::Backlog,
        Code::Internal,
        Code::LogDamaged,
        Code::BackupFailed,
        Code::NotYet,
        Code::StoreUnavailable,
        Code::CompactionFailed,
        Code::DiskFull,
        Code::Poisoned,
        Code::Closing,
        Code::OutcomeUnknown,
    ];

    #[test]
    fn the_page_on_errors_lists_them_all() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
        let page = std::fs::read_to_string(page).unwrap();
        let expected = tables();
        assert!(
            page.contains(&expected),
            "docs/errors.md should have:\n{expected}"
        );
    }

    #[test]
    fn codes_are_unique_and_where_the_enum_says() {
        for entry in CATALOGUE {
            assert_eq!(
                CATALOGUE
                    .iter()
                    .filter(|other| other.code == entry.code)
                    .count(),
                1,
                "{}",
                entry.code
            );
            assert!(StatusCode::from_u16(entry.status).is_ok(), "{}", entry.code);
            let retried = matches!(entry.status, 429 | 503);
            assert_eq!(entry.retry_after.is_some(), retried, "{}", entry.code);
            assert!(!entry.remedy.is_empty() && !entry.meaning.ends_with('.'));
        }
        let spelled = |code: Code| {
            let mut snake = String::new();
            for letter in format!("{code:?}").chars() {
                if letter.is_uppercase() && !snake.is_empty() {
                    snake.push('_');
                }
                snake.extend(letter.to_lowercase());
            }
            snake
        };
        for code in ALL {
            assert_eq!(code.entry().code, spelled(code));
        }
    }
}
