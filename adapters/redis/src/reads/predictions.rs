//! Predictions, each with the latest feedback on it.

use modelog_engine::event::EntityKind;
use modelog_engine::names::EntityId;
use modelog_engine::read::cursor::List;
use modelog_engine::read::{Feedback, Key, Page, PageRequest, Prediction, ReadError, VersionKey};
use modelog_engine::stats::LabelFacts;
use modelog_engine::{Offset, Timestamp};

use super::entities::{ShownVersion, Wanted};
use super::replies::Reply;
use super::{NOT_KEPT, RedisReads, read_hash};
use crate::connection::{Commands, command};
use crate::error::RedisError;
use crate::fold::predictions::{Given, Place, parse_place};
use crate::hash::{Hash, parse_float};
use crate::keys::{encoded, of_member};

/// How many members of an index are read at a time, at least.
const MEMBERS_MIN: usize = 64;
/// As many predictions are looked through for statistics of a stretch of time; beyond that they are for SQL.
const STRETCH_MAX: usize = 20_000;

/// A prediction out of its hash.
pub(super) struct Found {
    pub(super) view: Prediction,
    pub(super) complete: bool,
    model: EntityId,
    version: EntityId,
}

/// A prediction in an index.
struct Member {
    place: Place,
    rest: String,
}

impl RedisReads {
    /// The highest place of a version's predictions that are no longer kept.
    async fn left(&self, version: EntityId) -> Result<Option<Place>, RedisError> {
        let mut asked = command("HGET", &self.keys.left());
        asked.arg(version);
        let found = self.one(asked).await?;
        Ok(found.first().text().and_then(parse_place))
    }

    pub(super) async fn list_predictions(
        &self,
        version: &VersionKey,
        request: PageRequest,
    ) -> Result<Option<Page<Prediction>>, ReadError> {
        let Some(wanted) = self.version_number(version).await? else {
            return Ok(None);
        };
        let id = wanted.id;
        let list = List::new("predictions", &id.to_string(), request);
        let after = list.after::<(i64, i64)>()?;
        let after = after.map(|(time, offset)| (time, offset as u64));
        let rows = list.rows() as usize;
        let newest = async { Ok(self.newest(id, after, rows).await?) };
        let found = self.if_shown(self.version_of(wanted), newest).await?;
        let Some((_, (members, left))) = found else {
            return Ok(None);
        };
        let above = |member: &Member| left.is_none_or(|left| member.place > left);
        let kept = members.into_iter().take_while(above).collect::<Vec<_>>();
        // Behind these come those that have left, of which there is one at least.
        let cut = left.is_some() && kept.len() < rows;
        if cut && kept.len() + 1 < rows {
            return Err(NOT_KEPT);
        }
        let found = self.read(&kept, id).await?;
        let items = found.into_iter().map(|found| found.view).collect();
        let key = |last: &Prediction| (last.time.micros(), last.log_offset.0 as i64);
        let mut page = list.page(items, key);
        if cut && let Some(last) = page.items.last() {
            page.next_cursor = Some(list.cursor(&key(last)));
        }
        Ok(Some(page))
    }

    /// Members of a version's index behind a place, newest first: as many as wanted, or all; and the bound of those that
    /// are no longer kept. A bound rises before members go, so it is asked for behind them.
    async fn newest(
        &self,
        version: EntityId,
        after: Option<Place>,
        wanted: usize,
    ) -> Result<(Vec<Member>, Option<Place>), RedisError> {
        let key = self.keys.predictions(version);
        let step = wanted.max(MEMBERS_MIN);
        let mut members = Vec::new();
        let mut turn = 0;
        loop {
            let mut asked = command("ZREVRANGEBYSCORE", &key);
            asked.arg(after.map_or_else(|| "+inf".into(), |(time, _)| time.to_string()));
            asked.arg("-inf").arg("WITHSCORES");
            asked.arg("LIMIT").arg(turn * step).arg(step);
            let mut bound = command("HGET", &self.keys.left());
            bound.arg(version);
            let commands = vec![asked, bound];
            let replies = self.run(commands).await?;
            let mut replies = replies.iter();
            let found = read_members(&key, replies.next().unwrap_or(Reply::Nil))?;
            let left = replies.next().and_then(Reply::text).and_then(parse_place);
            let last = found.len() < step;
            // Those of the same time that come before.
            let behind = found
                .into_iter()
                .filter(|member| after.is_none_or(|after| member.place < after));
            members.extend(behind);
            if last || members.len() >= wanted {
                members.truncate(wanted);
                return Ok((members, left));
            }
            turn += 1;
        }
    }

