//! Where files lie: the one place that makes names and takes them apart.
//!
//! ```text
//! _manifest.json
//! _lock                       held while a compactor is at work
//! kind=PredictionLogged/date=2026-11-22/00000000000000000000-00000000000004194304.parquet
//! kind=PredictionLogged/date=2026-11-22/.00000000000004194304.tmp
//! ```
//!
//! A file's name says the offset of its first row and the offset after its last one; the date is the day, in UTC, on
//! which the log took its rows. Unfinished files end in `.tmp`, which no glob for Parquet matches, and start with a dot:
//! pyarrow, pandas and Spark, told to read a directory, read every file in it that is not hidden.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use chrono::NaiveDate;
use modelog_engine::event::{Kind, UnknownKind};
use modelog_engine::{Offset, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The manifest, in the directory itself.
pub const MANIFEST: &str = "_manifest.json";
/// How unfinished files end.
pub const UNFINISHED: &str = "tmp";
/// How finished files end.
pub const FINISHED: &str = "parquet";

const KIND: &str = "kind=";
const DATE: &str = "date=";
const ORIGIN: &str = "Origin";
/// Digits of an offset in a name, so that names sort as offsets do.
const OFFSET_DIGITS: usize = 20;

/// What the rows of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// Events of a kind. [`Kind::EntityNamed`] is special: its rows are the names that batches brought, and repeat
    /// offsets of events, as those of [`Origin`](Self::Origin) do.
    Events(Kind),
    /// Where batches came from.
    Origin,
}

impl FileKind {
    /// How many there are.
    pub const COUNT: usize = Kind::ALL.len() + 1;

    /// All of them, at the index of their number.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..Self::COUNT).map(|number| match Kind::ALL.get(number) {
            Some(kind) => Self::Events(*kind),
            None => Self::Origin,
        })
    }

    /// Its place in [`all`](Self::all).
    #[must_use]
    pub fn number(self) -> usize {
        match self {
            Self::Events(kind) => usize::from(kind.number()),
            Self::Origin => Kind::ALL.len(),
        }
    }

    /// The word in paths.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events(kind) => kind.name(),
            Self::Origin => ORIGIN,
        }
    }

    /// Whether its rows are events, each with an offset of its own.
    #[must_use]
    pub fn is_events(self) -> bool {
        !matches!(self, Self::Events(Kind::EntityNamed) | Self::Origin)
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for FileKind {
    type Err = UnknownKind;

    /// Exactly the word in paths; other spellings of a kind are none.
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::all()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| UnknownKind(text.chars().take(64).collect()))
    }
}

impl Serialize for FileKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for FileKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

/// The day, in UTC, of a point in time.
#[must_use]
pub fn date_of(time: Timestamp) -> NaiveDate {
    let time = time.clamp(Timestamp::MIN, Timestamp::MAX);
    chrono::DateTime::from_timestamp_micros(time.micros())
        .expect("the years of a timestamp are those of the calendar")
        .date_naive()
}

/// The name of a finished file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName {
    pub kind: FileKind,
    pub date: NaiveDate,
    /// Offset of the first row.
    pub first: Offset,
    /// The offset after that of the last row.
    pub end: Offset,
}

impl FileName {
    /// The directory it lies in, below that of all Parquet files.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        directory(self.kind, self.date)
    }

    /// Its path below the directory of all Parquet files.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory().join(format!(
            "{:0width$}-{:0width$}.{FINISHED}",
            self.first.0,
            self.end.0,
            width = OFFSET_DIGITS
        ))
    }

    /// The same as text, with slashes.
    #[must_use]
    pub fn text(&self) -> String {
        self.path().to_string_lossy().into_owned()
    }

    /// Takes apart a path below the directory of all Parquet files; none if it is no name of ours, to the letter.
    #[must_use]
    pub fn parse(path: &Path) -> Option<Self> {
        let (kind, date, file) = split(path)?;
        let (first, end) = file.strip_suffix(".parquet")?.split_once('-')?;
        let (first, end) = (offset(first)?, offset(end)?);
        (first < end).then_some(Self {
            kind,
            date,
            first,
            end,
        })
    }
}

/// The directory of a kind and a day, below that of all Parquet files.
#[must_use]
pub fn directory(kind: FileKind, date: NaiveDate) -> PathBuf {
    Path::new(&format!("{KIND}{kind}")).join(format!("{DATE}{date}"))
}

/// Where a file that starts at an offset lies until it is finished.
#[must_use]
pub fn unfinished(kind: FileKind, date: NaiveDate, first: Offset) -> PathBuf {
    directory(kind, date).join(format!(
        ".{:0width$}.{UNFINISHED}",
        first.0,
        width = OFFSET_DIGITS
    ))
}

