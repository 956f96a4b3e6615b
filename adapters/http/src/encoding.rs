//! Compressed bodies: taken apart within bounds, whatever they claim.
//!
//! # Invariants
//! E1. The output never passes `decoded_bytes` by more than a step, and every step finds room before it is taken.
//! E2. Decompressing takes no more memory beside its output than [`ZSTD_WINDOW_LOG`] says.
//! E3. A body has at most [`PARTS_MAX`] parts: gzip members and zstd frames, skippable ones included, so that none can
//!     keep a processor busy with parts that hold nothing.

use std::io::{self, Read};

use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use axum::http::{HeaderMap, HeaderValue};

use crate::body::{Room, too_large};
use crate::codes::Code;
use crate::problem::Problem;

/// Windows up to 8 MiB: what RFC 9659 allows for `Content-Encoding: zstd`.
const ZSTD_WINDOW_LOG: u32 = 23;
const PARTS_MAX: usize = 10_000;
/// How much is decompressed between looks at the bounds.
const STEP: usize = 256 << 10;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// What the head of a request says.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut given = headers.get_all(CONTENT_ENCODING).iter();
        let Some(value) = given.next() else {
            return Ok(Self::Identity);
        };
        let value = value.to_str().unwrap_or("?").trim().to_ascii_lowercase();
        match value.as_str() {
            "" | "identity" if given.next().is_none() => Ok(Self::Identity),
            "gzip" | "x-gzip" if given.next().is_none() => Ok(Self::Gzip),
            "zstd" if given.next().is_none() => Ok(Self::Zstd),
            _ => Err(Problem::new(
                Code::UnsupportedEncoding,
                format!("the encoding {value:?} is not taken; taken: gzip, zstd"),
            )
            .with_header(ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"))),
        }
    }

    /// The body as it was before it was compressed. Takes the room for both.
    pub(crate) fn decode(
        self,
        bytes: &[u8],
        limit: usize,
        room: &mut Room,
    ) -> Result<Vec<u8>, Problem> {
        let mut sink = Sink {
            out: Vec::new(),
            encoded: bytes.len(),
            limit,
            room,
        };
        match self {
            Self::Identity => sink.take(bytes)?,
            Self::Gzip => gunzip(bytes, &mut sink)?,
            Self::Zstd => unzstd(bytes, &mut sink)?,
        }
        Ok(sink.out)
    }
}

/// Takes what is decompressed, within bounds.
struct Sink<'a> {
    out: Vec<u8>,
    encoded: usize,
    limit: usize,
    room: &'a mut Room,
}

impl Sink<'_> {
    /// Everything up to the end of a part.
    fn take(&mut self, mut part: impl Read) -> Result<(), Problem> {
        loop {
            let output = (self.out.len() + STEP).min(self.limit);
            self.room.grow_to(self.encoded + output)?;
            let taken = part.by_ref().take(STEP as u64).read_to_end(&mut self.out);
            if self.out.len() > self.limit {
                return Err(too_large(self.limit));
            }
            if taken.map_err(|error| broken(&error))? == 0 {
                return Ok(());
            }
        }
    }
}

fn gunzip(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), Problem> {
    let mut rest = bytes;
    for _ in 0..PARTS_MAX {
        if rest.is_empty() {
            return Ok(());
        }
        let mut member = flate2::bufread::GzDecoder::new(rest);
        sink.take(&mut member)?;
        rest = member.into_inner();
    }
    Err(too_many_parts())
}

fn unzstd(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), Problem> {
    let mut context = zstd::zstd_safe::DCtx::create();
    let window = zstd::zstd_safe::DParameter::WindowLogMax(ZSTD_WINDOW_LOG);
    context
        .set_parameter(window)
        .map_err(|code| Problem::internal(zstd::zstd_safe::get_error_name(code)))?;
    let mut rest = bytes;
    for _ in 0..PARTS_MAX {
        if rest.is_empty() {
            return Ok(());
        }
        let mut frame =
            zstd::stream::read::Decoder::with_context(rest, &mut context).single_frame();
        sink.take(&mut frame)?;
        rest = frame.finish();
    }
    Err(too_many_parts())
}

fn too_many_parts() -> Problem {
    Problem::new(
        Code::BadEncoding,
        format!("the body is compressed in more than {PARTS_MAX} parts"),
    )
}

fn broken(error: &io::Error) -> Problem {
    let detail = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the compressed body ends early".to_owned(),
        _ => format!("the body cannot be decompressed: {error}"),
    };
    Problem::new(Code::BadEncoding, detail)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_swells_is_cut_off_at_the_limit() {
        const LIMIT: usize = 1 << 20;
        let blank = vec![b'\n'; 64 << 20];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&blank).unwrap();
        let zstd = zstd::encode_all(&blank[..], 3).unwrap();
        type Unpack = fn(&[u8], &mut Sink<'_>) -> Result<(), Problem>;
        for (unpack, bytes) in [
            (gunzip as Unpack, gzip.finish().unwrap()),
            (unzstd as Unpack, zstd),
        ] {
            let mut room = Room::of_bytes(1 << 30);
            let mut sink = Sink {
                out: Vec::new(),
                encoded: bytes.len(),
                limit: LIMIT,
                room: &mut room,
            };
            let outcome = unpack(&bytes, &mut sink);
            let grown = sink.out.len();
            assert!(
                outcome.is_err() && grown <= LIMIT + STEP,
                "{} bytes became {grown}",
                bytes.len()
            );
        }
    }
}
