//! Where a message stands in its stream, and an event in its message: `topic/partition/position#number`.
//!
//! What is left of a message after an event may stand for all of it: then two dots follow the number, and a bracket if
//! it is the rest of an array.

use std::fmt;

/// Where a message stands in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    pub topic: &'a str,
    pub partition: i32,
    /// In Kafka: the offset of the message in its partition.
    pub position: i64,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic,
            partition,
            position,
        } = self;
        write!(f, "{topic}/{partition}/{position}")
    }
}

impl<'a> Place<'a> {
    /// The topic in the position of an `EventRejected`; none if that is no place in a stream. An event whose id another
    /// one has is in a stretch of a partition, `topic/partition/first..next`, which tells a topic too.
    #[must_use]
    pub fn topic_of(position: &'a str) -> Option<&'a str> {
        let position = position
            .split_once(", byte ")
            .map_or(position, |(text, _)| text);
        let (_, last) = position.rsplit_once('/')?;
        let stretch = last
            .split_once("..")
            .filter(|(first, _)| !first.contains('#'));
        let next = stretch.map_or(0, |(_, next)| "..".len() + next.len());
        let first = &position[..position.len() - next];
        Position::parse(first).map(|position| position.place.topic)
    }
}

/// How much of a message was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// An event, by its number.
    Event(u64),
    /// A line and all after it.
    Lines(u64),
    /// An element of an array and all after it.
    Elements(u64),
}

/// What was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position<'a> {
    pub(super) place: Place<'a>,
    pub(super) part: Part,
}

impl fmt::Display for Position<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)?;
        match self.part {
            Part::Whole => Ok(()),
            Part::Event(number) => write!(f, "#{number}"),
            Part::Lines(number) => write!(f, "#{number}.."),
            Part::Elements(number) => write!(f, "#{number}..]"),
        }
    }
}

impl<'a> Position<'a> {
    /// Reads a position as `EventRejected` has it; nothing if it is not that of a message.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let text = text.split_once(", byte ").map_or(text, |(text, _)| text);
        let (place, part) = match text.split_once('#') {
            None => (text, Part::Whole),
            Some((place, part)) => (place, Part::parse(part)?),
        };
        let (place, position) = place.rsplit_once('/')?;
        let (topic, partition) = place.rsplit_once('/')?;
        if topic.is_empty() || topic.chars().any(char::is_control) {
            return None;
        }
        let place = Place {
            topic,
            partition: partition.parse().ok()?,
            position: position.parse().ok()?,
        };
        Some(Self { place, part })
    }
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        if let Some(number) = text.strip_suffix("..]") {
            return number.parse().ok().map(Self::Elements);
        }
        match text.strip_suffix("..") {
            Some(number) => number.parse().ok().map(Self::Lines),
            None => text.parse().ok().map(Self::Event),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_shown() {
        let place = Place {
            topic: "ml-events",
            partition: 3,
            position: 123,
        };
        for (part, text) in [
            (Part::Whole, "ml-events/3/123"),
            (Part::Event(2), "ml-events/3/123#2"),
            (Part::Lines(0), "ml-events/3/123#0.."),
            (Part::Elements(7), "ml-events/3/123#7..]"),
        ] {
            let position = Position { place, part };
            assert_eq!(position.to_string(), text);
            assert_eq!(Position::parse(text), Some(position));
            assert_eq!(Position::parse(&format!("{text}, byte 45")), Some(position));
            assert_eq!(
                Place::topic_of(&format!("{text}, byte 45")),
                Some("ml-events")
            );
        }
        for text in [
            "",
            "line 3, byte 4",
            "byte 4",
            "row 1",
            "t/1",
            "/1/2",
            "t/x/1",
            "t/1/2#",
            "t/1/2#x",
            "t\n/1/2",
        ] {
            assert_eq!(Position::parse(text), None, "{text}");
            assert_eq!(Place::topic_of(text), None, "{text}");
        }
        assert_eq!(Position::parse("t/1/2..9"), None);
        assert_eq!(Place::topic_of("t..t/1/2..9"), Some("t..t"));
    }
}