    /// The predictions of members, all of which must be there.
    async fn read(&self, members: &[Member], version: EntityId) -> Result<Vec<Found>, ReadError> {
        let keys = members
            .iter()
            .map(|member| self.keys.prediction(&member.rest));
        // It expired, was evicted, is not whole in Redis, or has left just now.
        let found = self.hashes(keys.collect(), |hash| read_prediction(&hash));
        let found = found.await?.into_iter().map(Option::flatten);
        let all = found.map(|found| found.filter(|found| found.version == version));
        all.collect::<Option<Vec<_>>>().ok_or(NOT_KEPT)
    }

    /// A version's predictions of a stretch of time, oldest first.
    pub(super) async fn stretch(
        &self,
        version: &ShownVersion,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Vec<Found>, ReadError> {
        let left = self.left(version.id()).await?;
        let first = since.map(Timestamp::micros);
        if left.is_some_and(|(time, _)| first.is_none_or(|first| first <= time)) {
            return Err(NOT_KEPT);
        }
        let key = self.keys.predictions(version.id());
        let mut asked = command("ZRANGEBYSCORE", &key);
        asked.arg(first.map_or_else(|| "-inf".into(), |first| first.to_string()));
        asked.arg(until.map_or_else(|| "+inf".into(), |until| format!("({}", until.micros())));
        asked
            .arg("WITHSCORES")
            .arg("LIMIT")
            .arg(0)
            .arg(STRETCH_MAX + 1);
        let members = read_members(&key, self.one(asked).await?.first())?;
        if members.len() > STRETCH_MAX {
            return Err(NOT_KEPT);
        }
        self.read(&members, version.id()).await
    }

    pub(super) async fn one_prediction(
        &self,
        model: &Key,
        id: &str,
    ) -> Result<Option<Prediction>, ReadError> {
        let Some((named, model)) = self.shown(EntityKind::Model, model).await? else {
            return Ok(None);
        };
        let id = encoded(id);
        let keys = [id.clone(), format!("{id}:{}", named.id)];
        let keys = keys.map(|rest| self.keys.prediction(&rest));
        let mut commands = Commands::default();
        for key in &keys {
            commands.push(command("HGETALL", key));
        }
        commands.push(command("HLEN", &self.keys.left()));
        let replies = self.run(commands).await?;
        let mut replies = replies.iter();
        let mut found = None;
        for key in keys {
            let reply = replies.next().unwrap_or(Reply::Nil);
            // A key that is only claimed holds nothing yet.
            let hash = read_hash(key, reply)?.filter(|hash| hash.get("model_id").is_some());
            if let Some(hash) = hash {
                let read = read_prediction(&hash)?.ok_or(NOT_KEPT)?;
                if read.model == named.id {
                    found = Some(read);
                }
            }
        }
        let lost = replies.next().and_then(Reply::int) > Some(0);
        let Some(found) = found else {
            // It may have left, or expired.
            return if lost || self.config.predictions_ttl.is_some() {
                Err(NOT_KEPT)
            } else {
                Ok(None)
            };
        };
        let left = async {
            match lost {
                true => Ok(self.left(found.version).await?),
                false => Ok(None),
            }
        };
        let version = Wanted::of((named, model), found.version);
        let (left, shown) = tokio::try_join!(left, self.version_of(version))?;
        let place = (found.view.time.micros(), found.view.log_offset.0);
        if left.is_some_and(|left| place <= left) {
            return Err(NOT_KEPT);
        }
        Ok(shown.map(|_| found.view))
    }
}

fn read_members(key: &str, reply: Reply<'_>) -> Result<Vec<Member>, RedisError> {
    let mut parts = reply.list();
    let read = |member: Reply<'_>, score: Option<Reply<'_>>| {
        let (offset, rest) = of_member(member.text()?)?;
        // A score is a number, and comes as one.
        let time = score?.text()?.parse::<f64>().ok()? as i64;
        Some(Member {
            place: (time, offset),
            rest: rest.strip_prefix(':')?.to_owned(),
        })
    };
    let members = std::iter::from_fn(|| Some(read(parts.next()?, parts.next())));
    let members: Option<Vec<Member>> = members.collect();
    members.ok_or_else(|| RedisError::Content {
        key: key.to_owned(),
        what: "a member that is no prediction".into(),
    })
}

/// A prediction; none if its payload was too large for Redis.
fn read_prediction(hash: &Hash<&str>) -> Result<Option<Found>, RedisError> {
    if hash
        .get("omitted")
        .is_some_and(|omitted| !omitted.is_empty())
    {
        return Ok(None);
    }
    let missing = |name: &str| hash.content(format!("no {name}"));
    let needed = |name: &str| hash.text(name).ok_or_else(|| missing(name));
    let mut view = Prediction {
        prediction_id: needed("prediction_id")?,
        model: needed("model")?,
        version: needed("version")?,
        time: hash.time("time")?.ok_or_else(|| missing("time"))?,
        log_offset: Offset(
            hash.number("log_offset")?
                .ok_or_else(|| missing("log_offset"))?,
        ),
        input: hash.json("input")?,
        output: hash.json("output")?,
        predicted_class: hash.text("predicted_class"),
        predicted_value: hash.float("predicted_value")?,
        confidence: hash.float("confidence")?,
        inference_time_ms: hash.float("inference_time_ms")?,
        timings: hash.json("timings")?,
        request_id: hash.text("request_id"),
        trace_id: hash.text("trace_id"),
        session_id: hash.text("session_id"),
        user_id: hash.text("user_id"),
        environment: hash.text("environment"),
        sample_rate: hash.float("sample_rate")?,
        input_tokens: hash.number("input_tokens")?,
        output_tokens: hash.number("output_tokens")?,
        time_to_first_token_ms: hash.float("time_to_first_token_ms")?,
        error: hash.text("error"),
        tags: hash.json("tags")?,
        feedback: None,
    };
    let given = hash.read_as("feedback", |json| serde_json::from_str::<Given>(json).ok())?;
    view.feedback = given
        .map(|given| feedback(given, &view, hash))
        .transpose()?;
    Ok(Some(Found {
        view,
        complete: hash.get("complete") == Some("1"),
        model: hash
            .number("model_id")?
            .ok_or_else(|| missing("model_id"))?,
        version: hash
            .number("version_id")?
            .ok_or_else(|| missing("version_id"))?,
    }))
}

fn feedback(given: Given, view: &Prediction, hash: &Hash<&str>) -> Result<Feedback, RedisError> {
    let number = |text: Option<String>| match text {
        None => Ok(None),
        Some(text) => match parse_float(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(hash.content(format!("{text:?} in its feedback"))),
        },
    };
    let true_value = number(given.true_value)?;
    let facts = LabelFacts::compare(
        given.correct,
        (view.predicted_class.as_ref(), given.true_class.as_ref()),
        (view.predicted_value, true_value),
    );
    let label = given
        .label
        .map(modelog_engine::event::Json::parse)
        .transpose();
    Ok(Feedback {
        true_class: given.true_class,
        true_value,
        correct: facts.correct,
        label: label.map_err(|problem| hash.content(problem.to_string()))?,
        score: number(given.score)?,
        score_name: given.score_name,
        feedback_source: given.feedback_source,
        time: Timestamp::from_micros(given.time),
        log_offset: Offset(given.log_offset),
    })
}