/// Whether a path below the directory of all Parquet files is that of an unfinished file of ours.
#[must_use]
pub fn is_unfinished(path: &Path) -> bool {
    split(path).is_some_and(|(_, _, file)| {
        file.strip_prefix('.')
            .and_then(|file| file.strip_suffix(".tmp"))
            .is_some_and(|first| offset(first).is_some())
    })
}

fn split(path: &Path) -> Option<(FileKind, NaiveDate, &str)> {
    let mut parts = path.components().map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    let kind = parts.next()??.strip_prefix(KIND)?.parse().ok()?;
    let date = date(parts.next()??.strip_prefix(DATE)?)?;
    let file = parts.next()??;
    parts.next().is_none().then_some((kind, date, file))
}

fn date(text: &str) -> Option<NaiveDate> {
    let date: NaiveDate = text.parse().ok()?;
    (date.to_string() == text).then_some(date)
}

fn offset(text: &str) -> Option<Offset> {
    let digits = text.len() == OFFSET_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok().map(Offset))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_as_they_were_made() {
        for kind in FileKind::all() {
            for (first, end) in [(0, 1), (7, 4_194_304), (u64::MAX - 1, u64::MAX)] {
                let name = FileName {
                    kind,
                    date: NaiveDate::from_ymd_opt(2026, 11, 22).unwrap(),
                    first: Offset(first),
                    end: Offset(end),
                };
                assert_eq!(FileName::parse(&name.path()), Some(name));
                assert!(!is_unfinished(&name.path()));
                let before = unfinished(kind, name.date, name.first);
                assert!(is_unfinished(&before));
                assert_eq!(FileName::parse(&before), None);
            }
        }
        let name = FileName {
            kind: FileKind::Events(Kind::PredictionLogged),
            date: NaiveDate::from_ymd_opt(2026, 11, 22).unwrap(),
            first: Offset(0),
            end: Offset(4_194_304),
        };
        assert_eq!(
            name.text(),
            "kind=PredictionLogged/date=2026-11-22/00000000000000000000-00000000000004194304.parquet"
        );
    }

    #[test]
    fn other_names_are_not_ours() {
        let ours = "kind=Origin/date=2026-11-22/00000000000000000000-00000000000000000001.parquet";
        assert!(FileName::parse(Path::new(ours)).is_some());
        for theirs in [
            "kind=origin/date=2026-11-22/00000000000000000000-00000000000000000001.parquet",
            "kind=Origin/date=2026-11-2/00000000000000000000-00000000000000000001.parquet",
            "kind=Origin/date=2026-13-22/00000000000000000000-00000000000000000001.parquet",
            "kind=Origin/date=2026-11-22/0-1.parquet",
            "kind=Origin/date=2026-11-22/00000000000000000001-00000000000000000001.parquet",
            "kind=Origin/date=2026-11-22/+0000000000000000000-00000000000000000001.parquet",
            "kind=Origin/date=2026-11-22/00000000000000000000-99999999999999999999.parquet",
            "kind=Origin/00000000000000000000-00000000000000000001.parquet",
            "kind=Origin/date=2026-11-22/x/00000000000000000000-00000000000000000001.parquet",
            "/kind=Origin/date=2026-11-22/00000000000000000000-00000000000000000001.parquet",
            "../kind=Origin/date=2026-11-22/00000000000000000000-00000000000000000001.parquet",
            "part-0.parquet",
            "",
        ] {
            assert_eq!(FileName::parse(Path::new(theirs)), None, "{theirs}");
            assert!(!is_unfinished(Path::new(theirs)), "{theirs}");
        }
        for theirs in [
            "kind=Origin/date=2026-11-22/notes.tmp",
            "kind=Origin/date=2026-11-22/00000000000000000000.tmp",
            ".00000000000000000000.tmp",
        ] {
            assert!(!is_unfinished(Path::new(theirs)), "{theirs}");
        }
    }

    #[test]
    fn days_are_those_of_utc() {
        let day = |text: &str| date_of(Timestamp::parse(text).unwrap()).to_string();
        assert_eq!(day("2026-11-22T23:59:59.999999Z"), "2026-11-22");
        assert_eq!(day("2026-11-23T00:00:00Z"), "2026-11-23");
        assert_eq!(day("2026-11-22T23:30:00-01:00"), "2026-11-23");
        assert_eq!(day("1678-01-01T00:00:00Z"), "1678-01-01");
        assert_eq!(
            date_of(Timestamp::from_micros(i64::MAX)).to_string(),
            "2261-12-31"
        );
    }
}
